"""What next, and what counts as our own success: tables of cases."""

from dataclasses import replace

import pytest

from exporter.config import HealerSettings
from exporter.diagnosis import Wait, WaitReason
from healer.policy import (
    Attempt,
    End,
    LookAgain,
    Outcome,
    Progress,
    Sight,
    State,
    Subject,
    Track,
    advance,
    after_call,
    next_step,
    see,
)
from healer.primary import Unavailable
from tests.snapshots import CREATION, SLOT, cluster, dark, node

SETTINGS = HealerSettings()
R = WaitReason
USABLE, GONE, UNSEEN = Sight(State.USABLE), Sight(State.GONE), Sight(State.UNSEEN)


def waiting(reason: WaitReason, *, on_primary: bool = False, reserved: bool = True) -> Sight:
    return Sight(State.WAITING, Wait("n", replace(CREATION, wal_reserved=reserved), reason), on_primary)


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
            track = after_call(track)
    assert track is not None
    assert track.verdict == verdict


NOW = Progress(now=100.0, firing=True)
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
        replace(NOW, last_attempt=99.8, attempts=1, burst_attempts=1),
        LookAgain(0.005),
    ),
    "calls again in the burst": (
        [Track(waiting(R.RUNNING_XACTS))],
        replace(NOW, last_attempt=99.0, attempts=1, burst_attempts=1),
        Attempt(),
    ),
    "slower after the burst": (
        [Track(waiting(R.RUNNING_XACTS))],
        replace(NOW, last_attempt=98.0, attempts=5, burst_attempts=5),
        LookAgain(1.0),
    ),
    "calls again after the interval": (
        [Track(waiting(R.RUNNING_XACTS))],
        replace(NOW, last_attempt=90.0, attempts=5, burst_attempts=5),
        Attempt(),
    ),
    "no burst while a transaction blocks": (
        [Track(waiting(R.TRANSACTION))],
        replace(NOW, last_attempt=98.0, attempts=1, burst_attempts=1),
        LookAgain(1.0),
    ),
    "no burst of attempts during a failover": (
        [Track(waiting(R.RUNNING_XACTS))],
        replace(NOW, last_attempt=98.0, attempts=1, burst_attempts=1, unavailable=Unavailable.NO_PRIMARY),
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
    "the alert resolved": ([Track(waiting(R.RUNNING_XACTS))], replace(NOW, firing=False), Outcome.CANCELLED),
    "healed although the alert resolved": (
        [Track(USABLE, verdict=Outcome.HEALED)],
        replace(NOW, firing=False),
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
    half_seen = node("s", recovery=True, slots=(replace(SLOT, in_creation=True),))
    assert see(cluster(half_seen), [Subject("s", "s")])[Subject("s", "s")].state is State.UNSEEN
