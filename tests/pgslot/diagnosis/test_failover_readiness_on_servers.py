"""Readiness of failover slots on servers of each version that has them; before 17 there are no such series."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from exporter.app import application
from pgslot.diagnosis import failover_readiness
from pgslot.diagnosis.failover_readiness import FIRST_MAJOR
from pgslot.snapshot.queries import SUPPORTED
from tests.support.every_version import client
from tests.support.failover_slots import (
    WORKER,
    advance_horizon,
    copied,
    create_failover_slot,
    drop_failover_slots,
    persistent,
    read_all,
    read_until_persistent,
    synchronising,
)
from tests.support.scrapes import PRIMARY, STANDBY, Client, Metrics, config_reloader, parse_series, scrape, scrape_until
from tests.support.servers.conditions import changed_setting, changed_settings, stopped_process
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for
from tests.support.servers.sessions import Statement
from tests.support.servers.stack import EXPORTER_ROLE, Stack
from tests.support.servers.workload import streaming_consumer

__all__ = ["client"]

pytestmark = pytest.mark.timeout(240)

CASCADE = "n2"


@pytest.fixture(scope="module", params=[FIRST_MAJOR - 1, *(major for major in SUPPORTED if major >= FIRST_MAJOR)])
def databases(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Instead of the session's servers: a primary and its standby of each version in turn."""
    with Stack(major=request.param) as stack:
        stack.start_databases()
        yield stack


def ready(metrics: Metrics, slot: str, node: str = STANDBY) -> tuple[float | None, str | None]:
    """Return whether a slot is ready on a standby, and why not."""
    labels = {"slot_name": slot, "node": node, "database": "postgres"}
    return (
        metrics.value("pgslot_failover_ready", **labels),
        metrics.state("pgslot_failover_unready_reason", "reason", **labels),
    )


async def until_ready(client: Client, slot: str, expected: tuple[float | None, str | None]) -> Metrics:
    return await scrape_until(client, lambda metrics: ready(metrics, slot) == expected, timeout=60)


@pytest.fixture(autouse=True)
def _no_leftovers(databases: Stack) -> Iterator[None]:
    """The session's fixture cleans up other servers than these."""
    yield
    if databases.major >= FIRST_MAJOR:
        drop_failover_slots(databases.primary, databases.standby)


async def test_before_17_there_are_no_series_of_synchronisation(client: Client, databases: Stack) -> None:
    metrics = Metrics(await scrape(client))
    enabled = metrics.value("pgslot_slotsync_enabled", node=STANDBY)
    assert enabled == (None if databases.major < FIRST_MAJOR else 0)
    assert metrics.found("pgslot_slotsync_enabled", node=PRIMARY) == []
    assert metrics.found("pgslot_failover_ready") == []


async def test_slot_is_not_ready_until_its_copy_is_persistent_nor_if_its_name_is_taken(
    client: Client, databases: Stack, tmp_path: Path
) -> None:
    """Sync off, a temporary copy, ready next to a streaming consumer, no worker; then a slot that is not a copy."""
    primary, standby = databases.primary, databases.standby
    if databases.major < FIRST_MAJOR:
        return
    create_failover_slot(primary, "waits")
    metrics = await until_ready(client, "waits", (0, "sync_off"))
    missing = {own["setting"]: value for own, value in metrics.found("pgslot_slotsync_setting_missing", node=STANDBY)}
    assert missing == {
        "sync_replication_slots": 1,
        "hot_standby_feedback": 0,
        "primary_slot_name": 0,
        "primary_conninfo_dbname": 1,
    }
    assert metrics.found("pgslot_slotsync_setting_missing", node=PRIMARY) == []
    with changed_settings(standby, sync_replication_slots="on"):
        # Without a database in primary_conninfo the worker does not even start.
        await until_ready(client, "waits", (0, "worker_down"))
    advance_horizon(primary, standby)
    with synchronising(standby):
        metrics = await until_ready(client, "waits", (0, "not_persisted"))
        assert metrics.value("pgslot_slotsync_enabled", node=STANDBY) == 1
        assert {value for _, value in metrics.found("pgslot_slotsync_setting_missing", node=STANDBY)} == {0}
        assert metrics.found("pgslot_failover_lag_bytes") == []
        with streaming_consumer(primary, "streams", tmp_path, failover=True):
            primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
            metrics = await until_ready(client, "streams", (1, None))
            assert metrics.value("pgslot_failover_lag_bytes", slot_name="streams", node=STANDBY) is not None
            assert ready(metrics, "waits") == (0, "not_persisted")
        read_all(primary, "waits")
        await until_ready(client, "waits", (1, None))
    # An existing copy can still be used, and falls behind.
    await until_ready(client, "waits", (1, None))
    primary.sql("SELECT pg_catalog.pg_logical_emit_message(true, 'test', repeat('x', 100000))")
    read_all(primary, "waits")
    await scrape_until(
        client,
        lambda metrics: (metrics.value("pgslot_failover_lag_bytes", slot_name="waits", node=STANDBY) or 0) > 100_000,
    )
    create_failover_slot(primary, "taken")
    await until_ready(client, "taken", (0, "sync_off"))
    with standby.create_slot("taken") as creator:
        while not creator.wait(0.5):
            primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
    with synchronising(standby, wait=False):
        await until_ready(client, "taken", (0, "name_clash"))
    standby.drop_slot("taken")


async def test_copy_that_nothing_keeps_in_step_is_stale(
    client: Client, databases: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Synchronisation is off, then primary_conninfo has no dbname, then the worker fails: PostgreSQL shows none."""
    primary, standby = databases.primary, databases.standby
    if databases.major < FIRST_MAJOR:
        return
    create_failover_slot(primary, "kept")
    with synchronising(standby):
        await asyncio.to_thread(read_until_persistent, primary, standby, "kept")
        await until_ready(client, "kept", (1, None))
        # The copy can be persistent after the first of two reads, and then follows the second up to 30 s later.
        await scrape_until(
            client,
            lambda metrics: metrics.value("pgslot_failover_lag_bytes", slot_name="kept", node=STANDBY) == 0,
            timeout=60,
        )
    monkeypatch.setattr(failover_readiness, "STALE_SECONDS", 2.0)
    old = "SELECT 1 FROM pg_replication_slots WHERE synced AND inactive_since < clock_timestamp() - interval '2.1 s'"
    wait_for(lambda: standby.sql(old), "it has not been synchronised for too long")
    assert ready(Metrics(await scrape(client)), "kept") == (1, None), "an idle slot's copy is in step"
    [(last,)] = standby.sql("SELECT extract(epoch FROM inactive_since)::float8 FROM pg_replication_slots WHERE synced")
    read_all(primary, "kept")
    metrics = await until_ready(client, "kept", (0, "stale"))
    assert metrics.value("pgslot_failover_last_sync_timestamp_seconds", slot_name="kept", node=STANDBY) == last
    with changed_settings(standby, sync_replication_slots="on"):
        metrics = Metrics(await scrape(client))
        assert ready(metrics, "kept") == (0, "stale")
        label = {"node": STANDBY, "setting": "primary_conninfo_dbname"}
        assert metrics.value("pgslot_slotsync_setting_missing", **label) == 1
    with synchronising(standby, wait=False, database="nosuch"):
        metrics = await scrape_until(client, lambda metrics: _missing(metrics) == {0})
        assert ready(metrics, "kept") == (0, "stale")
    assert persistent(standby, "kept")
    with synchronising(standby):
        await until_ready(client, "kept", (1, None))
        await _stay_ready_while_replay_lags(client, databases)
        [(before,)] = standby.sql("SELECT extract(epoch FROM clock_timestamp())::float8")
        standby.restart()
        metrics = Metrics(await scrape(client))
    assert ready(metrics, "kept") == (1, None), "the standby has just started"
    synced_at = metrics.value("pgslot_failover_last_sync_timestamp_seconds", slot_name="kept", node=STANDBY)
    assert synced_at is None or synced_at > before


async def _stay_ready_while_replay_lags(client: Client, databases: Stack) -> None:
    """The worker waits for replay with a copy in its hands, and does not come to the others."""
    primary, standby = databases.primary, databases.standby
    create_failover_slot(primary, "also")
    await asyncio.to_thread(read_until_persistent, primary, standby, "also")
    standby.sql("SELECT pg_catalog.pg_wal_replay_pause()")
    paused = "SELECT 1 WHERE pg_catalog.pg_get_wal_replay_pause_state() = 'paused'"
    await asyncio.to_thread(wait_for, lambda: standby.sql(paused), "replay is paused")
    for slot in ("kept", "also"):
        read_all(primary, slot)
    try:
        held = "SELECT 1 FROM pg_replication_slots WHERE synced AND active"
        await asyncio.to_thread(wait_for, lambda: standby.sql(held), "the worker holds a copy", 60)
        await asyncio.sleep(failover_readiness.STALE_SECONDS + 0.5)
        old = "SELECT 1 FROM pg_replication_slots WHERE synced AND inactive_since < clock_timestamp() - interval '2 s'"
        assert standby.sql(old), "a copy waits for its turn"
        metrics = Metrics(await scrape(client))
        assert {slot: ready(metrics, slot) for slot in ("kept", "also")} == {"kept": (1, None), "also": (1, None)}
    finally:
        standby.sql("SELECT pg_catalog.pg_wal_replay_resume()")
    await asyncio.to_thread(wait_for, lambda: not standby.sql(old), "all copies are synchronised again", 60)
    primary.drop_slot("also")


def _missing(metrics: Metrics) -> set[float]:
    return {value for _, value in metrics.found("pgslot_slotsync_setting_missing", node=STANDBY)}


async def test_copy_that_is_missing_or_lost_or_unknown_is_not_ready(client: Client, databases: Stack) -> None:
    """The worker hangs; then it is gone while the rows that the copy needs are removed; then the role may see less."""
    primary, standby = databases.primary, databases.standby
    if databases.major < FIRST_MAJOR:
        return
    with synchronising(standby):
        with stopped_process(standby, "slotsync worker"):
            create_failover_slot(primary, "lost")
            await until_ready(client, "lost", (0, "not_synced"))
        wait_for(lambda: copied(standby, "lost"), "it is copied", 60)
        read_all(primary, "lost")
        await until_ready(client, "lost", (1, None))
        with changed_setting(standby, "hot_standby_feedback", "off"):
            wait_for(lambda: not standby.sql(WORKER), "the worker has ended")

            def removed() -> bool:
                """Until the standby has withdrawn its feedback, and no other snapshot sees the rows."""
                primary.sql("CREATE TABLE passing (id int)")
                primary.sql("DROP TABLE passing")
                read_all(primary, "lost")
                primary.sql("VACUUM pg_catalog.pg_class")
                primary.wait_until_replayed(standby)
                return bool(standby.sql("SELECT 1 FROM pg_replication_slots WHERE invalidation_reason IS NOT NULL"))

            wait_for(removed, "the rows that the copy needs are gone", 60)
            metrics = await until_ready(client, "lost", (0, "invalidated"))
            label = {"node": STANDBY, "slot_name": "lost"}
            assert metrics.state("pgslot_invalidation_reason", "reason", **label) == "rows_removed"
            create_failover_slot(primary, "unseen")
            await until_ready(client, "unseen", (0, "worker_down"))
            primary.sql(f"REVOKE pg_read_all_stats FROM {EXPORTER_ROLE}")
            try:
                # The role may not see whether there is a worker, but it sees the state of a copy.
                metrics = await until_ready(client, "unseen", (None, "unknown"))
            finally:
                primary.sql(f"GRANT pg_read_all_stats TO {EXPORTER_ROLE}")
            assert ready(metrics, "lost") == (0, "invalidated")
        # The worker replaces the copy.
        await asyncio.to_thread(read_until_persistent, primary, standby, "lost")
        await until_ready(client, "lost", (1, None))


async def test_probe_of_the_primary_shows_readiness_and_of_the_standby_does_not(databases: Stack) -> None:
    """A probe of the standby does not query its primary."""
    primary, standby = databases.primary, databases.standby
    nodes = (server.conninfo(EXPORTER_ROLE) for server in (primary, standby))
    async with TestClient(TestServer(application(config_reloader(*nodes)))) as client:

        async def probe(node: str) -> Metrics:
            answer = await client.get(f"/probe?cluster=c&node={node}")
            assert answer.status == 200
            return Metrics(parse_series(await answer.text()))

        if databases.major < FIRST_MAJOR:
            assert (await probe(PRIMARY)).found("pgslot_failover_ready") == []
            return
        create_failover_slot(primary, "waits")
        assert ready(await probe(PRIMARY), "waits") == (0, "sync_off")
        assert (await probe(STANDBY)).found("pgslot_failover_ready") == []
        assert (await probe(STANDBY)).value("pgslot_slotsync_enabled") == 0
        standby.pause_all()
        try:
            # It is then unknown whether any standby synchronises.
            metrics = await probe(PRIMARY)
        finally:
            standby.resume_all()
        assert metrics.found("pgslot_failover_ready") == []
        assert metrics.value("pgslot_up") == 1
        primary.drop_slot("waits")


@contextmanager
def more_standbys(databases: Stack) -> Iterator[tuple[Postgres, Postgres]]:
    """A standby of the standby, and one of the primary that replays late; by their settings both would synchronise."""
    primary, middle = databases.primary, databases.standby
    started: list[Postgres] = []
    try:
        for upstream, name, more in (
            (middle, "cascade", {}),
            (primary, "delayed", {"recovery_min_apply_delay": "'1h'"}),
        ):
            conninfo = f"'{upstream.conninfo()} application_name={name}'"
            started.append(upstream.standby(name, primary_conninfo=conninfo, sync_replication_slots="on", **more))
        yield started[0], started[1]
    finally:
        for server in started:
            server.stop()
        for upstream, name in ((middle, "cascade"), (primary, "delayed")):
            if upstream.sql("SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = %s", [name]):
                upstream.drop_slot(name)


async def test_standbys_that_cannot_synchronise_have_no_readiness(databases: Stack) -> None:
    if databases.major < FIRST_MAJOR:
        assert not databases.primary.sql("SELECT 1 FROM pg_catalog.pg_settings WHERE name = 'sync_replication_slots'")
        return
    with more_standbys(databases) as more:
        servers = (databases.primary, databases.standby, *more)
        nodes = (server.conninfo(EXPORTER_ROLE) for server in servers)
        async with TestClient(TestServer(application(config_reloader(*nodes)))) as client:
            create_failover_slot(databases.primary, "waits")
            # Only the third standby could.
            metrics = await until_ready(client, "waits", (0, "sync_off"))
            assert {own["node"] for own, _ in metrics.found("pgslot_failover_ready")} == {STANDBY}
            with synchronising(databases.standby):
                wait_for(lambda: copied(databases.standby, "waits"), "it is copied")
                read_all(databases.primary, "waits")
                metrics = await until_ready(client, "waits", (1, None))
            assert {own["node"] for own, _ in metrics.found("pgslot_failover_ready")} == {STANDBY}
            assert metrics.value("pgslot_slotsync_enabled", node=CASCADE) == 1
            databases.primary.drop_slot("waits")


CONNINFOS = {
    "host=h user=u": False,
    "host=h dbname=app": True,
    "host=h dbname = 'my app' user=u": True,
    "dbname=''": False,
    "dbname=": False,
    "host=h password='x dbname=y'": False,
    r"host=h password=x\ dbname=y": False,
    r"host=h password='it\'s dbname=y' user=u": False,
    "application_name=adbname=x": False,
    "postgresql://u@h/app": True,
    "postgres://u@h:5432/app?sslmode=require": True,
    "postgresql://u@h?dbname=app": True,
    "postgresql://u@h/?sslmode=require&dbname=app": True,
    "postgresql://u@h/": False,
    "postgresql://u@h/?sslmode=require": False,
}


async def test_database_in_primary_conninfo_is_recognised(client: Client, databases: Stack) -> None:
    """The worker requires it; everything else in there, above all a password, stays on the server."""
    if databases.major < FIRST_MAJOR:
        return
    standby = databases.standby

    def is_set(conninfo: str) -> bool:
        return standby.sql("SHOW primary_conninfo") == [(conninfo,)]

    try:
        for conninfo, given in CONNINFOS.items():
            quoted = conninfo.replace("'", "''")
            standby.sql(f"ALTER SYSTEM SET primary_conninfo = '{quoted}'")
            standby.sql("SELECT pg_catalog.pg_reload_conf()")
            wait_for(partial(is_set, conninfo), "it is set")
            name = {"setting": "primary_conninfo_dbname", "node": STANDBY}
            metrics = Metrics(await scrape(client))
            assert metrics.value("pgslot_slotsync_setting_missing", **name) == float(not given), conninfo
    finally:
        standby.sql("ALTER SYSTEM RESET primary_conninfo")
        standby.sql("SELECT pg_catalog.pg_reload_conf()")
    await scrape_until(
        client, lambda metrics: metrics.value("pgslot_wal_receiver_streaming", node=STANDBY) == 1, timeout=60
    )


async def test_session_that_synchronises_and_waits_is_no_creation(client: Client, databases: Stack) -> None:
    """From 19 on the function waits for a copy that cannot be kept yet; its temporary slot is nobody's new slot."""
    if databases.major < FIRST_MAJOR:
        return
    primary, standby = databases.primary, databases.standby
    [(conninfo,)] = standby.sql("SHOW primary_conninfo")
    create_failover_slot(primary, "early")
    advance_horizon(primary, standby)
    with changed_setting(standby, "primary_conninfo", f"'{conninfo} dbname=postgres'"):
        call = Statement(
            standby.conninfo(), "SELECT pg_catalog.pg_sync_replication_slots()", lambda: copied(standby, "early")
        )
        with call:
            # Before 19 it ends, and its temporary copy with it.
            assert call.done == (databases.major < 19)
            metrics = Metrics(await scrape(client))
            assert metrics.value("pgslot_creations_waiting", node=STANDBY) == 0
            assert metrics.found("pgslot_creation_wait_seconds") == []
            if databases.major >= 19:
                await scrape_until(
                    client, lambda scraped: scraped.value("pgslot_slotsync_skips_total", slot_name="early")
                )
                metrics = Metrics(await scrape(client))
                last = metrics.value("pgslot_slotsync_last_skip_timestamp_seconds", slot_name="early")
                assert last is not None
                assert abs(time.time() - last) < 60
