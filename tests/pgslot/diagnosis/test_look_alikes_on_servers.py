"""What looks like a guilty consumer, an unused slot, a long wait or a dead server, and is not: on real servers."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
from aiohttp.test_utils import TestClient, TestServer

from exporter.app import application
from pgslot.diagnosis import retention
from tests.support.scrapes import PRIMARY, Client, Metrics, config_reloader, probe_status, scrape, scrape_until
from tests.support.servers.processes import wait_for
from tests.support.servers.sessions import Statement
from tests.support.servers.stack import EXPORTER_ROLE, Stack
from tests.support.servers.workload import streaming_consumer, write_wal

SYNC_SLOTS = "SELECT slot_name::text FROM pg_catalog.pg_replication_slots WHERE slot_name ~ '_sync_'"
HELD_UP_SUBSCRIBER = (
    "CREATE TABLE large (n int)",
    "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql"
    " AS 'BEGIN PERFORM pg_catalog.pg_advisory_xact_lock(1); RETURN NEW; END'",
    "CREATE TRIGGER wait BEFORE INSERT ON large FOR EACH ROW EXECUTE FUNCTION wait()",
    "ALTER TABLE large ENABLE ALWAYS TRIGGER wait",
    "SELECT pg_catalog.pg_advisory_lock(1)",
)
"""A table that takes no row before this session gives up its lock."""


@pytest.fixture
async def client(databases: Stack) -> AsyncIterator[Client]:
    reloader = config_reloader(databases.primary.conninfo(EXPORTER_ROLE))
    async with TestClient(TestServer(application(reloader))) as started:
        yield started


def cause(metrics: Metrics, slot: str) -> str | None:
    return metrics.state("pgslot_retention_cause", "cause", slot_name=slot)


async def test_creation_late_in_a_long_statement_has_waited_since_it_began(client: Client, databases: Stack) -> None:
    """The server shows when the statement began."""
    statement = (
        "DO $$ BEGIN PERFORM pg_catalog.pg_sleep(8);"
        " PERFORM pg_catalog.pg_create_logical_replication_slot('late', 'pgoutput'); END $$"
    )
    with databases.primary.hold_transaction(), Statement(databases.primary.conninfo(), statement):
        metrics = await scrape_until(client, lambda metrics: metrics.reasons() == {"late": "transaction"}, timeout=30)
        waited = metrics.value("pgslot_creation_wait_seconds", slot_name="late")
        assert waited is not None
        assert waited < 4
    databases.primary.drop_slot("late")


async def test_server_whose_databases_are_locked_is_up(client: Client, databases: Stack) -> None:
    """No session can begin, and what names databases has no answer; the kept connection shows that it lives."""
    await scrape(client)
    with databases.primary.lock("pg_catalog.pg_database"):
        metrics = Metrics(await scrape(client, timeout=4))
    assert metrics.value("pgslot_up", node=PRIMARY) == 1
    statuses = {probe: probe_status(metrics.series, PRIMARY, probe) for probe in ("node", "slots", "transactions")}
    assert statuses == {"node": "ok", "slots": "timeout", "transactions": "timeout"}
    assert metrics.value("pgslot_replication_slots", node=PRIMARY) == 1


async def test_slot_of_a_running_table_copy_is_not_inactive(client: Client, databases: Stack) -> None:
    """The subscription's worker releases the slot before it copies, and uses it again when it has copied."""
    primary = databases.primary
    primary.sql("CREATE DATABASE copied")
    primary.sql("CREATE TABLE large AS SELECT n FROM generate_series(1, 10) AS n")
    primary.sql("CREATE PUBLICATION large FOR TABLE large")
    primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('copies', 'pgoutput')")
    with psycopg.connect(primary.conninfo(dbname="copied"), autocommit=True) as subscriber:
        for statement in HELD_UP_SUBSCRIBER:
            subscriber.execute(statement.encode())
        subscriber.execute(
            f"CREATE SUBSCRIPTION copies CONNECTION '{primary.conninfo()}' PUBLICATION large"
            " WITH (create_slot = false, slot_name = 'copies')".encode()
        )
        released = f"{SYNC_SLOTS} AND NOT active AND confirmed_flush_lsn IS NOT NULL"
        [(slot,)] = wait_for(lambda: primary.sql(released), "the table is being copied", 30)
        # The slot of a table copy has series only while it holds back much.
        write_wal(primary)
        await scrape_until(client, lambda metrics: cause(metrics, slot) == "table_copy")
        subscriber.execute("SELECT pg_catalog.pg_advisory_unlock(1)")
        wait_for(lambda: not primary.sql(SYNC_SLOTS), "the table is copied", 30)
        for change in ("DISABLE", "SET (slot_name = NONE)"):
            subscriber.execute(f"ALTER SUBSCRIPTION copies {change}".encode())
        subscriber.execute("DROP SUBSCRIPTION copies")
    primary.drop_slot("copies")
    for dropped in ("PUBLICATION large", "TABLE large", "DATABASE copied"):
        primary.sql(f"DROP {dropped}")


async def test_consumer_is_not_blamed_for_a_large_transaction_that_is_being_decoded(
    client: Client, databases: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The walsender reads the transaction back from disk, and has nothing else for its consumer meanwhile."""
    monkeypatch.setattr(retention, "CONFIRM_SECONDS", 1.0)
    primary = databases.primary
    primary.sql("ALTER SYSTEM SET logical_decoding_work_mem = '64kB'")
    primary.sql("SELECT pg_catalog.pg_reload_conf()")
    primary.sql("CREATE TABLE bulk (n int, filler text)")
    shown: list[str | None] = []
    with streaming_consumer(primary, "decodes", tmp_path) as process:
        await scrape(client)
        primary.sql("INSERT INTO bulk SELECT n, pg_catalog.repeat('x', 100) FROM generate_series(1, 500000) AS n")
        end = primary.lsn()
        while True:
            metrics = Metrics(await scrape(client))
            shown.append(cause(metrics, "decodes"))
            [(confirmed,)] = primary.sql(
                "SELECT pg_catalog.pg_wal_lsn_diff(confirmed_flush_lsn, '0/0')::int8"
                " FROM pg_catalog.pg_replication_slots WHERE slot_name = 'decodes'"
            )
            if confirmed >= end:
                break
            await asyncio.sleep(0.2)
        assert process.running
    assert "decoding" in shown, shown
    # Once all is sent, it is the consumer's turn, which here has a second in place of a minute and a half.
    last = max(i for i, shown_cause in enumerate(shown) if shown_cause == "decoding")
    assert "consumer" not in shown[:last], shown
    primary.sql("DROP TABLE bulk")
    primary.sql("ALTER SYSTEM RESET logical_decoding_work_mem")
    primary.sql("SELECT pg_catalog.pg_reload_conf()")
