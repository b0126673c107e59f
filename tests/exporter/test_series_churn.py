"""Series are calm: what comes and goes within seconds leaves none behind, and what stays is shown and named rightly."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from aiohttp.test_utils import TestClient, TestServer

from exporter.app import application
from exporter.catalogue import CATALOGUE
from exporter.series import cluster_series
from pgslot.diagnosis.retention import RetentionCause, diagnose_retention
from pgslot.diagnosis.short_lived import REPORTED_AFTER_SECONDS
from pgslot.exposition.families import families
from pgslot.exposition.text_format import render_families
from pgslot.snapshot.history import History
from pgslot.snapshot.rows import Slot
from tests.support.builders.retention import HERE, NOW, QUIET
from tests.support.builders.snapshots import CREATION, SLOT, TRANSACTION, cluster, node
from tests.support.running_healer import until
from tests.support.scrapes import Client, config_reloader, scrape
from tests.support.servers.postgres import Postgres
from tests.support.servers.stack import EXPORTER_ROLE, Stack
from tests.support.servers.workload import confirmed_all, streaming_consumer, write_wal

MEBIBYTE = 1024 * 1024
SYNC_SLOT = "pg_16394_sync_16385_7427463894567342341"


REPACK = {"slot_name": "pg_repack_4959", "temporary": True, "plugin": "pgrepack"}
"""The slot of a REPACK (CONCURRENTLY), as 19rc1 shows it; clients can create slots of this name as well."""


def page(**rows: Any) -> str:
    series = cluster_series(cluster(node("p", recovery=False, **rows)))
    return b"".join(render_families(families(series, CATALOGUE), openmetrics=False)).decode()


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({}, True),
        ({"temporary": True}, False),
        ({"temporary": True, "slot_type": "physical", "slot_name": "pg_basebackup_77"}, False),
        ({"temporary": True, "retained_wal_bytes": 17 * MEBIBYTE}, True),
        ({"temporary": True, "retained_wal_bytes": None, "wal_status": "lost"}, True),
        ({"temporary": True, "synced": True}, True),
        ({"slot_name": SYNC_SLOT}, False),
        ({"slot_name": SYNC_SLOT, "retained_wal_bytes": 17 * MEBIBYTE}, True),
        ({"slot_name": "pg_customers_sync_1"}, True),
        (REPACK, False),
        (REPACK | {"retained_wal_bytes": 17 * MEBIBYTE}, False),
        (REPACK | {"retained_wal_bytes": None, "wal_status": "lost"}, False),
        (REPACK | {"temporary": False, "plugin": "pgoutput"}, True),
    ],
)
def test_short_lived_slot_has_no_series(changed: dict[str, Any], shown: bool) -> None:
    assert ("pgslot_slot_info" in page(slots=(SLOT._replace(**changed),))) is shown


@pytest.mark.parametrize(
    ("name", "waits", "shown"), [("cdc", 1.0, True), (SYNC_SLOT, 1.0, False), (SYNC_SLOT, REPORTED_AFTER_SECONDS, True)]
)
def test_creation_of_a_short_lived_slot_is_shown_once_it_waits(name: str, waits: float, shown: bool) -> None:
    slot = SLOT._replace(slot_name=name, in_creation=True)
    text = page(slots=(slot,), creations=(replace(CREATION, slot_name=name, wait_seconds=waits),))
    assert ("pgslot_creation_wait_seconds{" in text) is shown
    assert 'pgslot_creations_waiting{cluster="c",node="p"} 1' in text


@pytest.mark.parametrize(
    ("age", "shown"), [(REPORTED_AFTER_SECONDS - 0.1, False), (REPORTED_AFTER_SECONDS, True), (None, True)]
)
def test_transaction_is_named_once_it_is_old_enough(age: float | None, shown: bool) -> None:
    young = replace(TRANSACTION, age_seconds=age)
    creation = replace(CREATION, blocking_pids=[200])
    text = page(transactions=(young,), creations=(creation,))
    assert ("pgslot_oldest_transaction_info{" in text) is shown
    assert ("pgslot_oldest_xid_transaction_age_seconds{" in text) is (shown and age is not None)
    assert ("pgslot_creation_blocker_age_seconds{" in text) is (shown and age is not None)
    # What has no label of its own is counted from the first moment on.
    assert 'pgslot_transactions{cluster="c",node="p",kind="xid"} 1' in text


@pytest.mark.parametrize("backend_type", ["client backend", "walsender", "autovacuum worker", "prepared"])
def test_blocker_is_labelled_with_its_backend_type(backend_type: str) -> None:
    blocker = replace(TRANSACTION, backend_type=backend_type)
    text = page(transactions=(blocker,), creations=(replace(CREATION, blocking_pids=[200]),))
    [line] = [line for line in text.splitlines() if line.startswith("pgslot_creation_blocker_age_seconds{")]
    assert (f',backend_type="{backend_type}",' in line, ",kind=" in line) == (True, False)


def test_transaction_with_the_oldest_xid_is_named_with_its_own_age() -> None:
    first = replace(TRANSACTION, pid=1, age_seconds=900.0, xid=800, xid_age=10, oldest_xid=False)
    pins = replace(TRANSACTION, pid=2, age_seconds=60.0, xid=700, xid_age=110, oldest_start=False)
    lines = page(transactions=(first, pins)).splitlines()
    [oldest] = [line for line in lines if line.startswith("pgslot_oldest_xid_transaction_age_seconds{")]
    assert ('pid="2"' in oldest, oldest.endswith(" 60.0")) == (True, True)

    assert 'pgslot_oldest_transaction_age_seconds{cluster="c",node="p",kind="xid"} 900.0' in lines


PHYSICAL = SLOT._replace(
    slot_type="physical", database="", plugin="", unconfirmed_wal_bytes=None, pinned_wal_bytes=None
)


@pytest.mark.parametrize(
    ("slot", "cause"),
    [
        (PHYSICAL._replace(retained_wal_bytes=17 * MEBIBYTE), RetentionCause.CONSUMER),
        (PHYSICAL._replace(retained_wal_bytes=15 * MEBIBYTE), RetentionCause.NONE),
        (PHYSICAL._replace(retained_wal_bytes=17 * MEBIBYTE, active=False), RetentionCause.INACTIVE),
        (PHYSICAL._replace(retained_wal_bytes=None, wal_status="lost"), RetentionCause.INVALIDATED),
    ],
)
def test_physical_slot_that_is_far_behind_has_a_cause(slot: Slot, cause: RetentionCause) -> None:
    slot = slot._replace(restart_position=HERE - (slot.retained_wal_bytes or 0))
    primary = node("p", recovery=False, slots=(slot,), history=History(NOW, QUIET))
    assert diagnose_retention(slot, primary, cluster(primary)).cause is cause


async def test_walsender_that_holds_an_xid_is_the_blocker(databases: Stack) -> None:
    """A replication connection runs SQL as well."""
    primary = databases.primary
    app = application(config_reloader(primary.conninfo(EXPORTER_ROLE)))
    async with TestClient(TestServer(app)) as client:
        with psycopg.connect(
            f"{primary.conninfo()} replication=database application_name=etl", autocommit=True
        ) as sender:
            sender.execute("BEGIN")
            sender.execute("SELECT pg_current_xact_id()")
            with primary.create_slot("blocked_by_sender"):
                blocker = await until_named(client, "pgslot_creation_blocker_age_seconds")
                assert (blocker["backend_type"], blocker["application_name"]) == ("walsender", "etl")
                assert blocker["pid"] == str(sender.info.backend_pid)
            sender.execute("ROLLBACK")
        primary.drop_slot("blocked_by_sender")
        # One that only decodes is none, whatever its snapshot.
        with streaming_consumer(primary, "decoding", databases.folder):
            write_wal(primary, 2 * MEBIBYTE)
            await until(confirmed_all(primary, "decoding"), "it decodes")
            counts = (await scrape(client))["pgslot_transactions"]
            assert counts[("cluster", "c"), ("kind", "xid"), ("node", "n0")] == 0
        primary.drop_slot("decoding")


async def until_named(client: Client, metric: str) -> dict[str, str]:
    deadline = time.monotonic() + 30
    while not (found := (await scrape(client)).get(metric)):
        assert time.monotonic() < deadline, metric
        await asyncio.sleep(0.2)
    [labels] = found
    return dict(labels)


@contextmanager
def busy(server: Postgres) -> Iterator[list[str]]:
    """Clients that connect for each transaction, temporary slots of base backups, and tables that are copied."""
    server.sql("CREATE TABLE IF NOT EXISTS busy (n int)")
    # A slot of a base backup holds back what was written since the last one.
    server.sql("CHECKPOINT")
    stop = threading.Event()
    made: list[str] = []

    def transactions() -> None:
        while not stop.is_set():
            with psycopg.connect(server.conninfo()) as short:
                short.execute("INSERT INTO busy VALUES (1)")
                time.sleep(0.1)

    def slots() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with psycopg.connect(server.conninfo(), autocommit=True) as session:
                session.execute(
                    "SELECT pg_create_physical_replication_slot(%s, true, true)", [f"pg_basebackup_{number}"]
                )
                sync = f"pg_16394_sync_{number}_7427463894567342341"
                session.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", [sync])
                made.append(sync)
                time.sleep(0.2)
                session.execute("SELECT pg_drop_replication_slot(%s)", [sync])

    threads = [threading.Thread(target=work) for work in (transactions, transactions, slots)]
    for thread in threads:
        thread.start()
    try:
        yield made
    finally:
        stop.set()
        for thread in threads:
            thread.join()


async def test_busy_server_leaves_no_series_behind(databases: Stack) -> None:
    """What each look of some twenty finds is what the first found: not one name or pid more."""
    app = application(config_reloader(databases.primary.conninfo(EXPORTER_ROLE)))
    async with TestClient(TestServer(app)) as client:
        with busy(databases.primary) as made:
            first: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
            seen: set[tuple[str, tuple[tuple[str, str], ...]]] = set()
            for _ in range(20):
                await asyncio.sleep(0.3)
                metrics = await scrape(client)
                found = {
                    (name, labels)
                    for name, series in metrics.items()
                    if name.startswith("pgslot_")
                    for labels in series
                }
                first = first or found
                seen |= found
    assert len(made) > 5, "slots came and went"
    assert seen == first
