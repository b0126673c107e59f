"""What a scrape shows on each supported version, read by a role with the privileges that grants gives it."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from exporter.catalogue import DECODING
from pgslot.snapshot.queries import QUERIES
from tests.support import in_process
from tests.support.every_version import CREATORS, both_creators, client, databases, until_waiting
from tests.support.scrapes import PRIMARY, STANDBY, Client, Metrics, probe_status, scrape, scrape_until
from tests.support.servers.conditions import changed_settings
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import EXPORTER_ROLE, Stack

__all__ = ["client", "databases"]

pytestmark = pytest.mark.usefixtures("young_transactions")


@pytest.fixture
def slots(databases: Stack) -> Iterator[tuple[str, str]]:
    """A logical and a physical slot that nobody uses."""
    primary = databases.primary
    primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('logical', 'pgoutput')")
    primary.sql("SELECT pg_catalog.pg_create_physical_replication_slot('physical', true)")
    yield "logical", "physical"
    primary.drop_slot("logical")
    primary.drop_slot("physical")


def decode(primary: Postgres) -> None:
    """Read and confirm what is in the slot `logical`, with so little memory that a large transaction spills."""
    primary.sql_in_one_transaction(
        "SET logical_decoding_work_mem = '64kB'",
        "SELECT count(*) FROM pg_catalog.pg_logical_slot_get_binary_changes("
        "'logical', NULL, NULL, 'proto_version', '1', 'publication_names', 'shop')",
    )


async def test_primary_and_standby_answer_every_query(client: Client, databases: Stack) -> None:
    metrics = Metrics(await scrape(client))
    for node, server, role in ((PRIMARY, databases.primary, "primary"), (STANDBY, databases.standby, "standby")):
        assert {probe.name: probe_status(metrics.series, node, probe.name) for probe in QUERIES} == {
            probe.name: "ok" for probe in QUERIES
        }
        info = metrics.labels("pgslot_node_info", node=node)
        [(version,)] = server.sql("SHOW server_version")
        assert (info["role"], info["version"]) == (role, version)
        # A version before its release has no dot: 19rc1.
        assert re.match(rf"{databases.major}\D", version)
        assert metrics.value("pgslot_max_replication_slots", node=node) == 50
        assert metrics.value("pgslot_max_slot_wal_keep_size_bytes", node=node) == 2**30
        assert metrics.value("pgslot_creations_waiting", node=node) == 0
    assert [metrics.value("pgslot_wal_receiver_streaming", node=each) for each in (PRIMARY, STANDBY)] == [None, 1]
    assert [metrics.value("pgslot_unlisted_standbys", node=each) for each in (PRIMARY, STANDBY)] == [0, None]
    assert metrics.value("pgslot_wal_replay_paused", node=STANDBY) == 0
    assert metrics.value("pgslot_replication_slots", node=PRIMARY) == 1
    assert metrics.value("pgslot_active", slot_name="standby") == 1
    assert metrics.value("pgslot_inactive_since_timestamp_seconds", slot_name="standby") is None


def test_rehearsal_of_a_switchover_reads_every_version(
    databases: Stack, slots: tuple[str, str], tmp_path: Path
) -> None:
    servers = (databases.primary, databases.standby)
    nodes = {server.name: {"conninfo": server.conninfo(EXPORTER_ROLE)} for server in servers}
    (tmp_path / "pgslot.yml").write_text(yaml.safe_dump({"clusters": {"c": {"nodes": nodes}}}))
    done = in_process.run("pg-slot-exporter", "rehearse", "c", "--json", f"--config.file={tmp_path / 'pgslot.yml'}")
    assert (done.returncode, done.stderr) == (1, "")
    [said] = json.loads(done.stdout)
    assert (said["problems"], said["unknown"], said["target_slots"]) == ([], [], [])
    assert {slot["slot_name"]: slot["reason"] for slot in said["slots"]} == {
        slots[0]: "before_17" if databases.major < 17 else "no_failover",
        slots[1]: "physical",
        databases.standby.name: "streams_to_target",
    }


async def test_slots_have_the_sizes_that_a_superuser_sees(
    client: Client, databases: Stack, slots: tuple[str, str]
) -> None:
    primary = databases.primary
    primary.sql("INSERT INTO orders VALUES (1, 'one')")
    decode(primary)
    primary.sql("DELETE FROM orders")

    def seen() -> list[tuple[Any, ...]]:
        here = "pg_catalog.pg_current_wal_lsn()"
        return primary.sql(
            f"SELECT slot_name::text, pg_catalog.pg_wal_lsn_diff({here}, restart_lsn)::int8,"
            f" pg_catalog.pg_wal_lsn_diff({here}, confirmed_flush_lsn)::int8,"
            " pg_catalog.pg_wal_lsn_diff(confirmed_flush_lsn, restart_lsn)::int8,"
            " pg_catalog.age(catalog_xmin)::int8"
            " FROM pg_catalog.pg_replication_slots WHERE NOT active ORDER BY slot_name"
        )

    def shown(metrics: Metrics) -> list[tuple[Any, ...]]:
        names = ("retained_wal_bytes", "unconfirmed_wal_bytes", "pinned_wal_bytes", "catalog_xmin_age_xids")
        return [(slot, *(metrics.value(f"pgslot_{name}", slot_name=slot) for name in names)) for slot in slots]

    metrics = await scrape_until(client, lambda metrics: shown(metrics) == seen())
    [(_, retained, unconfirmed, pinned, _), (_, physical, *others)] = shown(metrics)
    assert retained == unconfirmed + pinned
    assert min(retained, unconfirmed, pinned, physical) > 0
    assert others == [None, None, None]
    unknown = "false" if databases.major >= 17 else ""
    for slot, database, kind, plugin in (
        ("logical", "postgres", "logical", "pgoutput"),
        ("physical", "", *slots[1:], ""),
    ):
        info = metrics.labels("pgslot_slot_info", slot_name=slot)
        assert (info["database"], info["slot_type"], info["plugin"]) == (database, kind, plugin)
        assert (info["temporary"], info["two_phase"]) == ("false", "false")
        assert (info["failover"], info["synced"]) == (unknown, unknown)
        assert metrics.value("pgslot_active", slot_name=slot) == 0
        assert metrics.state("pgslot_wal_status", "wal_status", slot_name=slot) == "reserved"
        assert metrics.state("pgslot_invalidation_reason", "reason", slot_name=slot) is None
        assert metrics.state("pgslot_retention_cause", "cause", slot_name=slot) == "inactive"
        since = metrics.value("pgslot_inactive_since_timestamp_seconds", slot_name=slot)
        if databases.major < 17:
            assert since is None
        else:
            assert since == pytest.approx(time.time(), abs=30)


async def test_decoded_transactions_and_bytes_are_counted(
    client: Client, databases: Stack, slots: tuple[str, str]
) -> None:
    primary = databases.primary
    for statement in (
        "INSERT INTO orders VALUES (0, 'small')",
        "INSERT INTO orders SELECT n, 'large' FROM generate_series(1, 2000) AS n",
        "TRUNCATE orders",
    ):
        primary.sql(statement)
    decode(primary)

    def counted(metrics: Metrics) -> dict[str, float | None]:
        return {column: metrics.value(name, slot_name=slots[0]) for name, (column, _) in DECODING.items()}

    # Statistics arrive a moment later.
    metrics = await scrape_until(client, lambda metrics: counted(metrics)["total_txns"] == 3)
    columns = list(counted(metrics))
    [row] = primary.sql(
        f"SELECT {', '.join(columns)} FROM pg_catalog.pg_stat_replication_slots WHERE slot_name = 'logical'"
    )
    counts = counted(metrics)
    assert counts == dict(zip(columns, row, strict=True))
    assert counts["spill_txns"] == 1
    assert (counts["spill_count"] or 0) >= 1
    assert (counts["spill_bytes"] or 0) > 64 * 1024
    assert (counts["total_bytes"] or 0) > (counts["spill_bytes"] or 0)
    assert counts["stream_txns"] == 0


async def test_slot_is_extended_unreserved_and_then_lost(
    client: Client, databases: Stack, slots: tuple[str, str]
) -> None:
    primary = databases.primary

    async def expect(wal_status: str) -> Metrics:
        return await scrape_until(
            client,
            lambda metrics: all(
                metrics.state("pgslot_wal_status", "wal_status", slot_name=slot) == wal_status for slot in slots
            ),
        )

    with changed_settings(primary, max_wal_size="32MB", max_slot_wal_keep_size="512MB"):
        for _ in range(4):
            primary.sql("SELECT pg_catalog.pg_logical_emit_message(false, 'test', 'something to switch away from')")
            primary.sql("SELECT pg_catalog.pg_switch_wal()")
        primary.sql("CHECKPOINT")
        metrics = await expect("extended")
        assert (metrics.value("pgslot_safe_wal_size_bytes", slot_name="logical") or 0) > 0
    with changed_settings(primary, max_slot_wal_keep_size="16MB"):
        metrics = await expect("unreserved")
        for slot in slots:
            assert (metrics.value("pgslot_safe_wal_size_bytes", slot_name=slot) or 0) < 0
            assert metrics.state("pgslot_invalidation_reason", "reason", slot_name=slot) is None
        primary.sql("CHECKPOINT")
        metrics = await expect("lost")
        for slot in slots:
            assert metrics.state("pgslot_invalidation_reason", "reason", slot_name=slot) == "wal_removed"
            assert metrics.state("pgslot_retention_cause", "cause", slot_name=slot) == "invalidated"
            for name in ("safe_wal_size_bytes", "retained_wal_bytes", "unconfirmed_wal_bytes", "catalog_xmin_age_xids"):
                assert metrics.value(f"pgslot_{name}", slot_name=slot) is None
        assert metrics.state("pgslot_wal_status", "wal_status", slot_name="standby") == "reserved"


async def test_standby_slot_that_lost_its_catalog_rows_is_invalidated(client: Client, databases: Stack) -> None:
    primary, standby = databases.primary, databases.standby
    if databases.major < 16:
        # There is none: see test_creation_on_the_standby_waits_for_running_xacts_or_a_transaction.
        return
    with changed_settings(standby, hot_standby_feedback="off"):
        with standby.create_slot("conflicts") as creator:
            wait_for(
                lambda: creator.done or not primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()"), "it is created"
            )
        released = "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = 'standby' AND catalog_xmin IS NULL"
        wait_for(lambda: primary.sql(released), "the standby holds back no vacuum")
        for statement in ("CREATE TABLE dropped (id int)", "DROP TABLE dropped", "VACUUM pg_catalog.pg_class"):
            primary.sql(statement)
        metrics = await scrape_until(
            client, lambda metrics: metrics.state("pgslot_wal_status", "wal_status", slot_name="conflicts") == "lost"
        )
    reason = "rows_removed" if databases.major >= 17 else "unknown"
    assert metrics.state("pgslot_invalidation_reason", "reason", slot_name="conflicts") == reason
    assert metrics.state("pgslot_retention_cause", "cause", slot_name="conflicts") == "invalidated"
    for name in ("retained_wal_bytes", "pinned_wal_bytes", "catalog_xmin_age_xids"):
        # Its restart_lsn and catalog_xmin are still there, and hold nothing back any more.
        assert metrics.value(f"pgslot_{name}", slot_name="conflicts") is None


async def test_creation_on_the_primary_waits_for_a_session(client: Client, databases: Stack) -> None:
    with databases.primary.hold_transaction(application_name="holder") as holder:
        with both_creators(databases.primary):
            metrics = await until_waiting(client, "transaction")
            for slot in CREATORS:
                blocker = metrics.labels("pgslot_creation_blocker_age_seconds", slot_name=slot)
                assert (blocker["node"], blocker["backend_type"], blocker["pid"]) == (
                    PRIMARY,
                    "client backend",
                    str(holder.pid),
                )
                assert blocker["application_name"] == "holder"
                assert metrics.state("pgslot_retention_cause", "cause", slot_name=slot) == "creation"
                assert 0 <= (metrics.value("pgslot_creation_wait_seconds", slot_name=slot) or -1) < 30
            assert metrics.value("pgslot_creations_waiting", node=PRIMARY) == 2
            # The function's snapshot is a transaction's, the walsender that creates is none.
            assert metrics.transactions(PRIMARY) == {"xid": 1, "snapshot": 1, "idle_in_transaction": 1}
        with databases.primary.create_slot("alone"):
            metrics = await scrape_until(client, lambda metrics: metrics.reasons() == {"alone": "transaction"})
            assert metrics.transactions(PRIMARY) == {"xid": 1, "idle_in_transaction": 1}


async def test_creation_on_the_primary_waits_for_a_prepared_transaction(client: Client, databases: Stack) -> None:
    databases.primary.sql_in_one_transaction("SELECT pg_catalog.pg_current_xact_id()", "PREPARE TRANSACTION 'left'")
    with both_creators(databases.primary) as creators:
        metrics = await until_waiting(client, "transaction")
        for slot in CREATORS:
            blocker = metrics.labels("pgslot_creation_blocker_age_seconds", slot_name=slot)
            assert (blocker["backend_type"], blocker["pid"], blocker["application_name"]) == ("prepared", "", "left")
        assert metrics.transactions(PRIMARY)["prepared"] == 1
        databases.primary.sql("ROLLBACK PREPARED 'left'")
        assert all(creator.wait(10) for creator in creators)
        assert [creator.error for creator in creators] == [None, None]


async def test_consumer_that_has_caught_up_does_not_count_as_a_creation(
    client: Client, databases: Stack, slots: tuple[str, str]
) -> None:
    primary = databases.primary
    with closing(psycopg.connect(f"{primary.conninfo()} replication=database")) as consumer:
        consumer.pgconn.exec_(
            b"START_REPLICATION SLOT logical LOGICAL 0/0 (proto_version '1', publication_names 'shop')"
        )
        event = "SELECT 1 FROM pg_catalog.pg_stat_activity WHERE pid = %s AND wait_event ILIKE 'walsenderwaitforwal'"
        wait_for(lambda: primary.sql(event, [consumer.info.backend_pid]), "the consumer has caught up")
        metrics = Metrics(await scrape(client))
        assert metrics.value("pgslot_active", slot_name=slots[0]) == 1
        assert metrics.value("pgslot_inactive_since_timestamp_seconds", slot_name=slots[0]) is None
        assert metrics.state("pgslot_retention_cause", "cause", slot_name=slots[0]) is None
        assert metrics.value("pgslot_creations_waiting", node=PRIMARY) == 0
        assert metrics.transactions(PRIMARY) == {}


async def test_paused_replay_is_exposed_and_the_reason_of_a_waiting_creation(client: Client, databases: Stack) -> None:
    databases.standby.sql("SELECT pg_catalog.pg_wal_replay_pause()")
    metrics = await scrape_until(client, lambda metrics: metrics.value("pgslot_wal_replay_paused", node=STANDBY) == 1)
    assert metrics.value("pgslot_wal_receiver_streaming", node=STANDBY) == 1
    databases.primary.sql("SELECT pg_catalog.pg_switch_wal()")
    await scrape_until(client, lambda metrics: metrics.value("pgslot_wal_replay_lag_bytes", node=STANDBY))
    if databases.major >= 16:
        with both_creators(databases.standby):
            await until_waiting(client, "replay_paused")
    databases.standby.sql("SELECT pg_catalog.pg_wal_replay_resume()")
    metrics = await scrape_until(
        client, lambda metrics: metrics.value("pgslot_wal_replay_lag_bytes", node=STANDBY) == 0
    )
    assert metrics.value("pgslot_wal_replay_paused", node=STANDBY) == 0


async def test_wal_receiver_that_is_down_is_the_reason_of_a_waiting_creation(client: Client, databases: Stack) -> None:
    with changed_settings(
        databases.standby, primary_conninfo="host=127.0.0.1 port=1", wal_retrieve_retry_interval="100ms"
    ):
        await scrape_until(client, lambda metrics: metrics.value("pgslot_wal_receiver_streaming", node=STANDBY) == 0)
        if databases.major >= 16:
            with both_creators(databases.standby):
                await until_waiting(client, "wal_receiver_down")
        databases.standby.sql("ALTER SYSTEM RESET primary_conninfo")
        databases.standby.sql("SELECT pg_catalog.pg_reload_conf()")
        await scrape_until(client, lambda metrics: metrics.value("pgslot_wal_receiver_streaming", node=STANDBY) == 1)


async def test_creation_on_the_standby_waits_for_running_xacts_or_a_transaction(
    client: Client, databases: Stack
) -> None:
    primary, standby = databases.primary, databases.standby
    if databases.major < 16:
        with standby.create_slot("refused") as creator:
            assert creator.wait(10)
        assert "recovery" in str(creator.error)
        return

    async def force(condition: Callable[[Metrics], Any]) -> Metrics:
        def forced(metrics: Metrics) -> bool:
            return bool(condition(metrics)) or not primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")

        return await scrape_until(client, forced)

    def created(metrics: Metrics) -> bool:
        return metrics.reasons() == {} and metrics.value("pgslot_creations_waiting", node=STANDBY) == 0

    databases.wait_until_idle()
    with both_creators(standby) as creators:
        metrics = await until_waiting(client, "running_xacts")
        assert metrics.found("pgslot_creation_blocker_age_seconds") == []
        await force(created)
        assert [creator.error for creator in creators] == [None, None]
    # All forced records are replayed: a late one, of before the transaction, would complete a creation.
    databases.wait_until_idle()
    with primary.hold_transaction(application_name="holder") as holder, both_creators(standby) as creators:
        metrics = await force(lambda metrics: metrics.reasons() == dict.fromkeys(CREATORS, "transaction"))
        for slot in CREATORS:
            blocker = metrics.labels("pgslot_creation_blocker_age_seconds", slot_name=slot)
            assert (blocker["node"], blocker["backend_type"], blocker["pid"]) == (
                STANDBY,
                "client backend",
                str(holder.pid),
            )
        holder.commit()
        await force(created)
        assert [creator.error for creator in creators] == [None, None]
