"""A reload between the start of a scrape and its queries costs no cluster that was configured when it began."""

import asyncio

from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Node
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.model import QueryStatus

REFUSED = Conninfo("host=127.0.0.1 port=1 user=x")


async def test_reload_that_removes_a_cluster_as_a_scrape_begins_is_not_an_error() -> None:
    first, second = (Cluster(name, (Node(name, "n", REFUSED),), None) for name in ("first", "second"))
    collector = ClusterCollector([first, second], "reload")
    scrape = asyncio.create_task(collector.collect_all(2.0))
    # The scrape's own task runs before this callback, and those that it starts after it.
    asyncio.get_running_loop().call_soon(collector.reconfigure, [second])
    try:
        snapshots = await scrape
    finally:
        await collector.close()
    assert [snapshot.cluster for snapshot in snapshots] == ["first", "second"]
    assert {node.statuses["node"] for snapshot in snapshots for node in snapshot.nodes} == {QueryStatus.UNREACHABLE}
