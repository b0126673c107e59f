"""Transactions that endanger a slot, ended on real servers by a healer whose configuration allows it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from healer.app import EPISODES
from healer.commands.grants import ENDER_ROLE, ender_script
from healer.remedies.terminate import schedule
from healer.remedies.terminate.connection import TerminationConnection
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Config, TerminationConfig
from pgslot.config.reload import ConfigReloader
from tests.support.blocking_transactions import (
    APPLICATION,
    POLICY,
    USER,
    alive,
    blocking_creation,
    cluster_with_termination,
    delete_records,
    endangered_alert,
    holding,
    set_up_roles,
    termination_records,
    wait_until_blocked,
)
from tests.support.running_healer import (
    QUICK,
    Healer,
    alert,
    healing,
    impatient,
    nothing_left_behind,
    to_primary,
    until,
    usable,
    watched,
)
from tests.support.servers.stack import Stack
from tests.support.servers.workload import confirmed_all, streaming_consumer, write_wal

CONFIRM = 0.5
"""Seconds between two checks, instead of five."""


@pytest.fixture(autouse=True)
def _ready(databases: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up_roles(databases.primary)
    monkeypatch.setattr(schedule, "CONFIRM_SECONDS", CONFIRM)
    monkeypatch.setattr(schedule, "REFUSED_SECONDS", 2 * CONFIRM)


async def counted(healer: Healer, name: str, **labels: str) -> float | None:
    return await healer.value(f"pgslot_heal_{name}", cluster="c", remedy="end_transaction", **labels)


async def test_creation_on_the_primary_is_unblocked(databases: Stack, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    primary = databases.primary
    with holding(primary) as victim, primary.create_slot("blocked") as creator:
        pid = victim.info.backend_pid
        wait_until_blocked(primary, "blocked")
        async with healing(cluster_with_termination(databases)) as healer:
            assert await healer.post(endangered_alert("blocked")) == (200, "started=1")
            episode = await healer.ended()
            assert await counted(healer, "calls_total", result="ended") == 1
            assert await counted(healer, "calls_total", result="seen") == 1
            assert await counted(healer, "episodes_total", outcome="healed") == 1
            assert await counted(healer, "last_call_timestamp_seconds") is not None
            assert await healer.value("pgslot_heal_calls_total", cluster="c", result="ok") == 0
        assert creator.wait(10)
        assert creator.error is None
        assert not alive(primary, pid)
    assert (episode["outcome"], episode["remedy"]) == ("healed", "end_transaction")
    assert episode["why"] == "usable after we ended the transaction in its way"
    assert usable(primary, "blocked")
    assert [row[:3] for row in termination_records(primary)] == [(USER, APPLICATION, "blocked")]
    [audit] = [record for record in caplog.records if record.message == "ended a transaction"]
    fields = audit.fields  # type: ignore[attr-defined]
    assert fields["who"] == f"pid={pid} user={USER} application={APPLICATION} database=postgres"
    assert fields["alerts"] == ["PgSlotEndangeredByTransaction"]
    assert fields["why"] == "slot blocked waits for it in its creation"
    assert fields["rule"] == "users: [billing], applications: [importer], idle_in_transaction_for: 0.05s"
    await until(lambda: nothing_left_behind(primary, databases.standby), "no session and no lock is left")
    primary.drop_slot("blocked")


async def test_creation_on_the_standby_is_healed_by_both_remedies(databases: Stack) -> None:
    """One remedy ends the transaction, the other forces the record that is missing afterwards."""
    with databases.quiet(), holding(databases.primary), databases.standby.create_slot("both") as creator:
        async with healing(cluster_with_termination(databases)) as healer:
            await healer.post(alert("both"), endangered_alert("both", node="standby"))
            await healer.until(
                "both have ended", lambda shown: len(shown) == 2 and all(episode["outcome"] for episode in shown)
            )
            episodes = {episode["remedy"]: episode for episode in await healer.episodes()}
        assert creator.wait(10)
    assert episodes["end_transaction"]["outcome"] == "healed"
    assert episodes["log_standby_snapshot"]["calls"] >= 1
    assert [row[3] for row in termination_records(databases.primary)] == [
        "slot both waits for it in its creation on a standby"
    ]


async def test_slot_that_retains_wal_is_unblocked(databases: Stack, tmp_path: Path) -> None:
    primary = databases.primary
    with streaming_consumer(primary, "kept", tmp_path), holding(primary) as victim:
        victim.execute("SELECT pg_catalog.pg_logical_emit_message(true, 'held', 'by this transaction')")
        with impatient():
            async with healing(cluster_with_termination(databases)) as healer:
                write_wal(primary)
                await until(confirmed_all(primary, "kept"), "the consumer has confirmed all")
                await healer.post(endangered_alert("kept"))
                while not termination_records(primary):
                    # The diagnosis needs records, as the server writes them by itself, to name the transaction.
                    primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
                    await asyncio.sleep(0.5)
                    [newest, *_] = await healer.episodes()
                    assert newest["outcome"] is None, newest
                episode = await healer.ended(60)
    assert (episode["outcome"], episode["why"]) == (
        "healed",
        "restart_lsn moved after we ended the transaction in its way",
    )
    assert [row[3] for row in termination_records(primary)] == ["slot kept keeps WAL because of it"]


async def test_alert_is_ignored_without_the_section(databases: Stack) -> None:
    """The remedy is off by default, also if the alert arrives."""
    async with healing(watched(databases)) as healer:
        assert await healer.post(endangered_alert("any")) == (200, "ignored_remedy_off=1")
        assert await counted(healer, "calls_total", result="ended") is None
        assert await counted(healer, "capability_unavailable", reason="missing_privilege") is None


async def test_dry_run_terminates_no_session(databases: Stack) -> None:
    primary = databases.primary
    with blocking_creation(primary, "dry") as victim:
        pid = victim.info.backend_pid
        async with healing(cluster_with_termination(databases, replace(POLICY, dry_run=True))) as healer:
            await healer.post(endangered_alert("dry"))
            episode = await healer.ended()
            assert await counted(healer, "calls_total", result="dry_run") == 1
        assert alive(primary, pid)
    assert episode["outcome"] == "dry_run"
    assert episode["why"].startswith(f"would have ended pid={pid} user={USER}")
    assert termination_records(primary) == []
    primary.drop_slot("dry")


async def test_dry_run_of_the_cluster_terminates_no_session(databases: Stack) -> None:
    primary = databases.primary
    with blocking_creation(primary, "dry") as victim:
        pid = victim.info.backend_pid
        async with healing(cluster_with_termination(databases, dry_run=True)) as healer:
            await healer.post(endangered_alert("dry"))
            assert (await healer.ended())["outcome"] == "dry_run"
        assert alive(primary, pid)
    primary.drop_slot("dry")


REFUSALS = {
    "user_not_allowed": {"user": "somebody"},
    "application_not_allowed": {"application": "other"},
    "superuser": {"user": "chief"},
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_refusal_of_a_guard_is_the_outcome(databases: Stack, refusal: str) -> None:
    primary = databases.primary
    policy = replace(POLICY, users=(USER, "chief"))
    with blocking_creation(primary, "refused", **REFUSALS[refusal]) as victim:
        pid = victim.info.backend_pid
        async with healing(cluster_with_termination(databases, policy)) as healer:
            await healer.post(endangered_alert("refused"))
            episode = await healer.ended()
            assert await counted(healer, "refusals_total", guard=refusal) >= 1  # type: ignore[operator]
        assert alive(primary, pid)
    assert episode["outcome"] == "refused"
    assert episode["why"].startswith(f"{refusal}: client backend pid={pid}")
    primary.drop_slot("refused")


async def test_prepared_transaction_survives(databases: Stack) -> None:
    primary = databases.primary
    primary.sql_in_one_transaction("SELECT pg_catalog.pg_current_xact_id()", "PREPARE TRANSACTION 'left'")
    try:
        with primary.create_slot("prepared"):
            wait_until_blocked(primary, "prepared")
            async with healing(cluster_with_termination(databases)) as healer:
                await healer.post(endangered_alert("prepared"))
                episode = await healer.ended()
    finally:
        assert primary.sql("SELECT gid FROM pg_catalog.pg_prepared_xacts") == [("left",)]
        primary.sql("ROLLBACK PREPARED 'left'")
    assert (episode["outcome"], episode["why"]) == ("refused", "prepared: prepared gid=left user=postgres")
    primary.drop_slot("prepared")


async def test_active_session_is_checked_repeatedly_and_survives(databases: Stack) -> None:
    """The check is repeated, and refused every time."""
    primary = databases.primary
    with blocking_creation(primary, "busy") as victim:
        pid = victim.info.backend_pid
        victim.pgconn.send_query(b"SELECT pg_catalog.pg_sleep(600)")
        async with healing(cluster_with_termination(databases)) as healer:
            await healer.post(endangered_alert("busy"))
            await until_asked(healer, "not ended: active")
            async with asyncio.timeout(20):
                while (await counted(healer, "refusals_total", guard="active") or 0) < 3:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            [episode] = await healer.episodes()
            assert sum("not ended" in line["text"] for line in episode["timeline"]) == 1, "it is reported once"
            assert await counted(healer, "episode_active") == 1
            await healer.post(endangered_alert("busy", firing=False))
            assert (await healer.ended())["outcome"] == "cancelled"
        assert alive(primary, pid)
    primary.drop_slot("busy")


async def ask_to_end(healer: Healer, slot: str) -> None:
    """Post the alert of an endangered slot, and wait until the healer has checked the session that blocks it."""
    await healer.post(endangered_alert(slot))
    await until_asked(healer, "may be ended")


async def until_asked(healer: Healer, line: str) -> None:
    def asked(episodes: list[dict[str, Any]]) -> bool:
        return bool(episodes) and any(entry["text"].startswith(line) for entry in episodes[0]["timeline"])

    await healer.until(repr(line), asked)


Stop = Callable[[Healer, ConfigReloader], object]


@asynccontextmanager
async def about_to_end(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Healer, int]]:
    """Run a healer that has checked a session, and is to end it half a minute later."""
    monkeypatch.setattr(schedule, "CONFIRM_SECONDS", 30.0)
    with blocking_creation(stack.primary, "saved") as victim:
        pid = victim.info.backend_pid
        async with healing(cluster_with_termination(stack)) as healer:
            await ask_to_end(healer, "saved")
            yield healer, pid
        # Also after the healer has stopped.
        assert alive(stack.primary, pid)
    assert termination_records(stack.primary) == []
    stack.primary.drop_slot("saved")


async def test_session_survives_if_the_healer_stops_between_two_checks(
    databases: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with about_to_end(databases, monkeypatch) as (healer, _):
        monkeypatch.setattr(schedule, "CONFIRM_SECONDS", 0.0)
        assert healer.client.app is not None
        await healer.client.app[EPISODES].close()
        assert (await healer.episodes())[0]["why"] == "the healer stops"


async def test_session_survives_if_the_alert_resolves_between_two_checks(
    databases: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with about_to_end(databases, monkeypatch) as (healer, _):
        await healer.post(endangered_alert("saved", firing=False))
        assert (await healer.ended())["outcome"] == "cancelled"


async def test_session_survives_if_the_cluster_is_disabled_between_two_checks(
    databases: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with about_to_end(databases, monkeypatch) as (healer, _):
        assert healer.client.app is not None
        monkeypatch.setattr(schedule, "CONFIRM_SECONDS", 0.0)
        off = cluster_with_termination(databases, enabled=False, disabled_reason="CHG-7")
        healer.client.app[EPISODES].reconfigure(Config((off,), QUICK))
        episode = await healer.ended()
    assert (episode["outcome"], episode["why"]) == ("cancelled", "switched off: CHG-7")


async def test_session_survives_if_it_was_used_between_two_checks(
    databases: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the checks it runs a statement, and is idle again: its state_change differs."""
    primary = databases.primary
    monkeypatch.setattr(schedule, "CONFIRM_SECONDS", 1.0)
    with blocking_creation(primary, "used") as victim:
        pid = victim.info.backend_pid
        async with healing(cluster_with_termination(databases)) as healer:
            await ask_to_end(healer, "used")
            victim.execute("SELECT 1")
            await until_asked(healer, "not ended: changed")
            await healer.post(endangered_alert("used", firing=False))
            await healer.ended()
        assert alive(primary, pid)
    primary.drop_slot("used")


async def test_second_session_within_the_hour_survives_also_after_a_restart(databases: Stack) -> None:
    """The limit also holds for a healer that was restarted."""
    primary = databases.primary
    once = replace(POLICY, at_most_per_hour=1)
    outcomes = []
    for slot in ("first", "second"):
        with blocking_creation(primary, slot) as victim:
            pid = victim.info.backend_pid
            async with healing(cluster_with_termination(databases, once)) as healer:
                await healer.post(endangered_alert(slot))
                episode = await healer.ended()
                outcomes.append((episode["outcome"], alive(primary, pid)))
        primary.drop_slot(slot)
    assert outcomes == [("healed", False), ("refused", True)]
    assert episode["why"].startswith("hour_spent: ")
    assert len(termination_records(primary)) == 1
    delete_records(primary)


async def test_hour_is_spent_also_when_a_failover_has_lost_the_rows(databases: Stack) -> None:
    """For the healer that ended the session, and for one that has seen the row before it was lost."""
    primary = databases.primary
    cluster = cluster_with_termination(databases, replace(POLICY, at_most_per_hour=1))
    async with healing(cluster) as acted:
        with holding(primary), primary.create_slot("first"):
            wait_until_blocked(primary, "first")
            await acted.post(endangered_alert("first"))
            assert (await acted.ended())["outcome"] == "healed"
        async with healing(cluster) as observed:
            async with asyncio.timeout(20):
                while await counted(observed, "calls_remaining", budget="hour") != 0:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            delete_records(primary)
            with blocking_creation(primary, "second") as victim:
                for healer in (acted, observed):
                    await healer.post(endangered_alert("second"))
                    episode = await healer.ended()
                    assert (episode["outcome"], episode["why"][:10]) == ("refused", "hour_spent")
                assert alive(primary, victim.info.backend_pid)
    for slot in ("first", "second"):
        primary.drop_slot(slot)


async def test_two_replicas_terminate_one_session(databases: Stack) -> None:
    """Two transactions block the slot, and both healers get the alert at the same time."""
    primary = databases.primary
    once = replace(POLICY, at_most_per_hour=1)
    with ExitStack() as stack:
        victims = [stack.enter_context(holding(primary)).info.backend_pid for _ in range(2)]
        stack.enter_context(primary.create_slot("two"))
        wait_until_blocked(primary, "two")
        async with healing(cluster_with_termination(databases, once)) as one:
            assert await one.episodes() == []
            async with healing(cluster_with_termination(databases, once)) as other:
                await asyncio.gather(one.post(endangered_alert("two")), other.post(endangered_alert("two")))
                episodes = await asyncio.gather(one.ended(), other.ended())
        assert sum(alive(primary, pid) for pid in victims) == 1
        assert [episode["outcome"] for episode in episodes] == ["refused", "refused"]
    assert len(termination_records(primary)) == 1
    primary.drop_slot("two")


async def test_no_session_is_terminated_after_a_failover_between_two_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check on the former primary does not count on the new one."""
    monkeypatch.setattr(schedule, "CONFIRM_SECONDS", 3.0)
    with Stack() as stack:
        stack.start_databases()
        set_up_roles(stack.primary)
        with ExitStack() as sessions:
            sessions.enter_context(holding(stack.primary))
            sessions.enter_context(stack.primary.create_slot("over"))
            wait_until_blocked(stack.primary, "over")
            stack.primary.wait_until_replayed(stack.standby)
            async with healing(cluster_with_termination(stack)) as healer:
                await ask_to_end(healer, "over")
                stack.primary.kill()
                stack.standby.promote()
                with holding(stack.standby) as bystander:
                    await healer.until(
                        "it observes what is left", lambda episodes: "unobserved" in str(episodes[0]["timeline"])
                    )
                    await asyncio.sleep(4.0)
                    assert alive(stack.standby, bystander.info.backend_pid)
                    assert termination_records(stack.standby) == []
                await healer.post(endangered_alert("over", firing=False))
                assert (await healer.ended())["outcome"] == "cancelled"


async def test_missing_privilege_is_shown_before_any_alert(databases: Stack) -> None:
    databases.primary.sql(f"REVOKE pg_signal_backend FROM {ENDER_ROLE}")
    try:
        async with healing(cluster_with_termination(databases)) as healer:
            reason = {"reason": "missing_privilege"}
            async with asyncio.timeout(20):
                while await counted(healer, "capability_unavailable", **reason) != 1:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            page = await (await healer.client.get("/")).text()
            assert "GRANT pg_signal_backend TO" in page
    finally:
        set_up_roles(databases.primary)


async def test_act_in_flight_is_cancelled_on_the_server_when_the_healer_is_switched_off(
    databases: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    """The act waits for its table. The server's answer to the cancel request is waited for, and nothing was done."""
    caplog.set_level("INFO")
    primary = databases.primary
    with blocking_creation(primary, "inflight") as victim:
        pid = victim.info.backend_pid
        async with healing(cluster_with_termination(databases)) as healer:
            await ask_to_end(healer, "inflight")
            with primary.lock("pgslot.ended", UNWRITABLE):
                await until(lambda: primary.sql(ACT_WAITS), "the act waits for its table")
                assert healer.client.app is not None
                off = cluster_with_termination(databases, enabled=False, disabled_reason="CHG-7")
                healer.client.app[EPISODES].reconfigure(Config((off,), QUICK))
                await until(lambda: not primary.sql(ACT_WAITS), "the server has cancelled the act", 5)
            episode = await healer.ended()
            assert await counted(healer, "calls_total", result="error") == 1
        assert alive(primary, pid)
    assert (episode["outcome"], episode["why"]) == ("cancelled", "switched off: CHG-7")
    assert "canceling statement due to user request" in str(episode["timeline"])
    assert termination_records(primary) == []
    primary.drop_slot("inflight")


async def test_act_that_was_done_before_the_cancel_request_is_reported_as_done(
    databases: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    primary = databases.primary

    async def too_late(connection: TerminationConnection) -> None:
        """Ask the server to cancel only when the table is free again and the session has ended."""
        connection.interrupted = True
        lock.close()
        await until(lambda: not alive(primary, pid), "the act has ended the session")

    monkeypatch.setattr(TerminationConnection, "interrupt", too_late)
    with holding(primary) as victim, primary.create_slot("late"), ExitStack() as lock:
        pid = victim.info.backend_pid
        wait_until_blocked(primary, "late")
        async with healing(cluster_with_termination(databases)) as healer:
            await ask_to_end(healer, "late")
            lock.enter_context(primary.lock("pgslot.ended", UNWRITABLE))
            await until(lambda: primary.sql(ACT_WAITS), "the act waits for its table")
            assert healer.client.app is not None
            await healer.client.app[EPISODES].close()
            [episode] = await healer.episodes()
            assert await counted(healer, "calls_total", result="ended") == 1
    assert episode["outcome"] == "cancelled"
    assert episode["why"].startswith(f"the healer stops; we have terminated client backend pid={pid}")
    assert [record.message for record in caplog.records if record.message == "ended a transaction"]
    assert len(termination_records(primary)) == 1
    primary.drop_slot("late")


async def test_act_whose_connection_is_lost_is_followed_up_and_repeated(databases: Stack) -> None:
    """The primary shows that it did nothing: no row, and the session is there."""
    primary = databases.primary
    with blocking_creation(primary, "lost") as victim:
        pid = victim.info.backend_pid
        async with healing(cluster_with_termination(databases)) as healer:
            await ask_to_end(healer, "lost")
            with primary.lock("pgslot.ended", UNWRITABLE):
                await until(lambda: primary.sql(ACT_WAITS), "the act waits for its table")
                primary.sql(ACT_WAITS.replace("SELECT 1", "SELECT pg_catalog.pg_terminate_backend(pid)"))
                await until(lambda: not primary.sql(ACT_WAITS), "its session is gone")
                assert alive(primary, pid)
            assert (await healer.ended())["outcome"] == "healed"
            assert await counted(healer, "calls_total", result="in_doubt") == 0
            assert await counted(healer, "calls_total", result="ended") == 1
            assert await counted(healer, "calls_total", result="error") == 1, "there is a primary all the time"
            assert await counted(healer, "calls_total", result="unavailable") == 0
    assert len(termination_records(primary)) == 1
    primary.drop_slot("lost")


UNWRITABLE = "SHARE"
"""The check of the role, which only reads the table, goes on: a healer that has lost its connection makes it again."""
ACT_WAITS = "SELECT 1 FROM pg_catalog.pg_stat_activity WHERE usename = 'pgslot_ender' AND wait_event_type = 'Lock'"


async def test_session_that_holds_the_healers_lock_is_named(databases: Stack) -> None:
    primary = databases.primary
    with psycopg.connect(primary.conninfo("somebody"), autocommit=True) as stranger:
        stranger.execute("SELECT pg_catalog.pg_advisory_lock(x'706773656e64'::pg_catalog.int8)")
        with blocking_creation(primary, "locked") as victim:
            async with healing(cluster_with_termination(databases)) as healer:
                await healer.post(endangered_alert("locked"))
                name = f"pid={stranger.info.backend_pid} user=somebody application="
                await until_asked(healer, f"not ended: {name}")
                await healer.post(endangered_alert("locked", firing=False))
                await healer.ended()
            assert alive(primary, victim.info.backend_pid)
    primary.drop_slot("locked")


async def test_audit_row_is_not_sent_to_subscribers_of_all_tables(databases: Stack) -> None:
    """A native subscriber has no such table: a row that was sent would stop it."""
    primary = databases.primary
    for name in ("published", "subscriber"):
        primary.sql(f"CREATE DATABASE {name}")
    with ExitStack() as stack:
        published, subscriber = (
            stack.enter_context(psycopg.connect(primary.conninfo(dbname=name), autocommit=True))
            for name in ("published", "subscriber")
        )

        def received() -> list[int]:
            return [row[0] for row in subscriber.execute("SELECT id FROM public.items ORDER BY id")]

        published.execute(ender_script(ENDER_ROLE).encode())
        published.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        published.execute("SELECT pg_catalog.pg_create_logical_replication_slot('sub', 'pgoutput')")
        for connection in (published, subscriber):
            connection.execute("CREATE TABLE public.items (id int PRIMARY KEY)")
        subscriber.execute(
            f"CREATE SUBSCRIPTION sub CONNECTION '{primary.conninfo(dbname='published')}' PUBLICATION everything"
            " WITH (create_slot = false, slot_name = 'sub', copy_data = false)".encode()
        )
        try:
            published.execute("INSERT INTO public.items VALUES (1)")
            await until(lambda: received() == [1], "the subscriber has the first row")
            conninfo = to_primary(primary, role=ENDER_ROLE).replace("dbname=postgres", "dbname=published")
            cluster = watched(databases, termination=TerminationConfig(Conninfo(conninfo), POLICY))
            with holding(primary), primary.create_slot("blocked"):
                wait_until_blocked(primary, "blocked")
                async with healing(cluster) as healer:
                    await healer.post(endangered_alert("blocked"))
                    assert (await healer.ended())["outcome"] == "healed"
            assert published.execute("SELECT slot_name FROM pgslot.ended").fetchall() == [("blocked",)]
            published.execute("INSERT INTO public.items VALUES (2)")
            await until(lambda: received() == [1, 2], "the subscriber has the row that followed")
        finally:
            subscriber.execute("ALTER SUBSCRIPTION sub DISABLE")
            subscriber.execute("ALTER SUBSCRIPTION sub SET (slot_name = NONE)")
            subscriber.execute("DROP SUBSCRIPTION sub")
    for slot in ("sub", "blocked"):
        primary.drop_slot(slot)
    for name in ("published", "subscriber"):
        primary.sql(f"DROP DATABASE {name} WITH (FORCE)")
