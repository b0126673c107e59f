"""The reasons why a healer cannot act, on real servers, how each ends; and the fallback."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from healer.remedies.attempt import Act, Unavailable
from healer.remedies.force_snapshot.connection import RecordConnection
from healer.remedies.registry import FORCE_SNAPSHOT
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, HealerConfig, Node
from tests.support.hanging_creations import hanging_creation
from tests.support.running_healer import (
    Healer,
    alert,
    healer_config,
    healing,
    impatient,
    to_primary,
    until,
    usable,
    watched,
)
from tests.support.servers.postgres import Postgres
from tests.support.servers.stack import EXPORTER_ROLE, POWERLESS_ROLE, Stack
from tests.support.servers.wal import RUNNING_XACTS
from tests.support.servers.workload import confirmed_all, streaming_consumer, write_wal

FUNCTION = "FUNCTION pg_catalog.pg_log_standby_snapshot()"
U = Unavailable
MESSAGE = (21, 0x00)
"""rmgrlist.h: RM_LOGICALMSG_ID."""


async def reason(target: HealerConfig) -> Unavailable | None:
    return (await FORCE_SNAPSHOT.check(target)).reason


@pytest.fixture(scope="module")
def fifteen() -> Iterator[Stack]:
    with Stack(major=15) as stack:
        stack.start_databases()
        yield stack


@contextmanager
def renamed_function(server: Postgres) -> Iterator[None]:
    """Hide the function from SQL, as on a provider's server without it."""

    def rename(old: str, new: str) -> None:
        server.sql_in_one_transaction(
            "SET LOCAL allow_system_table_mods = on",
            f"UPDATE pg_catalog.pg_proc SET proname = '{new}' WHERE proname = '{old}'",
            "COMMIT",
        )

    rename("pg_log_standby_snapshot", "pg_hidden")
    try:
        yield
    finally:
        rename("pg_hidden", "pg_log_standby_snapshot")


async def test_server_too_old_is_the_reason_until_the_upgrade(databases: Stack, fifteen: Stack, tmp_path: Path) -> None:
    """The conninfo then leads to the new server, like an address that moves with the upgrade."""
    secret = tmp_path / "conninfo"
    secret.write_text(fifteen.primary.conninfo())
    moving = HealerConfig(Conninfo("", secret), enabled=True, dry_run=False)
    assert await reason(moving) is U.SERVER_TOO_OLD
    async with RecordConnection(moving) as primary:
        call = await primary.act(Act(0.0))
        assert call.capability is not None
        assert (call.result, call.capability.reason) == ("unavailable", U.SERVER_TOO_OLD)
        secret.write_text(databases.primary.conninfo())
        assert (await primary.act(Act(0.0))).result == "ok"
    assert await reason(moving) is None


async def test_missing_function_is_the_reason_until_it_exists(databases: Stack) -> None:
    acting = healer_config(databases.primary.conninfo())
    async with RecordConnection(acting) as primary:
        with renamed_function(databases.primary):
            assert await reason(acting) is U.MISSING_FUNCTION
            call = await primary.act(Act(0.0))
            assert call.capability is not None
            assert (call.result, call.capability.reason) == ("unavailable", U.MISSING_FUNCTION)
        assert await reason(acting) is None
        assert (await primary.act(Act(0.0))).result == "ok"


async def test_missing_privilege_is_the_reason_until_the_grant(databases: Stack) -> None:
    acting = healer_config(to_primary(databases.primary, role=POWERLESS_ROLE))
    async with RecordConnection(acting) as primary:
        assert (await primary.act(Act(0.0))).result == "unavailable"
        databases.primary.sql(f"GRANT EXECUTE ON {FUNCTION} TO {POWERLESS_ROLE}")
        try:
            assert await reason(acting) is None
            assert (await primary.act(Act(0.0))).result == "ok"
        finally:
            databases.primary.sql(f"REVOKE EXECUTE ON {FUNCTION} FROM {POWERLESS_ROLE}")


@pytest.mark.servers
async def test_wal_level_is_the_reason_until_the_restart() -> None:
    with Stack() as stack:
        server = stack.single(wal_level="minimal", max_wal_senders="0", hot_standby_feedback="off")
        acting = healer_config(server.conninfo())
        assert await reason(acting) is U.WAL_LEVEL
        async with RecordConnection(acting) as primary:
            assert (await primary.act(Act(0.0))).result == "unavailable"
            server.sql("ALTER SYSTEM SET wal_level = logical")
            server.restart()
            assert await reason(acting) is None
            assert (await primary.act(Act(0.0))).result == "ok"


@pytest.mark.servers
async def test_no_primary_is_the_reason_until_the_promotion() -> None:
    """SQLSTATE 55000, but not a missing privilege: the conninfo leads to a standby, or a failover is under way."""
    with Stack() as stack:
        stack.start_databases()
        acting = healer_config(stack.standby.conninfo())
        assert await reason(acting) is U.NO_PRIMARY
        async with RecordConnection(acting) as primary:
            call = await primary.act(Act(0.0))
            assert call.capability is not None
            assert (call.result, call.capability.reason) == ("unavailable", U.NO_PRIMARY)
            stack.standby.promote()
            assert (await primary.act(Act(0.0))).result == "ok"


async def test_gauge_clears_itself_after_the_grant(databases: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healer.capability.CHECK_INTERVAL", 0.2)
    powerless = watched(databases, conninfo=to_primary(databases.primary, role=POWERLESS_ROLE))
    labels = {"cluster": "c", "reason": "missing_privilege"}

    async def until_gauge(healer: Healer, expected: float) -> None:
        async with asyncio.timeout(20):
            while await healer.value("pgslot_heal_capability_unavailable", **labels) != expected:  # noqa: ASYNC110 - it is behind a socket
                await asyncio.sleep(0.05)

    async with healing(powerless) as healer:
        await until_gauge(healer, 1)
        databases.primary.sql(f"GRANT EXECUTE ON {FUNCTION} TO {POWERLESS_ROLE}")
        try:
            await until_gauge(healer, 0)
        finally:
            databases.primary.sql(f"REVOKE EXECUTE ON {FUNCTION} FROM {POWERLESS_ROLE}")
        await until_gauge(healer, 1)


async def test_fallback_heals_a_creation_without_the_privilege(databases: Stack) -> None:
    conninfo = to_primary(databases.standby, databases.primary, role=POWERLESS_ROLE)
    databases.wait_until_idle()
    with databases.standby.create_slot("fallback") as creator:
        async with healing(watched(databases, conninfo=conninfo, fallback=True)) as healer:
            await healer.post(alert("fallback"))
            episode = await healer.ended(120)
            labels = {"cluster": "c", "reason": "missing_privilege"}
            assert await healer.value("pgslot_heal_capability_unavailable", **labels) == 1
            assert await healer.value("pgslot_heal_calls_total", cluster="c", result="ok") == 0
            assert await healer.value("pgslot_heal_calls_total", cluster="c", result="emitted") == episode["messages"]
        assert creator.wait(5)
    assert (episode["outcome"], episode["why"]) == ("healed", "usable after our message")
    assert episode["messages"] == episode["calls"] >= 1


async def test_fallback_heals_a_stalled_slot_before_version_16(fifteen: Stack, tmp_path: Path) -> None:
    primary = fifteen.primary
    node = Node("c", "primary", Conninfo(primary.conninfo(EXPORTER_ROLE)))
    conninfo = to_primary(primary)
    with streaming_consumer(primary, "old", tmp_path):
        async with healing(Cluster("c", (node,), healer_config(conninfo, fallback=True))) as healer:
            # Until the healer has acted, nothing else moves the slot.
            with impatient(), primary.no_records_by_itself():
                write_wal(primary)
                await until(confirmed_all(primary, "old"), "the consumer has confirmed all")
                await healer.post(alert("old", node="primary"))
                await healer.until("it has written a message", lambda episodes: episodes[0]["messages"])
            episode = await healer.ended(60)
    assert (episode["outcome"], episode["why"]) == ("healed", "restart_lsn moved after our message")


async def test_nothing_is_written_without_the_fallback(databases: Stack) -> None:
    conninfo = to_primary(databases.primary, role=POWERLESS_ROLE)
    with hanging_creation(databases, "nothing"):
        before = databases.primary.lsn()
        async with healing(watched(databases, conninfo=conninfo)) as healer:
            await healer.post(alert("nothing"))
            assert (await healer.ended())["outcome"] == "unavailable"
        databases.primary.sql("SELECT pg_catalog.pg_switch_wal()")
        kinds = set(databases.primary.kinds_since(before))
        assert kinds, "not even the switch, which proves that the log was read"
        assert not kinds & {RUNNING_XACTS, MESSAGE}


async def test_grant_during_an_episode_ends_the_fallback(databases: Stack) -> None:
    acting = healer_config(to_primary(databases.primary, role=POWERLESS_ROLE), fallback=True)
    async with RecordConnection(acting) as primary:
        assert (await primary.act(Act(0.0))).result == "emitted"
        databases.primary.sql(f"GRANT EXECUTE ON {FUNCTION} TO {POWERLESS_ROLE}")
        try:
            assert (await primary.act(Act(0.0))).result == "ok"
        finally:
            databases.primary.sql(f"REVOKE EXECUTE ON {FUNCTION} FROM {POWERLESS_ROLE}")
        assert (await primary.act(Act(0.0))).result == "error"
        assert (await primary.act(Act(0.0))).result == "emitted"


@pytest.mark.servers
async def test_slot_on_a_cascading_standby_is_healed_on_the_primary() -> None:
    with Stack() as stack:
        stack.start_databases()
        cascade = stack.standby.standby("cascade")
        try:
            stack.wait_until_idle()
            known = watched(stack)
            node = Node("c", "cascade", Conninfo(cascade.conninfo(EXPORTER_ROLE)))
            conninfo = Conninfo(to_primary(cascade, stack.standby, stack.primary))
            assert known.healer is not None
            cluster = replace(known, nodes=(*known.nodes, node), healer=replace(known.healer, conninfo=conninfo))
            with cascade.create_slot("deep") as creator:
                async with healing(cluster) as healer:
                    await healer.post(alert("deep", node="cascade"))
                    episode = await healer.ended()
                assert creator.wait(5)
            assert usable(cascade, "deep")
            assert (episode["outcome"], episode["reasons"]) == ("healed", ["running_xacts"])
        finally:
            cascade.stop()


@pytest.mark.parametrize("major", [16, 17])
@pytest.mark.servers
async def test_creation_is_healed_on_older_versions(major: int) -> None:
    with Stack(major=major) as stack:
        stack.start_databases()
        with hanging_creation(stack, "older") as creator:
            async with healing(watched(stack)) as healer:
                await healer.post(alert("older"))
                episode = await healer.ended()
            assert creator.wait(5)
    assert (episode["outcome"], episode["reasons"]) == ("healed", ["running_xacts"])
