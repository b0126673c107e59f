"""Each wait reason and retention cause that the other tests do not show, produced on real servers."""

import time
from collections.abc import AsyncIterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from exporter.app import application
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerSettings, Node
from pgslot.config.reload import ConfigReloader
from pgslot.diagnosis import retention
from tests.support.running_healer import impatient
from tests.support.servers.conditions import changed_setting, stopped_process
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import EXPORTER_ROLE, Stack
from tests.support.servers.workload import confirmed_all, streaming_consumer, write_wal

pytestmark = pytest.mark.usefixtures("young_transactions")

Client = TestClient[Any, Any]


@pytest.fixture
async def client(databases: Stack) -> AsyncIterator[Client]:
    servers = (databases.primary, databases.standby)
    nodes = tuple(Node("c", server.name, Conninfo(server.conninfo(EXPORTER_ROLE))) for server in servers)
    config = Config((Cluster("c", nodes, None),), HealerSettings())
    async with TestClient(TestServer(application(ConfigReloader(lambda: config, config)))) as started:
        yield started


async def states(client: Client, metric: str, label: str, slot: str) -> list[str]:
    """Return the values of a state label that are 1 for this slot."""
    text = await (await client.get("/metrics")).text()
    return [
        sample.labels[label]
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == metric and sample.labels["slot_name"] == slot and sample.value == 1
    ]


async def until(client: Client, metric: str, label: str, slot: str, expected: str) -> None:
    deadline = time.monotonic() + 30
    while (shown := await states(client, metric, label, slot)) != [expected]:
        assert time.monotonic() < deadline, f"{metric} of {slot} is {shown}, not {expected}"


async def until_waits_for(client: Client, slot: str, reason: str) -> None:
    await until(client, "pgslot_creation_wait_reason", "reason", slot, reason)


async def until_retained_by(client: Client, slot: str, cause: str) -> None:
    await until(client, "pgslot_retention_cause", "cause", slot, cause)


async def test_creation_waits_for_replay_that_lags(client: Client, databases: Stack) -> None:
    databases.wait_until_idle()
    with databases.standby.create_slot("lags"), stopped_process(databases.standby, "startup"):
        write_wal(databases.primary)
        await until_waits_for(client, "lags", "replay_lag")
    databases.drop_slot("lags")


async def test_creation_waits_for_the_wal_receiver(client: Client, databases: Stack) -> None:
    databases.wait_until_idle()
    with (
        databases.standby.create_slot("cut_off"),
        changed_setting(databases.standby, "primary_conninfo", "'host=127.0.0.1 port=1'"),
    ):
        await until_waits_for(client, "cut_off", "wal_receiver_down")
    databases.drop_slot("cut_off")


async def test_creation_waits_for_replay_in_a_recovery_conflict(client: Client, databases: Stack) -> None:
    """The creator's own snapshot holds replay up, and replay is what the creator waits for."""
    databases.primary.sql("CREATE TABLE vacuumed AS SELECT n FROM pg_catalog.generate_series(1, 1000) AS n")
    databases.wait_until_idle()
    with (
        changed_setting(databases.standby, "max_standby_streaming_delay", "-1"),
        changed_setting(databases.standby, "hot_standby_feedback", "off"),
        databases.standby.create_slot_by_function("conflicts"),
    ):
        await until_waits_for(client, "conflicts", "running_xacts")
        databases.primary.sql("DELETE FROM vacuumed")
        databases.primary.sql("VACUUM (FREEZE) vacuumed")
        await until_waits_for(client, "conflicts", "recovery_conflict")
    databases.primary.sql("DROP TABLE vacuumed")
    databases.drop_slot("conflicts")


async def test_consumer_that_does_not_confirm_is_the_cause(
    client: Client, databases: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "CONFIRM_SECONDS", 5.0)
    with streaming_consumer(databases.primary, "slow", tmp_path) as process:
        await until_retained_by_nothing(client, "slow")
        process.pause()
        write_wal(databases.primary)
        await until_retained_by(client, "slow", "consumer")


async def until_retained_by_nothing(client: Client, slot: str) -> None:
    assert await states(client, "pgslot_retention_cause", "cause", slot) == []


async def test_slot_is_pinned_by_a_transaction_then_stalled_then_freed(
    client: Client, databases: Stack, tmp_path: Path
) -> None:
    """The same slot, pinned for the two reasons that look alike from outside."""
    primary = databases.primary
    primary.sql("CREATE TABLE written (n int)")
    with impatient(), streaming_consumer(primary, "pinned", tmp_path), stopped_process(primary, "background writer"):
        with psycopg.connect(primary.conninfo()) as writer:
            writer.execute("INSERT INTO written VALUES (1)")
            write_wal(primary)
            primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
            wait_for(confirmed_all(primary, "pinned"), "the consumer has confirmed all")
            await until_retained_by(client, "pinned", "transaction")
        write_wal(primary)
        wait_for(confirmed_all(primary, "pinned"), "the consumer has confirmed all")
        await until_retained_by(client, "pinned", "stalled")
        primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
        deadline = time.monotonic() + 20
        while await states(client, "pgslot_retention_cause", "cause", "pinned"):
            assert time.monotonic() < deadline
    primary.sql("DROP TABLE written")


async def test_several_slots_have_their_own_causes_at_once(client: Client, databases: Stack) -> None:
    primary, standby = databases.primary, databases.standby
    primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('unused', 'pgoutput')")
    with ExitStack() as held:
        held.enter_context(primary.hold_transaction())
        # So that no record from before the transaction is left to be replayed, which the standby would start with.
        primary.wait_until_replayed(standby, "pg_catalog.pg_log_standby_snapshot()")
        held.enter_context(primary.create_slot("on_primary"))
        held.enter_context(primary.create_slot_by_function("on_primary_by_function"))
        held.enter_context(standby.create_slot("on_standby"))
        await until_waits_for(client, "on_primary", "transaction")
        await until_waits_for(client, "on_primary_by_function", "transaction")
        primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
        await until_waits_for(client, "on_standby", "transaction")
        await until_retained_by(client, "unused", "inactive")
        await until_retained_by(client, "on_primary", "creation")
        await until_retained_by(client, "on_standby", "creation")
    for slot in ("unused", "on_primary", "on_primary_by_function", "on_standby"):
        databases.drop_slot(slot)


async def test_reason_is_unknown_without_the_primary(databases: Stack) -> None:
    """pg_create_logical_replication_slot() on a standby shows no wait event: the primary is needed."""
    databases.wait_until_idle()
    node = Node("c", "standby", Conninfo(databases.standby.conninfo(EXPORTER_ROLE)))
    config = Config((Cluster("c", (node,), None),), HealerSettings())
    async with TestClient(TestServer(application(ConfigReloader(lambda: config, config)))) as alone:
        with databases.standby.create_slot_by_function("unexplained"):
            await until_waits_for(alone, "unexplained", "unknown")
    databases.drop_slot("unexplained")


async def test_prepared_transaction_on_the_primary_blocks_a_creation_on_the_standby(
    client: Client, databases: Stack
) -> None:
    primary = databases.primary
    primary.sql_in_one_transaction("SELECT pg_catalog.pg_current_xact_id()", "PREPARE TRANSACTION 'forgotten'")
    with databases.standby.create_slot("far_from_it") as creator:
        primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
        await until_waits_for(client, "far_from_it", "transaction")
        text = await (await client.get("/metrics")).text()
        [blocker] = [line for line in text.splitlines() if line.startswith("pgslot_creation_blocker_age_seconds{")]
        for label in ('backend_type="prepared"', 'application_name="forgotten"', 'pid=""', 'node="standby"'):
            assert label in blocker
        primary.sql("ROLLBACK PREPARED 'forgotten'")
        for _ in range(4):
            primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
            if creator.wait(1):
                break
        assert creator.done
    databases.drop_slot("far_from_it")
