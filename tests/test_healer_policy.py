"""What next, and what counts as our own success: tables of cases."""

from dataclasses import replace

import pytest

from exporter.config import HealerSettings
from exporter.diagnosis import Wait, WaitReason
from exporter.retention import RetentionCause
from healer.policy import Attempt, End, LookAgain, Progress, next_step
from healer.primary import Unavailable
from healer.sights import Sight, State, Subject, see
from healer.tracks import Outcome, Track, advance, after_call
from tests.snapshots import CREATION, SLOT, cluster, dark, node

SETTINGS = HealerSettings()
R = WaitReason
C = RetentionCause
USABLE, GONE, UNSEEN = Sight(State.USABLE), Sight(State.GONE), Sight(State.UNSEEN)


def waiting(reason: WaitReason, *, on_primary: bool = False, reserved: bool = True) -> Sight:
    wait = Wait("n", replace(CREATION, wal_reserved=reserved), reason)
    return Sight(State.WAITING, wait, on_primary=on_primary)


def existing(
    cause: RetentionCause,
    restart: int | None = 1000,
    *,
    active: bool = True,
    confirmed: int = 50_000_000,
    obstacle: WaitReason | None = None,
) -> Sight:
    states = {C.STALLED: State.STALLED, C.INVALIDATED: State.LOST}
    slot = SLOT._replace(restart_position=restart, confirmed_position=confirmed, active=active)
    return Sight(states.get(cause, State.USABLE), slot=slot, cause=cause, obstacle=obstacle, on_primary=True)


def young(sight: Sight) -> Sight:
    assert sight.wait is not None
    return replace(sight, wait=replace(sight.wait, creation=replace(sight.wait.creation, wait_seconds=0.9)))


CALL = "call"

STORIES: dict[str, tuple[list[Sight | str], Outcome | None]] = {
    "a record was missing": ([waiting(R.RUNNING_XACTS), CALL, USABLE], Outcome.HEALED),
    "several records were missing": (
        [waiting(R.RUNNING_XACTS), CALL, waiting(R.RUNNING_XACTS), CALL, waiting(R.RUNNING_XACTS), USABLE],
        Outcome.HEALED,
    ),
    "unknown, on a standby": ([waiting(R.UNKNOWN), CALL, USABLE], Outcome.HEALED),
    "unknown, on a primary": ([waiting(R.UNKNOWN, on_primary=True), CALL, USABLE], Outcome.RESOLVED_ITSELF),
    "never called": ([waiting(R.RUNNING_XACTS), USABLE], Outcome.RESOLVED_ITSELF),
    "usable at the first look": ([USABLE], Outcome.RESOLVED_ITSELF),
    "called while a transaction blocked": ([waiting(R.TRANSACTION), CALL, USABLE], Outcome.RESOLVED_ITSELF),
    "our record found a transaction, which ended": (
        [waiting(R.RUNNING_XACTS), CALL, waiting(R.TRANSACTION), USABLE],
        Outcome.RESOLVED_ITSELF,
    ),
    "a transaction ended, and then a record was missing": (
        [waiting(R.TRANSACTION), CALL, waiting(R.RUNNING_XACTS), CALL, USABLE],
        Outcome.HEALED,
    ),
    "called before WAL was reserved": (
        [waiting(R.RUNNING_XACTS, reserved=False), CALL, USABLE],
        Outcome.RESOLVED_ITSELF,
    ),
    "the node went dark for a moment": ([waiting(R.RUNNING_XACTS), CALL, UNSEEN, USABLE], Outcome.HEALED),
    "gone after our call": ([waiting(R.RUNNING_XACTS), CALL, GONE], Outcome.RESOLVED_ITSELF),
    "replay was resumed": ([waiting(R.REPLAY_PAUSED), CALL, USABLE], Outcome.RESOLVED_ITSELF),
    "still waiting": ([waiting(R.RUNNING_XACTS), CALL, waiting(R.RUNNING_XACTS)], None),
    "usable, then waiting again": ([USABLE, waiting(R.RUNNING_XACTS)], None),
    "too young to act on": ([young(waiting(R.RUNNING_XACTS)), CALL, USABLE], Outcome.RESOLVED_ITSELF),
    "stalled, then restart_lsn moved": ([existing(C.STALLED), CALL, existing(C.NONE, 60_000_000)], Outcome.HEALED),
    "stalled, moved without us": ([existing(C.STALLED), existing(C.NONE, 60_000_000)], Outcome.RESOLVED_ITSELF),
    "moved, and still stalled": ([existing(C.STALLED), CALL, existing(C.STALLED, 2000)], None),
    "moved, still stalled, moved again": (
        [existing(C.STALLED), CALL, existing(C.STALLED, 2000), CALL, existing(C.NONE, 60_000_000)],
        Outcome.HEALED,
    ),
    "not moved, the consumer falls behind": ([existing(C.STALLED), CALL, existing(C.CONSUMER)], None),
    "not moved, the consumer falls behind and catches up": (
        [existing(C.STALLED), CALL, existing(C.CONSUMER), existing(C.NONE, 60_000_000)],
        Outcome.HEALED,
    ),
    "stalled, then held by a transaction until it ended": (
        [existing(C.STALLED), CALL, existing(C.TRANSACTION), existing(C.NONE, 60_000_000)],
        Outcome.RESOLVED_ITSELF,
    ),
    "stalled, then dropped": ([existing(C.STALLED), CALL, GONE], Outcome.RESOLVED_ITSELF),
    "stalled, then lost": ([existing(C.STALLED), CALL, existing(C.INVALIDATED, None)], Outcome.GAVE_UP),
    "not stalled at the first look": ([existing(C.CONSUMER)], Outcome.RESOLVED_ITSELF),
    "created, with much WAL behind it": (
        [waiting(R.RUNNING_XACTS), CALL, existing(C.STALLED)],
        Outcome.HEALED,
    ),
    "stalled, dropped, and created anew": (
        [existing(C.STALLED), CALL, waiting(R.RUNNING_XACTS), USABLE],
        Outcome.RESOLVED_ITSELF,
    ),
    "looks after the verdict change nothing": ([waiting(R.RUNNING_XACTS), CALL, USABLE, GONE], Outcome.HEALED),
}


@pytest.mark.parametrize(("story", "verdict"), STORIES.values(), ids=STORIES.keys())
def test_verdict(story: list[Sight | str], verdict: Outcome | None) -> None:
    track: Track | None = None
    for step in story:
        if isinstance(step, Sight):
            track = advance(track, step)
        else:
            assert track is not None
            track = after_call(track, None)
    assert track is not None
    assert track.verdict == verdict


NOW = Progress(now=100.0)
LATE = replace(NOW, now=3600.0)

STEPS: dict[str, tuple[list[Track], Progress, Attempt | LookAgain | Outcome]] = {
    "calls at once": ([Track(waiting(R.RUNNING_XACTS))], NOW, Attempt()),
    "calls while a transaction blocks": ([Track(waiting(R.TRANSACTION))], NOW, Attempt()),
    "calls when only one of two can be helped": (
        [Track(waiting(R.REPLAY_PAUSED)), Track(waiting(R.RUNNING_XACTS))],
        NOW,
        Attempt(),
    ),
    "looks closely right after a call": (
        [Track(waiting(R.RUNNING_XACTS))],
        replace(NOW, last_attempt=99.8, burst_attempts=1),
        LookAgain(0.005),
    ),
    "calls again in the burst": (
        [Track(waiting(R.RUNNING_XACTS))],
        replace(NOW, last_attempt=99.0, burst_attempts=1),
        Attempt(),
    ),
    "slower after the burst": (
        [Track(waiting(R.RUNNING_XACTS))],
        replace(NOW, last_attempt=98.0, burst_attempts=5),
        LookAgain(1.0),
    ),
    "calls again after the interval": (
        [Track(waiting(R.RUNNING_XACTS))],
        replace(NOW, last_attempt=90.0, burst_attempts=5),
        Attempt(),
    ),
    "no burst while a transaction blocks": (
        [Track(waiting(R.TRANSACTION))],
        replace(NOW, last_attempt=98.0, burst_attempts=1),
        LookAgain(1.0),
    ),
    "no burst of attempts during a failover": (
        [Track(waiting(R.RUNNING_XACTS))],
        replace(NOW, last_attempt=98.0, burst_attempts=1, unavailable=Unavailable.NO_PRIMARY),
        LookAgain(1.0),
    ),
    "does not call while replay is paused": ([Track(waiting(R.REPLAY_PAUSED))], NOW, LookAgain(1.0)),
    "does not call without a WAL receiver": ([Track(waiting(R.WAL_RECEIVER_DOWN))], NOW, LookAgain(1.0)),
    "does not call while replay lags": ([Track(waiting(R.REPLAY_LAG))], NOW, LookAgain(1.0)),
    "does not call in a recovery conflict": ([Track(waiting(R.RECOVERY_CONFLICT))], NOW, LookAgain(1.0)),
    "does not call before WAL is reserved": (
        [Track(waiting(R.RUNNING_XACTS, reserved=False))],
        NOW,
        LookAgain(1.0),
    ),
    "does not call when it cannot see": ([Track(UNSEEN)], NOW, LookAgain(1.0)),
    "healed": ([Track(USABLE, called_in_time=True, verdict=Outcome.HEALED)], NOW, Outcome.HEALED),
    "healed one, the other resolved": (
        [Track(USABLE, verdict=Outcome.RESOLVED_ITSELF), Track(USABLE, verdict=Outcome.HEALED)],
        NOW,
        Outcome.HEALED,
    ),
    "resolved itself": ([Track(USABLE, verdict=Outcome.RESOLVED_ITSELF)], NOW, Outcome.RESOLVED_ITSELF),
    "goes on for the one that still waits": (
        [Track(USABLE, verdict=Outcome.HEALED), Track(waiting(R.RUNNING_XACTS))],
        NOW,
        Attempt(),
    ),
    "the alert resolved": (
        [Track(waiting(R.RUNNING_XACTS))],
        replace(NOW, stopped="the alert resolved"),
        Outcome.CANCELLED,
    ),
    "healed although the alert resolved": (
        [Track(USABLE, verdict=Outcome.HEALED)],
        replace(NOW, stopped="the alert resolved"),
        Outcome.HEALED,
    ),
    "no privilege": (
        [Track(waiting(R.RUNNING_XACTS))],
        replace(NOW, unavailable=Unavailable.MISSING_PRIVILEGE),
        Outcome.UNAVAILABLE,
    ),
    "dry run": ([Track(waiting(R.RUNNING_XACTS))], replace(NOW, dry_run=True), Outcome.DRY_RUN),
    "dry run with nothing to call for": (
        [Track(waiting(R.REPLAY_PAUSED))],
        replace(NOW, dry_run=True),
        LookAgain(1.0),
    ),
    "stalled: calls at once": ([Track(existing(C.STALLED), State.STALLED)], NOW, Attempt()),
    "stalled: no burst, no close looks": (
        [Track(existing(C.STALLED), State.STALLED, called_in_time=True)],
        replace(NOW, last_attempt=99.9, burst_attempts=1),
        LookAgain(1.0),
    ),
    "stalled: calls again after the interval": (
        [Track(existing(C.STALLED), State.STALLED, called_in_time=True, record=60_000_000)],
        replace(NOW, last_attempt=90.0, burst_attempts=1),
        Attempt(),
    ),
    "stalled, the consumer is away: one record ahead of it is enough": (
        [Track(existing(C.STALLED, active=False), State.STALLED, called_in_time=True, record=60_000_000)],
        replace(NOW, last_attempt=10.0, burst_attempts=1),
        LookAgain(1.0),
    ),
    "stalled, the consumer has read past the record": (
        [
            Track(
                existing(C.STALLED, active=False, confirmed=60_000_000),
                State.STALLED,
                called_in_time=True,
                record=60_000_000,
            )
        ],
        replace(NOW, last_attempt=10.0, burst_attempts=1),
        Attempt(),
    ),
    "stalled on a standby whose replay is paused": (
        [Track(existing(C.STALLED, obstacle=R.REPLAY_PAUSED), State.STALLED)],
        NOW,
        LookAgain(1.0),
    ),
    "the consumer never came back": (
        [Track(existing(C.STALLED, active=False), State.STALLED, called_in_time=True, record=60_000_000)],
        replace(LATE, calls=1),
        Outcome.NO_EFFECT,
    ),
    "lost": ([Track(existing(C.INVALIDATED), State.STALLED, verdict=Outcome.GAVE_UP)], NOW, Outcome.GAVE_UP),
    "does not call for a creation younger than a second": (
        [Track(young(waiting(R.RUNNING_XACTS)))],
        NOW,
        LookAgain(1.0),
    ),
    "the budget is spent": (
        [Track(waiting(R.RUNNING_XACTS), called_in_time=True)],
        replace(NOW, last_attempt=90.0, spent_budget="calls per episode"),
        Outcome.GAVE_UP,
    ),
    "the budget is spent, but the last call may still help": (
        [Track(waiting(R.RUNNING_XACTS), called_in_time=True)],
        replace(NOW, last_attempt=98.5, burst_attempts=5, spent_budget="calls per episode"),
        LookAgain(1.0),
    ),
    "no burst of messages": (
        [Track(waiting(R.RUNNING_XACTS), called_in_time=True)],
        replace(NOW, last_attempt=98.0, burst_attempts=1, by_message=True),
        LookAgain(1.0),
    ),
    "another message after a while": (
        [Track(waiting(R.RUNNING_XACTS), called_in_time=True)],
        replace(NOW, last_attempt=90.0, burst_attempts=1, by_message=True),
        Attempt(),
    ),
    "gave up on a transaction": ([Track(waiting(R.TRANSACTION))], replace(LATE, calls=9), Outcome.GAVE_UP),
    "gave up without seeing": ([Track(UNSEEN)], LATE, Outcome.GAVE_UP),
    "calls without effect": (
        [Track(waiting(R.RUNNING_XACTS), called_in_time=True)],
        replace(LATE, calls=9),
        Outcome.NO_EFFECT,
    ),
    "no primary for the whole time": (
        [Track(waiting(R.RUNNING_XACTS))],
        replace(LATE, unavailable=Unavailable.NO_PRIMARY),
        Outcome.UNAVAILABLE,
    ),
}


@pytest.mark.parametrize(("tracks", "progress", "expected"), STEPS.values(), ids=STEPS.keys())
def test_next_step(tracks: list[Track], progress: Progress, expected: Attempt | LookAgain | Outcome) -> None:
    step = next_step(tracks, progress, SETTINGS)
    if isinstance(expected, Outcome):
        assert isinstance(step, End)
        assert step.outcome == expected
    else:
        assert step == expected


def test_every_outcome_of_the_policy_is_in_the_table() -> None:
    produced = {case[2] for case in STEPS.values() if isinstance(case[2], Outcome)}
    assert produced == set(Outcome) - {Outcome.ERROR}


def test_see() -> None:
    replica = node("s", recovery=True, slots=(SLOT,), creations=(CREATION,))
    both = cluster(node("p", recovery=False), replica, dark("d"))
    subjects = [
        Subject("s", "w"),
        Subject("s", "s"),
        Subject("s", "other"),
        Subject("elsewhere", "w"),
        Subject("d", "w"),
    ]
    seen = see(both, subjects)
    assert [sight.state for sight in seen.values()] == ["waiting", "usable", "gone", "unseen", "unseen"]
    assert seen[Subject("s", "w")].reason is WaitReason.UNKNOWN


def test_a_slot_between_two_queries_of_a_look_is_unseen() -> None:
    half_seen = node("s", recovery=True, slots=(SLOT._replace(in_creation=True),))
    assert see(cluster(half_seen), [Subject("s", "s")])[Subject("s", "s")].state is State.UNSEEN
