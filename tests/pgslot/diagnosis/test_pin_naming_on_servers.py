"""An innocent transaction is never named, whatever the exporter has seen: on a real server, by two exporters."""

import asyncio
import time
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack
from pathlib import Path

import psycopg
from aiohttp.test_utils import TestClient, TestServer

from exporter.app import application
from tests.support.running_healer import PATIENCE, impatient
from tests.support.scrapes import Client, Metrics, config_reloader, scrape
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import EXPORTER_ROLE, Stack
from tests.support.servers.workload import confirmed_all, streaming_consumer, write_wal

BLOCKER, CANDIDATE = "pgslot_retention_blocker_age_seconds", "pgslot_retention_candidate_age_seconds"
SLOT = "pinned"


def applications(metrics: Metrics, name: str) -> set[str]:
    return {labels["application_name"] for labels, _ in metrics.found(name, slot_name=SLOT)}


def log_record(primary: Postgres) -> None:
    primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
    wait_for(confirmed_all(primary, SLOT), "the consumer has confirmed the record")


async def watch(
    primary: Postgres, client: Client, condition: Callable[[Metrics], bool], never: AbstractSet[str] = frozenset()
) -> Metrics:
    """Scrape while the server writes and logs records, until the condition holds; `never`: who must not be named."""
    for _ in range(40):
        metrics = Metrics(await scrape(client))
        assert not applications(metrics, BLOCKER) & never
        if condition(metrics):
            return metrics
        write_wal(primary, 1_000_000)
        log_record(primary)
        await asyncio.sleep(0.5)
    raise AssertionError({name: metrics.found(name) for name in (BLOCKER, CANDIDATE, "pgslot_retention_cause")})


def named(*names: str) -> Callable[[Metrics], bool]:
    return lambda metrics: applications(metrics, BLOCKER) == set(names)


def candidates(*names: str) -> Callable[[Metrics], bool]:
    return lambda metrics: applications(metrics, CANDIDATE) == set(names)


async def test_restarted_exporter_names_nobody_that_it_has_no_proof_against(databases: Stack, tmp_path: Path) -> None:
    """The older xid belongs to a write into an unlogged table: nothing of it is decoded, and it pins nothing."""
    primary = databases.primary
    primary.sql("CREATE UNLOGGED TABLE stage (n int)")
    primary.sql("CREATE TABLE written (n int)")
    async with AsyncExitStack() as exporters:

        async def started() -> Client:
            reloader = config_reloader(primary.conninfo(EXPORTER_ROLE))
            return await exporters.enter_async_context(TestClient(TestServer(application(reloader))))

        with (
            impatient(),
            primary.no_records_by_itself(),
            streaming_consumer(primary, SLOT, tmp_path),
            psycopg.connect(primary.conninfo(), application_name="innocent_etl") as innocent,
            psycopg.connect(primary.conninfo(), application_name="guilty") as guilty,
        ):
            innocent.execute("INSERT INTO stage VALUES (1)")
            watching = await started()
            for _ in range(3):
                log_record(primary)
                await scrape(watching)
                await asyncio.sleep(0.5)
            guilty.execute("INSERT INTO written VALUES (1)")
            write_wal(primary, 40_000_000)
            await watch(primary, watching, named("guilty"), never={"innocent_etl"})
            assert candidates("guilty")(Metrics(await scrape(watching)))

            restarted = await started()
            await watch(primary, restarted, candidates("innocent_etl", "guilty"), never={"innocent_etl", "guilty"})
            # Both say what is true: one knows who it is, the other who it may be. After the pause in its scrapes, the
            # first may have to wait for one more confirmation.
            await watch(primary, watching, named("guilty"), never={"innocent_etl"})
            since = time.monotonic()
            later = lambda _: time.monotonic() - since > 3 * PATIENCE  # noqa: E731
            assert candidates("innocent_etl", "guilty")(await watch(primary, restarted, later, never={"guilty"}))

            innocent.rollback()
            await watch(primary, restarted, named("guilty"), never={"innocent_etl"})
            guilty.rollback()
            for exporter in (watching, restarted):
                metrics = await watch(primary, exporter, named())
                assert candidates()(metrics)
    primary.sql("DROP TABLE stage, written")
