"""A healed slot is watched while its alert fires on: its consumer may create it again under the same name."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from healer.episodes import deadlines
from healer.episodes.watch import needs_heal
from healer.remedies.force_snapshot.progress import RecordProgress
from healer.remedies.progress import Outcome
from healer.remedies.registry import FORCE_SNAPSHOT
from healer.remedies.slot_state import SlotCondition, SlotState
from healer.webhook.payload import Action, Alert
from pgslot.config.model import Config
from pgslot.diagnosis.creation_wait import CreationWait, WaitReason
from pgslot.diagnosis.retention import RetentionCause
from tests.support.builders.episodes import RecordedManager, firing_alert, healer_config
from tests.support.builders.slot_states import existing, waiting
from tests.support.builders.snapshots import CREATION
from tests.support.running_healer import QUICK, until, watched
from tests.support.servers.stack import Stack

HEALED = RecordProgress(state=existing(RetentionCause.NONE)).end(Outcome.HEALED, "usable after our call")
DROPPED = SlotState(SlotCondition.DROPPED)
YOUNG = SlotState(
    SlotCondition.WAITING, CreationWait("n", replace(CREATION, wait_seconds=0.3), WaitReason.RUNNING_XACTS)
)


@pytest.mark.parametrize(
    ("progress", "state", "expected"),
    [
        (HEALED, waiting(WaitReason.RUNNING_XACTS), True),
        (HEALED, waiting(WaitReason.TRANSACTION), True),
        (replace(HEALED, state=DROPPED), waiting(WaitReason.RUNNING_XACTS), True),
        # It may end by itself within milliseconds.
        (HEALED, YOUNG, False),
        # No record helps these.
        (HEALED, waiting(WaitReason.RUNNING_XACTS, on_primary=True), False),
        (HEALED, waiting(WaitReason.RUNNING_XACTS, reserved=False), False),
        (HEALED, waiting(WaitReason.REPLAY_PAUSED), False),
        (HEALED, existing(RetentionCause.NONE), False),
        (HEALED, DROPPED, False),
        (HEALED, SlotState(SlotCondition.UNOBSERVED), False),
        # Its heal did not end well: that is for the next repeat of its alert.
        (replace(HEALED, outcome=Outcome.GAVE_UP), waiting(WaitReason.RUNNING_XACTS), False),
    ],
)
def test_healed_slot_needs_another_heal_only_when_a_record_helps_it(
    progress: RecordProgress, state: SlotState, *, expected: bool
) -> None:
    assert needs_heal(FORCE_SNAPSHOT, progress, state) is expected


@pytest.fixture
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "WATCH_INTERVAL", 0.1)


@pytest.mark.usefixtures("brisk")
async def test_slot_created_again_while_its_alert_fires_is_healed_again(databases: Stack) -> None:
    recorded = RecordedManager(Config((watched(databases),), QUICK))
    with databases.quiet():
        with databases.standby.create_slot("again") as creator:
            recorded.manager.submit(firing_alert("again", node="standby"))
            await until(lambda: creator.wait(0), "the slot is usable")
        await recorded.until_idle()
        databases.drop_slot("again")
        # A record of the first heal that is still on its way would end the second creation before anybody sees it.
        databases.primary.wait_until_replayed(databases.standby)
        with databases.standby.create_slot("again") as creator:
            await until(lambda: creator.wait(0), "the slot is usable again")
        await recorded.until_idle()
        assert [report.outcome for report in recorded.manager.reports] == ["healed", "healed"]
        databases.drop_slot("again")
        # A silence, or the alert's end: it is listed no more, and nothing is done about the slot.
        recorded.manager.seen.retain(set(), as_of=float("inf"))
        databases.primary.wait_until_replayed(databases.standby)
        with databases.standby.create_slot("again") as creator:
            assert not creator.wait(2.5)
            databases.primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
            await until(lambda: creator.wait(0), "the test has ended the wait")
        assert len(recorded.manager.reports) == 2
    await recorded.manager.close()
    databases.drop_slot("again")


@pytest.mark.usefixtures("brisk")
async def test_watch_ends_with_its_time(databases: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "WATCH_SECONDS", 0.5)
    recorded = RecordedManager(Config((watched(databases),), QUICK))
    databases.standby.drop_slot("watched")
    recorded.manager.submit(firing_alert("watched", node="standby"))
    await recorded.until_idle()
    session = "SELECT 1 FROM pg_catalog.pg_stat_activity WHERE application_name LIKE 'pg_slot_healer%'"
    await until(lambda: databases.standby.sql(session), "a session watches the slot")
    await until(lambda: not databases.standby.sql(session), "the session is gone")
    assert len(recorded.manager.reports) == 1
    await recorded.manager.close()


NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


def fired(seconds: float) -> Alert:
    return replace(firing_alert(), starts_at=NOON + timedelta(seconds=seconds))


def ended(began: float, seconds: float) -> Alert:
    return replace(fired(began), firing=False, ends_at=NOON + timedelta(seconds=seconds))


async def test_late_webhook_about_an_earlier_end_of_the_alert_does_not_end_its_heal() -> None:
    """The second of two Alertmanagers sends it 15 s late, while the alert fires again."""
    recorded = RecordedManager(healer_config())
    assert recorded.manager.submit(fired(0)) is Action.STARTED
    assert recorded.manager.submit(fired(20)) is Action.JOINED
    assert recorded.manager.submit(ended(0, 14)) is Action.IGNORED_RESOLVED
    assert recorded.running == 1
    assert recorded.manager.submit(ended(20, 34)) is Action.RESOLVED
    await recorded.until_idle()
    await recorded.manager.close()
