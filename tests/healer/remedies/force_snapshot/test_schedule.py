"""What next: which slots are over, and when the next call is due. Tables of cases."""

from dataclasses import replace

import pytest

from healer.remedies.attempt import Act, Unavailable, Wait
from healer.remedies.base import EpisodeProgress
from healer.remedies.force_snapshot.progress import RecordProgress
from healer.remedies.force_snapshot.schedule import RETAINED_SECONDS, apply_timeouts, next_step
from healer.remedies.progress import Outcome
from healer.remedies.slot_state import SlotCondition, SlotKey, SlotState, condition_of, evaluate
from pgslot.config.model import HealerSettings
from pgslot.diagnosis.creation_wait import WaitReason
from tests.support.builders.slot_states import C, R, existing, waiting
from tests.support.builders.snapshots import CREATION, SLOT, cluster, dark, node

SETTINGS = HealerSettings()
NOW = EpisodeProgress(now=100.0)
LATE = replace(NOW, now=3600.0)
UNSEEN = SlotState(SlotCondition.UNOBSERVED)
MISSING = RecordProgress(waiting(R.RUNNING_XACTS), attempts=1, burst=1)
"""A creation that a call has been made for, and that waits for another record."""
STALLED = RecordProgress(
    existing(C.STALLED), initial_condition=SlotCondition.STALLED, attempts=1, burst=1, called_in_time=True
)
AWAY = RecordProgress(
    existing(C.STALLED, active=False),
    initial_condition=SlotCondition.STALLED,
    attempts=1,
    called_in_time=True,
    record=60_000_000,
)


def young(sight: SlotState) -> SlotState:
    assert sight.wait is not None
    return replace(sight, wait=replace(sight.wait, creation=replace(sight.wait.creation, wait_seconds=0.9)))


Step = float | Wait
"""The pace of an attempt that is due, or how long to wait for the next look."""

STEPS: dict[str, tuple[list[RecordProgress], EpisodeProgress, Step]] = {
    "calls at once": ([RecordProgress(waiting(R.RUNNING_XACTS))], NOW, 1.0),
    "calls while a transaction blocks": ([RecordProgress(waiting(R.TRANSACTION))], NOW, 10.0),
    "calls when only one of two can be helped": (
        [RecordProgress(waiting(R.REPLAY_PAUSED)), RecordProgress(waiting(R.RUNNING_XACTS))],
        NOW,
        1.0,
    ),
    "looks closely right after a call": ([MISSING], replace(NOW, last_attempt=99.8), Wait(0.005)),
    "calls again in the burst": ([MISSING], replace(NOW, last_attempt=99.0), 1.0),
    "slower after the burst": ([replace(MISSING, burst=5)], replace(NOW, last_attempt=98.0), Wait(1.0)),
    "calls again after the interval": ([replace(MISSING, burst=5)], replace(NOW, last_attempt=90.0), 10.0),
    "does not call while a transaction blocks on a primary, which logs its own record then": (
        [RecordProgress(waiting(R.TRANSACTION, on_primary=True))],
        NOW,
        Wait(1.0),
    ),
    "does not call when that transaction has just ended, either": (
        [RecordProgress(waiting(R.UNKNOWN, on_primary=True))],
        NOW,
        Wait(1.0),
    ),
    "no burst while a transaction blocks": (
        [RecordProgress(waiting(R.TRANSACTION), attempts=1, burst=1)],
        replace(NOW, last_attempt=98.0),
        Wait(0.5),
    ),
    "looks for the commit that lets a standby's creation go on": (
        [RecordProgress(waiting(R.TRANSACTION), attempts=1, burst=1)],
        replace(NOW, last_attempt=98.0),
        Wait(0.5),
    ),
    "no burst of attempts during a failover": (
        [replace(MISSING, unavailable=Unavailable.NO_PRIMARY)],
        replace(NOW, last_attempt=98.0),
        Wait(1.0),
    ),
    "a slot that joins waits for no other's interval": (
        [replace(MISSING, burst=50), RecordProgress(waiting(R.RUNNING_XACTS))],
        replace(NOW, last_attempt=99.0),
        1.0,
    ),
    "a slot that joins is no reason for two calls in a short interval": (
        [RecordProgress(waiting(R.TRANSACTION))],
        replace(NOW, last_attempt=99.5),
        Wait(0.5),
    ),
    "a slot that joins has a burst of its own": (
        [replace(MISSING, burst=50), replace(MISSING, burst=2)],
        replace(NOW, last_attempt=99.0),
        1.0,
    ),
    "does not call while replay is paused": ([RecordProgress(waiting(R.REPLAY_PAUSED))], NOW, Wait(1.0)),
    "does not call without a WAL receiver": ([RecordProgress(waiting(R.WAL_RECEIVER_DOWN))], NOW, Wait(1.0)),
    "does not call while replay lags": ([RecordProgress(waiting(R.REPLAY_LAG))], NOW, Wait(1.0)),
    "does not call in a recovery conflict": ([RecordProgress(waiting(R.RECOVERY_CONFLICT))], NOW, Wait(1.0)),
    "does not call before WAL is reserved": (
        [RecordProgress(waiting(R.RUNNING_XACTS, reserved=False))],
        NOW,
        Wait(1.0),
    ),
    "does not call for a creation younger than a second": (
        [RecordProgress(young(waiting(R.RUNNING_XACTS)))],
        NOW,
        Wait(1.0),
    ),
    "does not call when it cannot see": ([RecordProgress(UNSEEN)], NOW, Wait(1.0)),
    "does not call before it can tell": ([RecordProgress(SlotState(SlotCondition.INCONCLUSIVE))], NOW, Wait(1.0)),
    "does not call for what a transaction holds": ([RecordProgress(existing(C.TRANSACTION))], NOW, Wait(1.0)),
    "stalled: calls at once": (
        [RecordProgress(existing(C.STALLED), initial_condition=SlotCondition.STALLED)],
        NOW,
        10.0,
    ),
    "stalled: no burst, no close looks": ([STALLED], replace(NOW, last_attempt=99.9), Wait(1.0)),
    "stalled: calls again after the interval": ([STALLED], replace(NOW, last_attempt=90.0), 10.0),
    "stalled, the consumer is away: one record ahead of it is enough": (
        [AWAY],
        replace(NOW, last_attempt=10.0),
        Wait(1.0),
    ),
    "stalled, the consumer has read past the record": (
        [replace(AWAY, state=existing(C.STALLED, active=False, confirmed=60_000_000))],
        replace(NOW, last_attempt=10.0),
        10.0,
    ),
    "stalled on a standby whose replay is paused": (
        [RecordProgress(existing(C.STALLED, obstacle=R.REPLAY_PAUSED), initial_condition=SlotCondition.STALLED)],
        NOW,
        Wait(1.0),
    ),
    "no burst of messages": ([MISSING], replace(NOW, last_attempt=98.0, by_fallback=True), Wait(1.0)),
    "another message after a while": ([MISSING], replace(NOW, last_attempt=90.0, by_fallback=True), 10.0),
    "no message sooner for a slot that joins": (
        [RecordProgress(waiting(R.RUNNING_XACTS))],
        replace(NOW, last_attempt=98.0, by_fallback=True),
        Wait(1.0),
    ),
}


@pytest.mark.parametrize(("tracks", "progress", "expected"), STEPS.values(), ids=STEPS.keys())
def test_next_step_is_that_of_the_table(
    tracks: list[RecordProgress], progress: EpisodeProgress, expected: Step
) -> None:
    assert next_step(tracks, progress, SETTINGS) == (expected if isinstance(expected, Wait) else Act(expected))


OUTCOMES: dict[str, tuple[RecordProgress, EpisodeProgress, Outcome | None]] = {
    "still waiting": (MISSING, NOW, None),
    "the alert resolved": (replace(MISSING, withdrawn="the alert resolved"), NOW, Outcome.CANCELLED),
    "healed although the alert resolved": (
        replace(MISSING, withdrawn="the alert resolved", outcome=Outcome.HEALED),
        NOW,
        Outcome.HEALED,
    ),
    "no privilege": (replace(MISSING, unavailable=Unavailable.MISSING_PRIVILEGE), NOW, Outcome.UNAVAILABLE),
    "no privilege, but nothing to call for": (
        RecordProgress(waiting(R.REPLAY_PAUSED), unavailable=Unavailable.MISSING_PRIVILEGE),
        NOW,
        None,
    ),
    "no primary for a moment": (replace(MISSING, unavailable=Unavailable.NO_PRIMARY), NOW, None),
    "no primary for the whole time": (replace(MISSING, unavailable=Unavailable.NO_PRIMARY), LATE, Outcome.UNAVAILABLE),
    "dry run": (MISSING, replace(NOW, dry_run=True), Outcome.DRY_RUN),
    "dry run with nothing to call for": (RecordProgress(waiting(R.REPLAY_PAUSED)), replace(NOW, dry_run=True), None),
    "the budget of the episode is spent": (
        replace(MISSING, calls=400, burst=9),
        replace(NOW, last_attempt=90.0),
        Outcome.GAVE_UP,
    ),
    "the budget of the hour is spent": (
        replace(MISSING, burst=9),
        replace(NOW, last_attempt=90.0, budget_spent=True),
        Outcome.GAVE_UP,
    ),
    "the budget is spent, but the last call may still help": (
        replace(MISSING, calls=400, burst=9),
        replace(NOW, last_attempt=98.5),
        None,
    ),
    "gave up on a transaction": (replace(MISSING, state=waiting(R.TRANSACTION)), LATE, Outcome.GAVE_UP),
    "gave up without seeing": (RecordProgress(UNSEEN), LATE, Outcome.GAVE_UP),
    "gave up without being able to tell": (
        RecordProgress(SlotState(SlotCondition.INCONCLUSIVE)),
        LATE,
        Outcome.GAVE_UP,
    ),
    "calls without effect": (replace(MISSING, called_in_time=True), LATE, Outcome.NO_EFFECT),
    "the consumer never came back": (AWAY, LATE, Outcome.NO_EFFECT),
    "its own clock counts": (replace(MISSING, since=3000.0), LATE, None),
    "its own clock is over": (replace(MISSING, since=3000.0), replace(NOW, now=6600.0), Outcome.GAVE_UP),
    "held, but only for a moment": (
        RecordProgress(existing(C.TRANSACTION), retained_since=100.0 - RETAINED_SECONDS + 1),
        NOW,
        None,
    ),
    "held by something else": (
        RecordProgress(existing(C.TRANSACTION), retained_since=100.0 - RETAINED_SECONDS),
        NOW,
        Outcome.GAVE_UP,
    ),
    "held after a call for it: its cause may end": (
        replace(STALLED, state=existing(C.CONSUMER), retained_since=10.0),
        NOW,
        None,
    ),
    "held after a call for it, to the end": (
        replace(STALLED, state=existing(C.CONSUMER), retained_since=10.0),
        LATE,
        Outcome.NO_EFFECT,
    ),
}


@pytest.mark.parametrize(("track", "progress", "expected"), OUTCOMES.values(), ids=OUTCOMES.keys())
def test_timeouts_give_the_outcome_of_the_table(
    track: RecordProgress, progress: EpisodeProgress, expected: Outcome | None
) -> None:
    assert apply_timeouts(track, progress, SETTINGS).outcome == expected


def test_every_outcome_of_a_timeout_is_in_the_table() -> None:
    produced = {case[2] for case in OUTCOMES.values()} - {None}
    assert produced == set(Outcome) - {Outcome.ERROR, Outcome.RESOLVED_ITSELF, Outcome.REFUSED}


def test_reason_names_the_session_that_held_the_lock() -> None:
    track = apply_timeouts(replace(MISSING, locked_out=True, lock_holder="pid=7 user=x application=y"), LATE, SETTINGS)
    assert track.why == (
        "still waiting: running_xacts; the healers' lock is held by a stranger: pid=7 user=x application=y"
    )


def test_evaluate_gives_the_condition_of_each_slot() -> None:
    replica = node("s", recovery=True, slots=(SLOT,), creations=(CREATION,))
    both = cluster(node("p", recovery=False), replica, dark("d"))
    subjects = [
        SlotKey("s", "w"),
        SlotKey("s", "s"),
        SlotKey("s", "other"),
        SlotKey("elsewhere", "w"),
        SlotKey("d", "w"),
    ]
    seen = evaluate(both, subjects)
    assert [sight.condition for sight in seen.values()] == ["waiting", "usable", "dropped", "unobserved", "unobserved"]
    assert seen[SlotKey("s", "w")].reason is WaitReason.UNKNOWN


def test_slot_that_two_queries_show_differently_is_unobserved() -> None:
    half_seen = node("s", recovery=True, slots=(SLOT._replace(in_creation=True),))
    assert evaluate(cluster(half_seen), [SlotKey("s", "s")])[SlotKey("s", "s")].condition is SlotCondition.UNOBSERVED


MUCH = 17 * 1024 * 1024


@pytest.mark.parametrize(
    ("cause", "pinned", "unconfirmed", "state"),
    [
        (C.INVALIDATED, 0, 0, SlotCondition.LOST),
        (C.STALLED, MUCH, 0, SlotCondition.STALLED),
        (C.NONE, 0, 0, SlotCondition.USABLE),
        (C.CREATION, 0, 0, SlotCondition.UNOBSERVED),
        (C.TRANSACTION, MUCH, 0, SlotCondition.RETAINED),
        (C.CONSUMER, 0, MUCH, SlotCondition.RETAINED),
        (C.INACTIVE, 0, 0, SlotCondition.USABLE),
        (C.INACTIVE, MUCH, 0, SlotCondition.INCONCLUSIVE),
        (C.INACTIVE, 0, MUCH, SlotCondition.RETAINED),
        (C.INACTIVE, MUCH, 2 * MUCH, SlotCondition.RETAINED),
        (C.UNKNOWN, MUCH, 0, SlotCondition.INCONCLUSIVE),
        (C.STANDBY, MUCH, 0, SlotCondition.RETAINED),
        (C.IDLE_PUBLICATION, MUCH, 0, SlotCondition.RETAINED),
        ("a new one", MUCH, 0, SlotCondition.RETAINED),
    ],
)
def test_condition_follows_from_the_cause_of_retention(
    cause: C, pinned: int, unconfirmed: int, state: SlotCondition
) -> None:
    slot = SLOT._replace(pinned_wal_bytes=pinned, unconfirmed_wal_bytes=unconfirmed)
    assert condition_of(slot, cause) is state
