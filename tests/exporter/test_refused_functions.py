"""A server that refuses functions, as managed services do: each costs its own columns, never the node."""

import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
from aiohttp.test_utils import TestClient, TestServer

from exporter.app import application
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Node
from pgslot.snapshot import questions
from pgslot.snapshot.model import NodeSnapshot, QueryStatus
from pgslot.snapshot.node import NodeCollector
from pgslot.snapshot.queries import QUERIES
from pgslot.snapshot.refused_functions import REPLACEABLE
from tests.support.scrapes import PRIMARY, STANDBY, Client, Metrics, config_reloader, scrape_until
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import EXPORTER_ROLE, Stack
from tests.support.services.aurora import WRITER
from tests.support.services.imitation import imitated

WITH_RECEIVER = {"pg_last_wal_receive_lsn", "pg_last_wal_replay_lsn", "pg_stat_get_wal_receiver"}
ALL_OK = dict.fromkeys((query.name for query in QUERIES), QueryStatus.OK)


@pytest.fixture(scope="module")
def databases() -> Iterator[Stack]:
    """Servers of this file alone: what they refuse would disturb other tests."""
    with Stack() as stack:
        stack.start_databases()
        yield stack


@asynccontextmanager
async def exporter(stack: Stack) -> AsyncIterator[Client]:
    reloader = config_reloader(stack.primary.conninfo(EXPORTER_ROLE), stack.standby.conninfo(EXPORTER_ROLE))
    async with TestClient(TestServer(application(reloader))) as client:
        yield client


def refused(metrics: Metrics, node: str) -> dict[str, str]:
    """Return function -> status, of what the node refuses."""
    found = metrics.found("pgslot_probe_status", node=node)
    return {labels["probe"]: labels["status"] for labels, value in found if value and labels["probe"][:3] == "pg_"}


@pytest.mark.usefixtures("young_transactions")
async def test_aurora_writer_and_reader_show_slots_creations_and_blockers(databases: Stack) -> None:
    """The writer refuses its position, its WAL directory and the receiver, the reader what it has replayed."""
    primary, standby = databases.primary, databases.standby
    with imitated(primary, WRITER, standby):
        primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('orders', 'pgoutput')")
        primary.sql("SELECT pg_catalog.pg_logical_emit_message(false, 'wal', pg_catalog.repeat('x', 3000000))")
        with primary.hold_transaction("importer"), primary.create_slot("waits"):
            async with exporter(databases) as client:
                metrics = await scrape_until(client, lambda found: found.reasons() == {"waits": "transaction"})
        assert [metrics.value("pgslot_up", node=node) for node in (PRIMARY, STANDBY)] == [1, 1]
        assert refused(metrics, PRIMARY) == {"pg_current_wal_lsn": "unsupported"}
        assert refused(metrics, STANDBY) == dict.fromkeys(WITH_RECEIVER, "unsupported")
        for node in (PRIMARY, STANDBY):
            statuses = {
                query: metrics.state("pgslot_probe_status", "status", node=node, probe=query) for query in ALL_OK
            }
            assert statuses == ALL_OK
        assert metrics.state("pgslot_probe_status", "status", node=PRIMARY, probe="wal_directory") == "unsupported"
        blocker = metrics.labels("pgslot_creation_blocker_age_seconds", slot_name="waits")
        assert blocker["application_name"] == "importer"
        assert (metrics.value("pgslot_retained_wal_bytes", slot_name="orders") or 0) > 3_000_000
        assert metrics.state("pgslot_retention_cause", "cause", slot_name="orders") == "inactive"
        assert metrics.value("pgslot_wal_written_bytes_total", node=PRIMARY)
        for node, role in ((PRIMARY, "primary"), (STANDBY, "standby")):
            info = metrics.labels("pgslot_node_info", node=node)
            assert (info["role"], info["service"]) == (role, "aurora")
        for unknown in (
            "pgslot_wal_written_bytes_total",
            "pgslot_wal_receiver_streaming",
            "pgslot_wal_replay_lag_bytes",
        ):
            assert metrics.value(unknown, node=STANDBY) is None
        assert metrics.value("pgslot_wal_replay_paused", node=STANDBY) == 0
        # The standby that streams may be the configured one, which does not say so.
        assert not metrics.value("pgslot_unlisted_standbys", node=PRIMARY)
    primary.drop_slot("waits")
    primary.drop_slot("orders")


async def collect(collector: NodeCollector) -> NodeSnapshot:
    return await collector.collect(10)


def revoke(primary: Postgres, *functions: str) -> None:
    for name in functions:
        primary.sql(f"REVOKE EXECUTE ON FUNCTION pg_catalog.{name}() FROM PUBLIC")


def grant(primary: Postgres, *functions: str) -> None:
    for name in functions:
        primary.sql(f"GRANT EXECUTE ON FUNCTION pg_catalog.{name}() TO PUBLIC")


@pytest.mark.parametrize("name", [function.name for function in REPLACEABLE])
async def test_each_function_that_is_denied_costs_no_query(
    databases: Stack, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Asked of the primary and of the standby: where a query calls it, it is named; and all queries answer."""
    functions = ("pg_current_wal_lsn", name) if name == "pg_current_wal_insert_lsn" else (name,)
    revoke(databases.primary, *functions)
    signature = f"pg_catalog.{name}()"
    denied = f"SELECT NOT pg_catalog.has_function_privilege('{EXPORTER_ROLE}', '{signature}', 'EXECUTE')"
    wait_for(lambda: databases.standby.sql(denied) == [(True,)], "the standby has replayed it")
    try:
        for server in (databases.primary, databases.standby):
            collector = NodeCollector(Node("c", server.name, Conninfo(server.conninfo(EXPORTER_ROLE))), "refused")
            try:
                for _ in range(2):
                    snapshot = await collect(collector)
                    assert snapshot.statuses == ALL_OK
                    assert snapshot.refused == dict.fromkeys(functions, QueryStatus.PERMISSION_DENIED)
            finally:
                await collector.close()
        assert len([record for record in caplog.records if record.levelno == logging.WARNING]) == 2 * len(functions)
    finally:
        grant(databases.primary, *functions)


async def test_without_any_position_sizes_are_absent_and_the_cause_is_unknown(databases: Stack) -> None:
    """A writer that says nowhere how far its WAL goes: what does not depend on it stays."""
    primary = databases.primary
    functions = ("pg_current_wal_lsn", "pg_current_wal_insert_lsn")
    revoke(primary, *functions)
    collector = NodeCollector(Node("c", "n", Conninfo(primary.conninfo(EXPORTER_ROLE))), "refused")
    try:
        primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('orders', 'pgoutput')")
        snapshot = await collect(collector)
        slot = snapshot.slot("orders")
        assert slot is not None
        assert snapshot.facts is not None
        assert (slot.retained_wal_bytes, slot.unconfirmed_wal_bytes, snapshot.facts.wal_written_bytes) == (None,) * 3
        assert slot.restart_position is not None
        assert slot.pinned_wal_bytes is not None
        assert slot.wal_status == "reserved"
    finally:
        await collector.close()
        grant(primary, *functions)
        primary.drop_slot("orders")


async def test_function_that_is_granted_again_is_used_again(
    databases: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    primary = databases.primary
    revoke(primary, "pg_current_wal_lsn")
    collector = NodeCollector(Node("c", "n", Conninfo(primary.conninfo(EXPORTER_ROLE))), "refused")
    try:
        assert (await collect(collector)).refused == {"pg_current_wal_lsn": QueryStatus.PERMISSION_DENIED}
        grant(primary, "pg_current_wal_lsn")
        assert (await collect(collector)).refused
        monkeypatch.setattr(questions, "REFUSAL_SECONDS", 0)
        assert (await collect(collector)).refused == {}
        assert caplog.records[-1].getMessage() == "the server no longer refuses the function"
    finally:
        await collector.close()
        grant(primary, "pg_current_wal_lsn")
