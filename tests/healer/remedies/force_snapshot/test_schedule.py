"""What next: which slots are over, and when the next call is due. Tables of cases."""

from dataclasses import replace

import pytest

from healer.remedies.attempt import Unavailable
from healer.remedies.force_snapshot.schedule import HELD_SECONDS, Attempt, LookAgain, Progress, next_step, settle
from healer.remedies.progress import Outcome, Track
from healer.remedies.slot_state import SlotCondition, SlotKey, SlotState, evaluate, state_of
from pgslot.config.model import HealerSettings
from pgslot.diagnosis.creation_wait import WaitReason
from tests.support.builders.slot_states import C, R, existing, waiting
from tests.support.builders.snapshots import CREATION, SLOT, cluster, dark, node

SETTINGS = HealerSettings()
NOW = Progress(now=100.0)
LATE = replace(NOW, now=3600.0)
UNSEEN = SlotState(SlotCondition.UNSEEN)
MISSING = Track(waiting(R.RUNNING_XACTS), attempts=1, burst=1)
"""A creation that a call has been made for, and that waits for another record."""
STALLED = Track(existing(C.STALLED), trouble=SlotCondition.STALLED, attempts=1, burst=1, called_in_time=True)
AWAY = Track(
    existing(C.STALLED, active=False), trouble=SlotCondition.STALLED, attempts=1, called_in_time=True, record=60_000_000
)


def young(sight: SlotState) -> SlotState:
    assert sight.wait is not None
    return replace(sight, wait=replace(sight.wait, creation=replace(sight.wait.creation, wait_seconds=0.9)))


Step = float | LookAgain
"""The pace of an attempt that is due, or how long to wait for the next look."""

STEPS: dict[str, tuple[list[Track], Progress, Step]] = {
    "calls at once": ([Track(waiting(R.RUNNING_XACTS))], NOW, 1.0),
    "calls while a transaction blocks": ([Track(waiting(R.TRANSACTION))], NOW, 10.0),
    "calls when only one of two can be helped": (
        [Track(waiting(R.REPLAY_PAUSED)), Track(waiting(R.RUNNING_XACTS))],
        NOW,
        1.0,
    ),
    "looks closely right after a call": ([MISSING], replace(NOW, last_attempt=99.8), LookAgain(0.005)),
    "calls again in the burst": ([MISSING], replace(NOW, last_attempt=99.0), 1.0),
    "slower after the burst": ([replace(MISSING, burst=5)], replace(NOW, last_attempt=98.0), LookAgain(1.0)),
    "calls again after the interval": ([replace(MISSING, burst=5)], replace(NOW, last_attempt=90.0), 10.0),
    "does not call while a transaction blocks on a primary, which logs its own record then": (
        [Track(waiting(R.TRANSACTION, on_primary=True))],
        NOW,
        LookAgain(1.0),
    ),
    "does not call when that transaction has just ended, either": (
        [Track(waiting(R.UNKNOWN, on_primary=True))],
        NOW,
        LookAgain(1.0),
    ),
    "no burst while a transaction blocks": (
        [Track(waiting(R.TRANSACTION), attempts=1, burst=1)],
        replace(NOW, last_attempt=98.0),
        LookAgain(0.5),
    ),
    "looks for the commit that lets a standby's creation go on": (
        [Track(waiting(R.TRANSACTION), attempts=1, burst=1)],
        replace(NOW, last_attempt=98.0),
        LookAgain(0.5),
    ),
    "no burst of attempts during a failover": (
        [replace(MISSING, refused=Unavailable.NO_PRIMARY)],
        replace(NOW, last_attempt=98.0),
        LookAgain(1.0),
    ),
    "a slot that joins waits for no other's interval": (
        [replace(MISSING, burst=50), Track(waiting(R.RUNNING_XACTS))],
        replace(NOW, last_attempt=99.0),
        1.0,
    ),
    "a slot that joins is no reason for two calls in a short interval": (
        [Track(waiting(R.TRANSACTION))],
        replace(NOW, last_attempt=99.5),
        LookAgain(0.5),
    ),
    "a slot that joins has a burst of its own": (
        [replace(MISSING, burst=50), replace(MISSING, burst=2)],
        replace(NOW, last_attempt=99.0),
        1.0,
    ),
    "does not call while replay is paused": ([Track(waiting(R.REPLAY_PAUSED))], NOW, LookAgain(1.0)),
    "does not call without a WAL receiver": ([Track(waiting(R.WAL_RECEIVER_DOWN))], NOW, LookAgain(1.0)),
    "does not call while replay lags": ([Track(waiting(R.REPLAY_LAG))], NOW, LookAgain(1.0)),
    "does not call in a recovery conflict": ([Track(waiting(R.RECOVERY_CONFLICT))], NOW, LookAgain(1.0)),
    "does not call before WAL is reserved": ([Track(waiting(R.RUNNING_XACTS, reserved=False))], NOW, LookAgain(1.0)),
    "does not call for a creation younger than a second": (
        [Track(young(waiting(R.RUNNING_XACTS)))],
        NOW,
        LookAgain(1.0),
    ),
    "does not call when it cannot see": ([Track(UNSEEN)], NOW, LookAgain(1.0)),
    "does not call before it can tell": ([Track(SlotState(SlotCondition.UNDECIDED))], NOW, LookAgain(1.0)),
    "does not call for what a transaction holds": ([Track(existing(C.TRANSACTION))], NOW, LookAgain(1.0)),
    "stalled: calls at once": ([Track(existing(C.STALLED), trouble=SlotCondition.STALLED)], NOW, 10.0),
    "stalled: no burst, no close looks": ([STALLED], replace(NOW, last_attempt=99.9), LookAgain(1.0)),
    "stalled: calls again after the interval": ([STALLED], replace(NOW, last_attempt=90.0), 10.0),
    "stalled, the consumer is away: one record ahead of it is enough": (
        [AWAY],
        replace(NOW, last_attempt=10.0),
        LookAgain(1.0),
    ),
    "stalled, the consumer has read past the record": (
        [replace(AWAY, sight=existing(C.STALLED, active=False, confirmed=60_000_000))],
        replace(NOW, last_attempt=10.0),
        10.0,
    ),
    "stalled on a standby whose replay is paused": (
        [Track(existing(C.STALLED, obstacle=R.REPLAY_PAUSED), trouble=SlotCondition.STALLED)],
        NOW,
        LookAgain(1.0),
    ),
    "no burst of messages": ([MISSING], replace(NOW, last_attempt=98.0, by_message=True), LookAgain(1.0)),
    "another message after a while": ([MISSING], replace(NOW, last_attempt=90.0, by_message=True), 10.0),
    "no message sooner for a slot that joins": (
        [Track(waiting(R.RUNNING_XACTS))],
        replace(NOW, last_attempt=98.0, by_message=True),
        LookAgain(1.0),
    ),
}


@pytest.mark.parametrize(("tracks", "progress", "expected"), STEPS.values(), ids=STEPS.keys())
def test_next_step(tracks: list[Track], progress: Progress, expected: Step) -> None:
    assert next_step(tracks, progress, SETTINGS) == (expected if isinstance(expected, LookAgain) else Attempt(expected))


OUTCOMES: dict[str, tuple[Track, Progress, Outcome | None]] = {
    "still waiting": (MISSING, NOW, None),
    "the alert resolved": (replace(MISSING, left="the alert resolved"), NOW, Outcome.CANCELLED),
    "healed although the alert resolved": (
        replace(MISSING, left="the alert resolved", outcome=Outcome.HEALED),
        NOW,
        Outcome.HEALED,
    ),
    "no privilege": (replace(MISSING, refused=Unavailable.MISSING_PRIVILEGE), NOW, Outcome.UNAVAILABLE),
    "no privilege, but nothing to call for": (
        Track(waiting(R.REPLAY_PAUSED), refused=Unavailable.MISSING_PRIVILEGE),
        NOW,
        None,
    ),
    "no primary for a moment": (replace(MISSING, refused=Unavailable.NO_PRIMARY), NOW, None),
    "no primary for the whole time": (replace(MISSING, refused=Unavailable.NO_PRIMARY), LATE, Outcome.UNAVAILABLE),
    "dry run": (MISSING, replace(NOW, dry_run=True), Outcome.DRY_RUN),
    "dry run with nothing to call for": (Track(waiting(R.REPLAY_PAUSED)), replace(NOW, dry_run=True), None),
    "the budget of the episode is spent": (
        replace(MISSING, calls=400, burst=9),
        replace(NOW, last_attempt=90.0),
        Outcome.GAVE_UP,
    ),
    "the budget of the hour is spent": (
        replace(MISSING, burst=9),
        replace(NOW, last_attempt=90.0, hour_spent=True),
        Outcome.GAVE_UP,
    ),
    "the budget is spent, but the last call may still help": (
        replace(MISSING, calls=400, burst=9),
        replace(NOW, last_attempt=98.5),
        None,
    ),
    "gave up on a transaction": (replace(MISSING, sight=waiting(R.TRANSACTION)), LATE, Outcome.GAVE_UP),
    "gave up without seeing": (Track(UNSEEN), LATE, Outcome.GAVE_UP),
    "gave up without being able to tell": (Track(SlotState(SlotCondition.UNDECIDED)), LATE, Outcome.GAVE_UP),
    "calls without effect": (replace(MISSING, called_in_time=True), LATE, Outcome.NO_EFFECT),
    "the consumer never came back": (AWAY, LATE, Outcome.NO_EFFECT),
    "its own clock counts": (replace(MISSING, since=3000.0), LATE, None),
    "its own clock is over": (replace(MISSING, since=3000.0), replace(NOW, now=6600.0), Outcome.GAVE_UP),
    "held, but only for a moment": (
        Track(existing(C.TRANSACTION), held_since=100.0 - HELD_SECONDS + 1),
        NOW,
        None,
    ),
    "held by something else": (Track(existing(C.TRANSACTION), held_since=100.0 - HELD_SECONDS), NOW, Outcome.GAVE_UP),
    "held after a call for it: its cause may end": (
        replace(STALLED, sight=existing(C.CONSUMER), held_since=10.0),
        NOW,
        None,
    ),
    "held after a call for it, to the end": (
        replace(STALLED, sight=existing(C.CONSUMER), held_since=10.0),
        LATE,
        Outcome.NO_EFFECT,
    ),
}


@pytest.mark.parametrize(("track", "progress", "expected"), OUTCOMES.values(), ids=OUTCOMES.keys())
def test_settle(track: Track, progress: Progress, expected: Outcome | None) -> None:
    assert settle(track, progress, SETTINGS).outcome == expected


def test_every_outcome_that_no_look_gives_is_in_the_table() -> None:
    produced = {case[2] for case in OUTCOMES.values()} - {None}
    assert produced == set(Outcome) - {Outcome.ERROR, Outcome.RESOLVED_ITSELF, Outcome.REFUSED}


def test_whoever_held_the_lock_is_named() -> None:
    track = settle(replace(MISSING, locked_out=True, stranger="pid=7 user=x application=y"), LATE, SETTINGS)
    assert track.why == (
        "still waiting: running_xacts; the healers' lock is held by a stranger: pid=7 user=x application=y"
    )


def test_see() -> None:
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
    assert [sight.state for sight in seen.values()] == ["waiting", "usable", "gone", "unseen", "unseen"]
    assert seen[SlotKey("s", "w")].reason is WaitReason.UNKNOWN


def test_a_slot_between_two_queries_of_a_look_is_unseen() -> None:
    half_seen = node("s", recovery=True, slots=(SLOT._replace(in_creation=True),))
    assert evaluate(cluster(half_seen), [SlotKey("s", "s")])[SlotKey("s", "s")].state is SlotCondition.UNSEEN


MUCH = 17 * 1024 * 1024


@pytest.mark.parametrize(
    ("cause", "pinned", "unconfirmed", "state"),
    [
        (C.INVALIDATED, 0, 0, SlotCondition.LOST),
        (C.STALLED, MUCH, 0, SlotCondition.STALLED),
        (C.NONE, 0, 0, SlotCondition.USABLE),
        (C.CREATION, 0, 0, SlotCondition.UNSEEN),
        (C.TRANSACTION, MUCH, 0, SlotCondition.HELD),
        (C.CONSUMER, 0, MUCH, SlotCondition.HELD),
        (C.INACTIVE, 0, 0, SlotCondition.USABLE),
        (C.INACTIVE, MUCH, 0, SlotCondition.UNDECIDED),
        (C.INACTIVE, 0, MUCH, SlotCondition.HELD),
        (C.INACTIVE, MUCH, 2 * MUCH, SlotCondition.HELD),
        (C.UNKNOWN, MUCH, 0, SlotCondition.UNDECIDED),
        (C.STANDBY, MUCH, 0, SlotCondition.HELD),
        (C.IDLE_PUBLICATION, MUCH, 0, SlotCondition.HELD),
        ("a new one", MUCH, 0, SlotCondition.HELD),
    ],
)
def test_what_the_cause_of_retention_makes_of_a_slot(
    cause: C, pinned: int, unconfirmed: int, state: SlotCondition
) -> None:
    slot = SLOT._replace(pinned_wal_bytes=pinned, unconfirmed_wal_bytes=unconfirmed)
    assert state_of(slot, cause) is state
