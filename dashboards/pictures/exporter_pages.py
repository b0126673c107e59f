"""
Writes the exporter's pages of a small incident on real servers, as a browser gets them: all slots, and one slot.

`python -m dashboards.pictures.exporter_pages landing.html slot.html`; `draw.mjs` turns that into pictures. The hour
before is made up: a server's hour takes an hour.
"""

import asyncio
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from exporter.held_wal import REMEMBERED_SECONDS, SPACING_SECONDS
from exporter.landing import landing
from exporter.latest_look import ClusterLook, LatestLook
from exporter.slot_evidence import slot_evidence
from exporter.slot_page import slot_page
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerSettings, Node
from pgslot.exposition.cache import RenderCache
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.status.growth import HeldSample
from tests.support.servers.stack import EXPORTER_ROLE, Stack
from tests.support.servers.workload import steady_writes, write_wal

NAME = "orders"
INACTIVE = "debezium_orders"
WATCHED_SECONDS = 75.0
"""So long that a slot without a consumer is no longer one that its consumer has just left, and growth is a trend."""
BUSY_SECONDS = 2400.0
"""How long the slot has grown in the hour that is made up."""


async def pages_of_an_incident() -> tuple[str, str]:
    with Stack() as stack:
        await asyncio.to_thread(stack.start_databases)
        names = {f"{NAME}-1": stack.primary, f"{NAME}-2": stack.standby}
        nodes = tuple(Node(NAME, name, Conninfo(server.conninfo(EXPORTER_ROLE))) for name, server in names.items())
        cluster = Cluster(NAME, nodes, None)
        collector = ClusterCollector([cluster], "pg_slot_exporter", 1.0)
        try:
            with ExitStack() as incident:
                await asyncio.to_thread(_begin, stack, incident)
                look = await _watched(LatestLook(collector), cluster)
        finally:
            await collector.close()
    page = landing(Config((cluster,), HealerSettings()), [look], lifecycle=False)
    slot = next(slot for slot in look.slots if slot.slot_name == INACTIVE)
    evidence = slot_evidence(look.snapshot, slot, RenderCache())
    return page, slot_page(look, slot, [*_hour_before(slot.held_bytes or 0)], evidence)


def _begin(stack: Stack, incident: ExitStack) -> None:
    primary = stack.primary
    primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput')", [INACTIVE])
    write_wal(primary, 300_000_000)
    incident.enter_context(primary.hold_transaction(application_name="nightly_report"))
    incident.enter_context(primary.create_slot("airbyte_orders"))
    incident.enter_context(stack.standby.create_slot("electric_slot_default"))
    incident.enter_context(steady_writes(primary, 1, 40_000))


async def _watched(latest: LatestLook, cluster: Cluster) -> ClusterLook:
    """Return the last look after some time, as if nobody scraped."""
    end = time.monotonic() + WATCHED_SECONDS
    while True:
        look = await latest.cluster(cluster)
        if time.monotonic() > end:
            return look
        await asyncio.sleep(5)


def _hour_before(held_bytes: int) -> Iterator[HeldSample]:
    """Yield an hour that ends with this size: a consumer that confirms every few minutes, and then is gone."""
    least = 2_000_000
    for index in range(round(REMEMBERED_SECONDS / SPACING_SECONDS) + 1):
        at = index * SPACING_SECONDS
        gone = at - (REMEMBERED_SECONDS - BUSY_SECONDS)
        grown = gone / BUSY_SECONDS * (held_bytes - least) if gone > 0 else index % 6 * 2_500_000
        yield HeldSample(at, round(least + grown))


if __name__ == "__main__":
    for file, text in zip(sys.argv[1:3], asyncio.run(pages_of_an_incident()), strict=True):
        Path(file).write_text(text, "utf-8")
