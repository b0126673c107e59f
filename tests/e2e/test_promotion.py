"""After a real promotion, slots that were shown ready continue without loss, and slots shown unready are gone."""

import asyncio
import itertools
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from aiohttp.test_utils import TestClient, TestServer

from exporter.app import application
from pgslot.diagnosis.failover_readiness import FIRST_MAJOR
from pgslot.snapshot.queries import SUPPORTED
from tests.support.failover_slots import (
    advance_horizon,
    copied,
    create_failover_slot,
    persistent,
    read_all,
    read_until_persistent,
    synchronise,
)
from tests.support.scrapes import PRIMARY as OLD
from tests.support.scrapes import STANDBY as NEW
from tests.support.scrapes import Client, Metrics, config_reloader, scrape, scrape_until
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import Process, wait_for
from tests.support.servers.stack import EXPORTER_ROLE, Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

STREAMS = "streams"


@pytest.fixture(params=[major for major in SUPPORTED if major >= FIRST_MAJOR])
def databases(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Replaces the session's fixture, which would lose its primary."""
    with Stack(major=request.param) as stack:
        stack.start_databases()
        yield stack


@pytest.fixture(autouse=True)
def _no_leftovers() -> None:
    """Replaces the cleanup of the session's servers: these stop with the test."""


@pytest.fixture
async def client(databases: Stack) -> AsyncIterator[Client]:
    nodes = (server.conninfo(EXPORTER_ROLE) for server in (databases.primary, databases.standby))
    async with TestClient(TestServer(application(config_reloader(*nodes)))) as test_client:
        yield test_client


@contextmanager
def streaming(server: Postgres, file: Path) -> Iterator[None]:
    """Run a consumer of an existing slot, which writes the changes that it receives to the file."""
    program = server.binaries.tools / "pg_recvlogical"
    arguments = ["--start", f"--slot={STREAMS}", "--file=-", "--status-interval=1", "--fsync-interval=1", "--no-loop"]
    process = Process([program, f"--dbname={server.conninfo()}", *arguments], file)
    process.start()
    in_use = "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = %s AND active"
    wait_for(lambda: server.sql(in_use, [STREAMS]), "it streams", log=file)
    try:
        yield
    finally:
        process.stop()


def received(file: Path) -> set[int]:
    """Return the ids of the received rows, without a last line that is still being written."""
    whole = file.read_text("utf-8", "replace").rpartition("\n")[0]
    return {int(number) for number in re.findall(r"public\.orders: INSERT: id\[integer\]:(\d+) ", whole)}


def insert_until_disconnected(server: Postgres) -> None:
    """Insert rows, one per transaction, until the connection breaks."""
    with suppress(psycopg.OperationalError), psycopg.connect(server.conninfo(), autocommit=True) as session:
        for number in itertools.count(1):
            session.execute("INSERT INTO orders VALUES (%s, 'item')", [number])


def unready_reasons(metrics: Metrics) -> dict[str, str | None]:
    """Return for each failover slot why the metrics show it as not ready; None if it is ready."""
    reasons = {
        labels["slot_name"]: metrics.state("pgslot_failover_unready_reason", "reason", slot_name=labels["slot_name"])
        for labels, _ in metrics.found("pgslot_failover_ready")
    }
    for labels, value in metrics.found("pgslot_failover_ready"):
        assert value == (reasons[labels["slot_name"]] is None)
    return reasons


def usable(server: Postgres) -> set[str]:
    """Return the failover slots that survived the promotion, by the condition in PostgreSQL's documentation."""
    rows = server.sql(
        "SELECT slot_name FROM pg_catalog.pg_replication_slots"
        " WHERE failover AND synced AND NOT temporary AND invalidation_reason IS NULL"
    )
    return {name for (name,) in rows}


def force(server: Postgres) -> bool:
    server.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
    return True


async def lose_the_primary(databases: Stack, client: Client, file: Path, expected: dict[str, str | None]) -> None:
    """Kill the primary while it writes and a consumer streams; the metrics just before show the expected reasons."""
    primary, standby = databases.primary, databases.standby
    # This keeps consumers from being ahead of the standby at the moment when the primary is lost.
    primary.sql("ALTER SYSTEM SET synchronized_standby_slots = 'standby'")
    primary.sql("SELECT pg_catalog.pg_reload_conf()")
    writer = threading.Thread(target=insert_until_disconnected, args=[primary])
    with streaming(primary, file):
        await asyncio.to_thread(
            wait_for, lambda: force(primary) and persistent(standby, STREAMS), "a copy is ready", 60
        )
        await scrape_until(client, lambda metrics: unready_reasons(metrics) == expected, timeout=60)
        writer.start()
        await asyncio.to_thread(wait_for, lambda: len(received(file)) > 100, "rows are received")
        reasons = unready_reasons(Metrics(await scrape(client)))
        primary.kill()
    writer.join()
    assert reasons == expected
    standby.promote()


async def check_no_loss(databases: Stack, before: Path, after: Path) -> None:
    """Check that the consumer has received exactly the rows of the new primary, from before and after the promotion."""
    promoted = databases.standby
    [(last,)] = promoted.sql("SELECT max(id) FROM orders")
    with streaming(promoted, after):
        promoted.sql(
            "INSERT INTO orders SELECT n, 'later' FROM generate_series(%s::int, %s) AS n", [last + 1, last + 50]
        )
        await asyncio.to_thread(wait_for, lambda: last + 50 in received(after), "the consumer goes on")
    rows = {number for (number,) in promoted.sql("SELECT id FROM orders")}
    assert received(before) | received(after) == rows
    assert len(rows) > 150


async def test_ready_slots_survive_a_promotion_and_temporary_copies_do_not(
    databases: Stack, client: Client, tmp_path: Path
) -> None:
    primary, standby = databases.primary, databases.standby
    for slot in (STREAMS, "polled", "caught_up"):
        create_failover_slot(primary, slot)
    primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('no_failover', 'test_decoding')")
    advance_horizon(primary, standby)
    synchronise(standby)
    wait_for(lambda: copied(standby, "polled"), "it is copied")
    read_all(primary, "caught_up")
    expected = {STREAMS: None, "caught_up": None, "polled": "not_persisted"}
    await lose_the_primary(databases, client, tmp_path / "before", expected)
    names = standby.sql("SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE slot_type = 'logical'")
    assert {name for (name,) in names} == {STREAMS, "caught_up"} == usable(standby)
    with pytest.raises(psycopg.errors.UndefinedObject):
        standby.sql("SELECT pg_catalog.pg_logical_slot_peek_changes('polled', NULL, NULL)")
    await check_no_loss(databases, tmp_path / "before", tmp_path / "after")
    standby.sql("SELECT count(*) FROM pg_catalog.pg_logical_slot_get_changes('caught_up', NULL, NULL)")


async def test_name_clash_leaves_later_slots_unsynchronised(databases: Stack, client: Client, tmp_path: Path) -> None:
    """A slot copied before the clash survives; the slot whose name is taken, and slots created later, are gone."""
    primary, standby = databases.primary, databases.standby
    create_failover_slot(primary, STREAMS)
    synchronise(standby)
    wait_for(lambda: copied(standby, STREAMS), "it is copied")
    with standby.create_slot("a_taken") as creator:
        while not creator.wait(0.5):
            force(primary)
    with streaming(primary, tmp_path / "first"):
        await asyncio.to_thread(
            wait_for, lambda: force(primary) and persistent(standby, STREAMS), "a copy is ready", 60
        )
    create_failover_slot(primary, "a_taken")
    create_failover_slot(primary, "made_later")
    expected = {STREAMS: None, "a_taken": "name_clash", "made_later": "worker_down"}
    await lose_the_primary(databases, client, tmp_path / "before", expected)
    assert usable(standby) == {STREAMS}
    await check_no_loss(databases, tmp_path / "before", tmp_path / "after")


async def test_slot_kept_by_a_demoted_primary_blocks_synchronisation(databases: Stack, client: Client) -> None:
    """After a switchover the new primary has the former copy of the slot, and the old primary has kept its own."""
    old, new = databases.primary, databases.standby
    create_failover_slot(old, "kept")
    synchronise(new)
    wait_for(lambda: copied(new, "kept"), "it is copied")
    read_all(old, "kept")
    wait_for(lambda: persistent(new, "kept"), "a copy is ready", 60)
    await scrape_until(client, lambda metrics: unready_reasons(metrics) == {"kept": None}, timeout=60)
    old.stop()
    new.promote()
    new.sql("SELECT pg_catalog.pg_create_physical_replication_slot('primary', true)")
    old.demote(new)
    synchronise(old)
    create_failover_slot(new, "made_later")
    # The slot sync worker stops at the first clash, so it does not copy the slots that follow either.
    metrics = await scrape_until(
        client, lambda metrics: unready_reasons(metrics).get("kept") == "name_clash", timeout=60
    )
    assert metrics.value("pgslot_failover_ready", slot_name="kept", node=OLD) == 0
    assert metrics.found("pgslot_failover_ready", node=NEW) == []
    old.drop_slot("kept")
    for slot in ("kept", "made_later"):
        await asyncio.to_thread(read_until_persistent, new, old, slot)
    await scrape_until(
        client, lambda metrics: unready_reasons(metrics) == {"kept": None, "made_later": None}, timeout=60
    )
