"""When the next call is due, and which outcomes come with time. Tables of cases."""

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
from tests.support.builders.snapshots import CREATION, SLOT, cluster, node, unreachable_node

SETTINGS = HealerSettings()
NOW = EpisodeProgress(now=100.0)
LATE = replace(NOW, now=3600.0)
UNOBSERVED = SlotState(SlotCondition.UNOBSERVED)
MISSING = RecordProgress(waiting(R.RUNNING_XACTS), attempts=1, burst=1)
"""A creation that waits for another record after a call."""
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


def young(state: SlotState) -> SlotState:
    assert state.wait is not None
    return replace(state, wait=replace(state.wait, creation=replace(state.wait.creation, wait_seconds=0.9)))


Step = float | Wait
"""The interval of an attempt that is due, or the wait for the next snapshot."""

STEPS: dict[str, tuple[list[RecordProgress], EpisodeProgress, Step]] = {
    "calls at once": ([RecordProgress(waiting(R.RUNNING_XACTS))], NOW, 1.0),
    "calls while a transaction blocks": ([RecordProgress(waiting(R.TRANSACTION))], NOW, 10.0),
    "calls when only one of two can be helped": (
        [RecordProgress(waiting(R.REPLAY_PAUSED)), RecordProgress(waiting(R.RUNNING_XACTS))],
        NOW,
        1.0,
    ),
    "takes snapshots at short intervals right after a call": ([MISSING], replace(NOW, last_attempt=99.8), Wait(0.005)),
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
    "watches for the commit that lets a standby's creation continue": (
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
    "does not call for an unobserved slot": ([RecordProgress(UNOBSERVED)], NOW, Wait(1.0)),
    "does not call for an inconclusive slot": ([RecordProgress(SlotState(SlotCondition.INCONCLUSIVE))], NOW, Wait(1.0)),
    "does not call for a slot that a transaction holds": ([RecordProgress(existing(C.TRANSACTION))], NOW, Wait(1.0)),
    "stalled: calls at once": (
        [RecordProgress(existing(C.STALLED), initial_condition=SlotCondition.STALLED)],
        NOW,
        10.0,
    ),
    "stalled: no burst, no short intervals": ([STALLED], replace(NOW, last_attempt=99.9), Wait(1.0)),
    "stalled: calls again after the interval": ([STALLED], replace(NOW, last_attempt=90.0), 10.0),
    "stalled, the consumer is inactive: one record ahead of it is enough": (
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


@pytest.mark.parametrize(("slots", "episode", "expected"), STEPS.values(), ids=STEPS.keys())
def test_next_step_is_that_of_the_table(slots: list[RecordProgress], episode: EpisodeProgress, expected: Step) -> None:
    assert next_step(slots, episode, SETTINGS) == (expected if isinstance(expected, Wait) else Act(expected))


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
    "gave up without an observation": (RecordProgress(UNOBSERVED), LATE, Outcome.GAVE_UP),
    "gave up, inconclusive": (
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


@pytest.mark.parametrize(("progress", "episode", "expected"), OUTCOMES.values(), ids=OUTCOMES.keys())
def test_timeouts_give_the_outcome_of_the_table(
    progress: RecordProgress, episode: EpisodeProgress, expected: Outcome | None
) -> None:
    assert apply_timeouts(progress, episode, SETTINGS).outcome == expected


def test_every_outcome_of_a_timeout_is_in_the_table() -> None:
    produced = {case[2] for case in OUTCOMES.values()} - {None}
    assert produced == set(Outcome) - {Outcome.ERROR, Outcome.RESOLVED_ITSELF, Outcome.REFUSED}


def test_reason_names_the_session_that_held_the_lock() -> None:
    progress = apply_timeouts(
        replace(MISSING, locked_out=True, lock_holder="pid=7 user=x application=y"), LATE, SETTINGS
    )
    assert progress.why == (
        "still waiting: running_xacts; another client holds the healers' lock: pid=7 user=x application=y"
    )


def test_evaluate_gives_the_condition_of_each_slot() -> None:
    replica = node("s", recovery=True, slots=(SLOT,), creations=(CREATION,))
    both = cluster(node("p", recovery=False), replica, unreachable_node("d"))
    keys = [
        SlotKey("s", "w"),
        SlotKey("s", "s"),
        SlotKey("s", "other"),
        SlotKey("elsewhere", "w"),
        SlotKey("d", "w"),
    ]
    states = evaluate(both, keys)
    assert [state.condition for state in states.values()] == [
        "waiting",
        "usable",
        "dropped",
        "unobserved",
        "unobserved",
    ]
    assert states[SlotKey("s", "w")].reason is WaitReason.UNKNOWN


def test_slot_that_two_queries_show_differently_is_unobserved() -> None:
    inconsistent = node("s", recovery=True, slots=(SLOT._replace(in_creation=True),))
    assert evaluate(cluster(inconsistent), [SlotKey("s", "s")])[SlotKey("s", "s")].condition is SlotCondition.UNOBSERVED


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
