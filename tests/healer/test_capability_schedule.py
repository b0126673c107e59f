"""When the healer checks whether it could act on each cluster."""

import asyncio
import time

from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, HealerConfig, Node
from tests.support.running_healer import healing


async def test_capability_checks_are_spread_over_the_minute() -> None:
    """The healer does not connect to 300 clusters at once."""
    connected_at: list[float] = []

    async def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connected_at.append(time.monotonic())
        writer.close()

    async with await asyncio.start_server(accepted, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        conninfo = Conninfo(f"host=127.0.0.1 port={port} dbname=x user=x")
        target = HealerConfig(conninfo, enabled=True, dry_run=False)
        clusters = [Cluster(f"c{i}", (Node(f"c{i}", "n", conninfo),), target) for i in range(300)]
        started = time.monotonic()
        async with healing(*clusters):
            await asyncio.sleep(2.0)
            spent = time.monotonic() - started
    # Two connections for each cluster: the second finds out whether the address answers at all.
    assert 2 <= len(connected_at) <= 2 * (spent / 0.2 + 2)
