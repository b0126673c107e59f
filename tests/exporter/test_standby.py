"""Standbys whose records come late, by the archive, or not at all; and creations that are tried again beside them."""

import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import psycopg
import pytest
from aiohttp.test_utils import TestClient, TestServer

from exporter.app import application
from pgslot.config.model import HealerSettings
from tests.support.every_version import CREATORS, both_creators, client, databases, until_waiting
from tests.support.running_healer import alert, healing, watched
from tests.support.running_healer import until as until_true
from tests.support.scrapes import PRIMARY, STANDBY, Client, Metrics, config_reloader, scrape_until
from tests.support.servers import binaries
from tests.support.servers.binaries import NEXT
from tests.support.servers.conditions import changed_settings
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import CREATE_EXPORTER, EXPORTER_ROLE, HEALER_ROLE, Stack

__all__ = ["client", "databases"]

pytestmark = pytest.mark.timeout(180)


async def test_delayed_replay_is_the_reason_of_a_waiting_creation(client: Client, databases: Stack) -> None:
    """A record is behind the transaction that waits for its time; after that the creations end by themselves."""
    primary, standby = databases.primary, databases.standby
    if databases.major < 16:
        assert not standby.sql("SELECT 1 FROM pg_catalog.pg_proc WHERE proname = 'pg_log_standby_snapshot'")
        return
    databases.wait_until_idle()
    with changed_settings(standby, recovery_min_apply_delay="12s"):
        primary.sql("INSERT INTO orders VALUES (77, 'late')")
        with both_creators(standby) as creators:
            metrics = await until_waiting(client, "replay_delayed")
            assert metrics.value("pgslot_recovery_min_apply_delay_seconds", node=STANDBY) == 12
            async with healing(watched(databases)) as healer:
                await healer.post(alert(CREATORS[0]), alert(CREATORS[1]))
                await healer.until("it is looked at", lambda episodes: episodes[0]["reasons"] == ["replay_delayed"])
                assert all(not creator.done for creator in creators)
                primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
                await until_waiting(client, "replay_delayed")
                assert (await healer.episodes())[0]["calls"] == 0
                episode = await healer.ended(60)
                # A check between the end of the delay and the end of the creations sees another reason.
                assert episode["calls"] == 0 or episode["reasons"][1:], "no call while replay is delayed"
                assert episode["outcome"] == "resolved_itself"
            assert [creator.error for creator in creators if creator.wait(5)] == [None, None]
    primary.sql("DELETE FROM orders WHERE id = 77")


async def test_creation_that_its_client_repeats_is_marked_as_retried(client: Client, databases: Stack) -> None:
    """Its client has gone without a word, and is back: with another name, or with the same in vain."""
    primary = databases.primary
    with primary.hold_transaction(), primary.create_slot("first"):
        metrics = await scrape_until(client, lambda metrics: metrics.found("pgslot_creation_retried"))
        assert metrics.value("pgslot_creation_retried", slot_name="first") == 0
        [(pid,)] = primary.sql("SELECT active_pid FROM pg_catalog.pg_replication_slots WHERE slot_name = 'first'")
        creator = metrics.labels("pgslot_creation_info", slot_name="first")
        assert (creator["node"], creator["pid"], creator["usename"]) == (PRIMARY, str(pid), "postgres")
        with closing(psycopg.connect(f"{primary.conninfo()} replication=database", autocommit=True)) as again:

            def tries_again() -> bool:
                """Each try ends at once, as the name is taken; it stays the last statement of its session."""
                with pytest.raises(psycopg.errors.DuplicateObject):
                    again.execute('CREATE_REPLICATION_SLOT "first" LOGICAL pgoutput')
                return True

            await scrape_until(
                client,
                lambda metrics: tries_again() and metrics.value("pgslot_creation_retried", slot_name="first") == 1,
            )
        await scrape_until(client, lambda metrics: metrics.value("pgslot_creation_retried", slot_name="first") == 0)
        with primary.create_slot("second"):
            # Its statement is seen a moment before its slot.
            metrics = await scrape_until(client, lambda metrics: len(metrics.found("pgslot_creation_retried")) == 2)
            assert metrics.value("pgslot_creation_retried", slot_name="first") == 1
            assert metrics.value("pgslot_creation_retried", slot_name="second") == 0
    for slot in ("first", "second"):
        primary.drop_slot(slot)


async def test_wal_receiver_that_waits_for_an_answer_does_not_stream(client: Client, databases: Stack) -> None:
    """Somebody listens there and never answers. PostgreSQL 19 has a row for such a receiver, the others have none."""
    standby = databases.standby
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"host=127.0.0.1 port={silent.getsockname()[1]} connect_timeout=60"
        with changed_settings(standby, primary_conninfo=address, wal_retrieve_retry_interval="100ms"):
            await scrape_until(
                client, lambda metrics: metrics.value("pgslot_wal_receiver_streaming", node=STANDBY) == 0
            )
            row = "SELECT status FROM pg_catalog.pg_stat_wal_receiver"
            told = [("connecting",)] if databases.major >= NEXT else []
            wait_for(lambda: standby.sql(row) == told, "it waits for the answer")
            if databases.major >= 16:
                with both_creators(standby):
                    await until_waiting(client, "wal_receiver_down")
        # A receiver that waits for an answer does not notice that the setting has changed.
        standby.sql(
            "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
            " WHERE backend_type = 'walreceiver'"
        )
    await scrape_until(
        client, lambda metrics: metrics.value("pgslot_wal_receiver_streaming", node=STANDBY) == 1, timeout=60
    )


async def test_synced_slot_has_the_reason_why_its_synchronisation_was_skipped(client: Client, databases: Stack) -> None:
    """From 19 on: the primary's slot needs rows of transactions that its standby has left behind."""
    primary, standby = databases.primary, databases.standby
    if databases.major < NEXT:
        metrics = await scrape_until(client, lambda metrics: metrics.found("pgslot_up"))
        assert metrics.found("pgslot_slotsync_skip_reason") == []
        return

    def reason(metrics: Metrics) -> str | None:
        return metrics.state("pgslot_slotsync_skip_reason", "reason", slot_name="fails_over", node=STANDBY)

    [(conninfo,)] = standby.sql("SHOW primary_conninfo")
    primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('fails_over', 'pgoutput', false, false, true)")
    for _ in range(3):
        primary.sql("SELECT pg_catalog.pg_current_xact_id()")
    # With it the standby learns of these transactions.
    primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
    primary.wait_until_replayed(standby)
    with changed_settings(standby, primary_conninfo=f"{conninfo} dbname=postgres", sync_replication_slots="on"):
        await scrape_until(client, lambda metrics: reason(metrics) == "wal_or_rows_removed", timeout=60)
    primary.drop_slot("fails_over")
    await scrape_until(
        client, lambda metrics: metrics.value("pgslot_wal_receiver_streaming", node=STANDBY) == 1, timeout=60
    )


@pytest.fixture
def fed() -> Iterator[Stack]:
    """A primary with an archive, and a standby that is fed from it alone."""
    with Stack() as stack:
        programs = binaries.find(stack.folder)
        archive = stack.folder / "archive"
        archive.mkdir()
        if programs.user is not None:
            os.chown(archive, programs.user, programs.user)
        stack.primary = Postgres.primary(
            programs, stack.folder, "primary", archive_mode="'on'", archive_command=f"'cp %p {archive}/%f'"
        )
        stack.cleanup.callback(stack.primary.stop)
        stack.primary.sql(CREATE_EXPORTER)
        stack.primary.sql(f"CREATE ROLE {HEALER_ROLE} LOGIN")
        stack.primary.sql(f"GRANT EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot() TO {HEALER_ROLE}")
        stack.standby = stack.primary.standby("fed", restore_command=f"'cp {archive}/%f %p'")
        stack.cleanup.callback(stack.standby.stop)
        stack.standby.sql("ALTER SYSTEM SET primary_conninfo = ''")
        stack.standby.sql("ALTER SYSTEM SET wal_retrieve_retry_interval = '200ms'")
        stack.standby.sql("SELECT pg_catalog.pg_reload_conf()")
        receiver = "SELECT 1 FROM pg_catalog.pg_stat_wal_receiver"
        wait_for(lambda: not stack.standby.sql(receiver), "it does not stream any more")
        yield stack


@pytest.fixture
async def fed_client(fed: Stack) -> AsyncIterator[Client]:
    nodes = (server.conninfo(EXPORTER_ROLE) for server in (fed.primary, fed.standby))
    async with TestClient(TestServer(application(config_reloader(*nodes)))) as started:
        yield started


async def test_creation_on_a_standby_fed_from_an_archive_waits_for_the_segment(fed_client: Client, fed: Stack) -> None:
    """One record goes ahead, and comes with the segment that it is in; more of them would be in the same one."""
    with fed.standby.create_slot("from_archive") as creator:
        await scrape_until(fed_client, lambda metrics: metrics.reasons() == {"from_archive": "archived_segment"})
        async with healing(watched(fed), settings=HealerSettings(burst_interval=0.2, interval=0.5)) as healer:
            await healer.post(alert("from_archive", node="fed"))
            await healer.until("it is called for", lambda episodes: episodes[0]["calls"])
            [called] = (await healer.episodes())[0]["lsns"]
            flushed = "SELECT 1 WHERE pg_catalog.pg_current_wal_flush_lsn() >= %s::pg_lsn"
            await until_true(lambda: fed.primary.sql(flushed, [called]), "the record is on disk")
            assert not creator.done
            fed.primary.sql("SELECT pg_catalog.pg_switch_wal()")
            episode = await healer.ended(60)
        assert (episode["calls"], episode["outcome"]) == (1, "healed")
        assert episode["reasons"] == ["archived_segment"]
        assert creator.wait(5)
