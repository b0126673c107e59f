"""Transactions that endanger a slot, ended on real servers by a healer whose configuration allows it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from healer.app import EPISODES
from healer.commands.grants import ENDER_ROLE
from healer.remedies.terminate import schedule
from pgslot.config.model import Config
from pgslot.config.reload import ConfigReloader
from tests.support.blocking_transactions import (
    APPLICATION,
    POLICY,
    USER,
    alive,
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
    with holding(primary) as victim, primary.create_slot("dry"):
        pid = victim.info.backend_pid
        wait_until_blocked(primary, "dry")
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
    with holding(primary) as victim, primary.create_slot("dry"):
        pid = victim.info.backend_pid
        wait_until_blocked(primary, "dry")
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
    with holding(primary, **REFUSALS[refusal]) as victim, primary.create_slot("refused"):
        pid = victim.info.backend_pid
        wait_until_blocked(primary, "refused")
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
    with holding(primary) as victim, primary.create_slot("busy"):
        pid = victim.info.backend_pid
        wait_until_blocked(primary, "busy")
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


async def until_asked(healer: Healer, line: str) -> None:
    def asked(episodes: list[dict[str, Any]]) -> bool:
        return bool(episodes) and any(entry["text"].startswith(line) for entry in episodes[0]["timeline"])

    await healer.until(repr(line), asked)


Stop = Callable[[Healer, ConfigReloader], object]


@asynccontextmanager
async def about_to_end(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Healer, int]]:
    """Run a healer that has checked a session, and is to end it half a minute later."""
    monkeypatch.setattr(schedule, "CONFIRM_SECONDS", 30.0)
    with holding(stack.primary) as victim, stack.primary.create_slot("saved"):
        pid = victim.info.backend_pid
        wait_until_blocked(stack.primary, "saved")
        async with healing(cluster_with_termination(stack)) as healer:
            await healer.post(endangered_alert("saved"))
            await until_asked(healer, "may be ended")
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
    with holding(primary) as victim, primary.create_slot("used"):
        pid = victim.info.backend_pid
        wait_until_blocked(primary, "used")
        async with healing(cluster_with_termination(databases)) as healer:
            await healer.post(endangered_alert("used"))
            await until_asked(healer, "may be ended")
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
        with holding(primary) as victim, primary.create_slot(slot):
            pid = victim.info.backend_pid
            wait_until_blocked(primary, slot)
            async with healing(cluster_with_termination(databases, once)) as healer:
                await healer.post(endangered_alert(slot))
                episode = await healer.ended()
                outcomes.append((episode["outcome"], alive(primary, pid)))
        primary.drop_slot(slot)
    assert outcomes == [("healed", False), ("refused", True)]
    assert episode["why"].startswith("hour_spent: ")
    assert len(termination_records(primary)) == 1
    delete_records(primary)


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
                await healer.post(endangered_alert("over"))
                await until_asked(healer, "may be ended")
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
