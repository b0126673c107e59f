"""Episodes on real servers."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from unittest import mock

from healer.episodes import loop
from healer.episodes.budget import CallBudget
from healer.episodes.loop import Episode, EpisodeCallbacks
from healer.episodes.report import Report
from healer.remedies.attempt import Attempt, AttemptResult
from healer.remedies.force_snapshot.need import MIN_WAIT_SECONDS
from healer.remedies.progress import Outcome
from healer.remedies.registry import FORCE_SNAPSHOT
from healer.remedies.slot_state import SlotKey, evaluate
from pgslot.config.model import Cluster, HealerSettings
from tests.support.hanging_creations import blocked_creation, hanging_creation
from tests.support.running_healer import QUICK, nothing_left_behind, to_primary, until, watched
from tests.support.servers.stack import HEALER_ROLE, POWERLESS_ROLE, Stack


class AttemptRecorder(EpisodeCallbacks):
    """Keeps the attempts of an episode."""

    def __init__(self, attempts: list[Attempt]) -> None:
        self._attempts = attempts

    def attempted(self, attempt: Attempt) -> None:
        self._attempts.append(attempt)


@asynccontextmanager
async def running(
    stack: Stack,
    slot: str,
    settings: HealerSettings = QUICK,
    cluster: Cluster | None = None,
    calls: list[Attempt] | None = None,
) -> AsyncIterator[tuple[Episode, asyncio.Task[Report]]]:
    budget = CallBudget(1000, 0.0, at_start=1000)
    callbacks = AttemptRecorder([] if calls is None else calls)
    episode = Episode(FORCE_SNAPSHOT, cluster or watched(stack), settings, budget, callbacks)
    episode.join("f", SlotKey("standby", slot))
    task = asyncio.create_task(episode.run())
    try:
        yield episode, task
    finally:
        task.cancel()
        await asyncio.wait({task})


async def test_creation_is_healed_after_the_end_of_a_transaction(databases: Stack) -> None:
    """The creation waits for a record, then for the transaction that it names, then for records again."""
    # No call is made between the transaction's end and the snapshot that shows it: it would not count as ours.
    settings = replace(QUICK, interval=20.0)
    with blocked_creation(databases, "s1", "slow job") as (holder, creator):
        async with running(databases, "s1", settings) as (episode, task):
            await until(lambda: "transaction" in episode.report.reasons, "the transaction is observed")
            assert not creator.done
            holder.commit()
            report = await asyncio.wait_for(task, 30)
        assert creator.wait(5)
    databases.drop_slot("s1")
    assert report.outcome is Outcome.HEALED
    assert report.calls >= 2
    assert len(report.lsns) == min(report.calls, 10)
    assert any("application=slow job" in line.text for line in report.timeline)


async def test_paused_replay_is_reported_and_no_call_is_made(databases: Stack) -> None:
    calls: list[Attempt] = []
    with hanging_creation(databases, "s2"):
        databases.standby.sql("SELECT pg_catalog.pg_wal_replay_pause()")
        try:
            async with running(databases, "s2", calls=calls) as (episode, task):
                await until(lambda: episode.report.reasons == ["replay_paused"], "the pause is observed")
                await asyncio.sleep(QUICK.interval * 1.5)
                assert calls == []
                databases.standby.sql("SELECT pg_catalog.pg_wal_replay_resume()")
                report = await asyncio.wait_for(task, 30)
        finally:
            databases.standby.sql("SELECT pg_catalog.pg_wal_replay_resume()")
    databases.drop_slot("s2")
    assert report.outcome is Outcome.HEALED
    assert [call.result for call in calls] == [AttemptResult.OK] * report.calls


async def test_episode_is_cancelled_when_its_alert_resolves(databases: Stack) -> None:
    with databases.primary.hold_transaction():
        databases.wait_until_idle()
        with databases.standby.create_slot("s3"):
            async with running(databases, "s3") as (episode, task):
                await until(lambda: episode.report.calls, "it has called")
                assert not episode.leave("another")
                assert episode.leave("f")
                report = await asyncio.wait_for(task, 10)
    databases.drop_slot("s3")
    assert report.outcome is Outcome.CANCELLED


async def test_episode_gives_up_in_time(databases: Stack) -> None:
    with databases.primary.hold_transaction():
        databases.wait_until_idle()
        with databases.standby.create_slot("s4"):
            async with running(databases, "s4", replace(QUICK, give_up_after=2.5)) as (_, task):
                report = await asyncio.wait_for(task, 20)
    databases.drop_slot("s4")
    assert report.outcome is Outcome.GAVE_UP
    assert report.why == "still waiting: transaction"
    assert report.seconds >= 2.5


async def test_dry_run_makes_no_call(databases: Stack) -> None:
    calls: list[Attempt] = []
    with hanging_creation(databases, "s5") as creator:
        async with running(databases, "s5", cluster=watched(databases, dry_run=True), calls=calls) as (_, task):
            report = await asyncio.wait_for(task, 20)
        assert not creator.wait(1)
    databases.drop_slot("s5")
    assert (report.outcome, calls) == (Outcome.DRY_RUN, [])


async def test_episode_without_the_privilege_ends_at_once(databases: Stack) -> None:
    calls: list[Attempt] = []
    with hanging_creation(databases, "s6"):
        conninfo = to_primary(databases.standby, databases.primary, role=POWERLESS_ROLE)
        async with running(databases, "s6", cluster=watched(databases, conninfo=conninfo), calls=calls) as (_, task):
            report = await asyncio.wait_for(task, 20)
    databases.drop_slot("s6")
    assert (report.outcome, report.why, report.calls) == (Outcome.UNAVAILABLE, "missing_privilege", 0)
    assert len(calls) == 1


async def test_slow_connect_is_followed_by_another_snapshot_before_a_call(databases: Stack) -> None:
    """The first host accepts connections and never answers; meanwhile another client forces the record."""
    silent = socket.create_server(("127.0.0.1", 0))
    ports = f"{silent.getsockname()[1]},{databases.primary.port}"
    conninfo = f"host=127.0.0.1,127.0.0.1 port={ports} dbname=postgres user={HEALER_ROLE}"
    settled = (
        "SELECT 1 FROM pg_catalog.pg_stat_activity WHERE query LIKE 'CREATE_REPLICATION_SLOT%'"
        f" AND extract(epoch FROM pg_catalog.clock_timestamp() - query_start) > {MIN_WAIT_SECONDS}"
    )
    with silent, hanging_creation(databases, "s8") as creator:
        await until(lambda: databases.standby.sql(settled), "it is old enough for a call")
        async with running(databases, "s8", cluster=watched(databases, conninfo=conninfo)) as (episode, task):
            await until(
                lambda: any("waiting" in line.text for line in episode.report.timeline), "it has taken a snapshot"
            )
            while not await asyncio.to_thread(creator.wait, 0.5):
                databases.primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
            episode.leave("f")
            report = await asyncio.wait_for(task, 20)
    databases.drop_slot("s8")
    assert (report.outcome, report.calls) == (Outcome.RESOLVED_ITSELF, 0)


async def test_stop_right_before_a_call_prevents_the_call(databases: Stack) -> None:
    """Without a cancellation, and after the snapshot on which the call would be based."""

    class Stopping(EpisodeCallbacks):
        def may_act(self, *, wanted: bool) -> bool:
            if wanted:
                episode.stop("switched off")
            return True

    with hanging_creation(databases, "s9") as creator:
        episode = Episode(FORCE_SNAPSHOT, watched(databases), QUICK, CallBudget(9, 0.0, at_start=9), Stopping())
        episode.join("f", SlotKey("standby", "s9"))
        report = await asyncio.wait_for(episode.run(), 20)
        assert not creator.done
    databases.drop_slot("s9")
    assert (report.outcome, report.why, report.calls) == (Outcome.CANCELLED, "switched off", 0)


async def test_shutdown_leaves_no_session_and_no_lock(databases: Stack) -> None:
    with databases.primary.hold_transaction():
        databases.wait_until_idle()
        with databases.standby.create_slot("s7"):
            async with running(databases, "s7") as (episode, task):
                await until(lambda: episode.report.calls, "it has called")
                task.cancel()
                await asyncio.wait({task})
                assert episode.report.outcome is Outcome.CANCELLED
    databases.drop_slot("s7")
    await until(lambda: nothing_left_behind(databases.primary, databases.standby), "no session and no lock is left")


async def test_repeated_alerts_cause_no_extra_snapshots(databases: Stack) -> None:
    """Only a new slot causes a snapshot at once."""
    with blocked_creation(databases, "s8"):
        async with running(databases, "s8") as (episode, task):
            await until(lambda: episode.report.calls, "it has called")
            with mock.patch.object(loop, "evaluate", wraps=evaluate) as evaluated:
                for i in range(300):
                    episode.join(f"f{i}", SlotKey("standby", "s8"))
                    await asyncio.sleep(0.005)
                for i in range(299):
                    episode.leave(f"f{i}")
                    await asyncio.sleep(0)
            assert not task.done()
            # In 1.5 s: one every second, and those at short intervals for half a second after a call.
            assert evaluated.call_count < 150


async def test_slot_whose_alert_resolved_does_not_prolong_the_episode(databases: Stack) -> None:
    """The alert about another slot, which needs no help, still fires."""
    with blocked_creation(databases, "s9"):
        async with running(databases, "s9") as (episode, task):
            await until(lambda: episode.report.calls, "it has called")
            episode.join("other", SlotKey("standby", "gone_long_since"))
            assert episode.leave("f")
            report = await asyncio.wait_for(task, 10)
    databases.drop_slot("s9")
    assert {heal.slot_name: heal.outcome for heal in report.slots} == {
        "s9": Outcome.CANCELLED,
        "gone_long_since": Outcome.RESOLVED_ITSELF,
    }
