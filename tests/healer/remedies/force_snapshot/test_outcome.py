"""What counts as our own success: stories of snapshots and calls, and the outcome of the slot."""

from dataclasses import replace

import pytest

from healer.remedies.attempt import AttemptResult, Capability, Unavailable
from healer.remedies.force_snapshot.connection import RecordAttempt
from healer.remedies.force_snapshot.outcome import apply_attempt, apply_observation, should_reopen
from healer.remedies.force_snapshot.progress import RecordProgress
from healer.remedies.progress import Outcome
from healer.remedies.slot_state import SlotCondition, SlotState
from pgslot.diagnosis.creation_wait import WaitReason
from pgslot.diagnosis.retention import RetentionCause
from tests.support.builders.slot_states import C, R, existing, lsn, persistent, temporary, waiting, without_copy

USABLE, DROPPED, UNOBSERVED = (
    SlotState(SlotCondition.USABLE),
    SlotState(SlotCondition.DROPPED),
    SlotState(SlotCondition.UNOBSERVED),
)
INCONCLUSIVE = SlotState(SlotCondition.INCONCLUSIVE)
OURS = 60_000_000
"""Where a record of ours begins."""


def call(at: int = OURS, result: AttemptResult = AttemptResult.OK) -> RecordAttempt:
    return RecordAttempt(result, lsn=lsn(at + 56), before=lsn(at))


CALL = call()
MESSAGE = call(result=AttemptResult.EMITTED)
LOCKED = RecordAttempt(AttemptResult.LOCKED)
REFUSED = RecordAttempt(AttemptResult.UNAVAILABLE, capability=Capability(Unavailable.NO_PRIMARY))
Story = list[SlotState | RecordAttempt]
"""Snapshots and attempts, a second apart."""


def young(state: SlotState) -> SlotState:
    assert state.wait is not None
    return replace(state, wait=replace(state.wait, creation=replace(state.wait.creation, wait_seconds=0.9)))


def begun(state: SlotState, *, pid: int = 1, restart: int = 1000) -> SlotState:
    """Return the creation of another session, or from another position."""
    assert state.wait is not None
    creation = replace(state.wait.creation, pid=pid)
    return replace(state, wait=replace(state.wait, creation=creation), slot=existing(C.NONE, restart).slot)


STORIES: dict[str, tuple[Story, Outcome | None]] = {
    "a record was missing": ([waiting(R.RUNNING_XACTS), CALL, USABLE], Outcome.HEALED),
    "several records were missing": (
        [waiting(R.RUNNING_XACTS), CALL, waiting(R.RUNNING_XACTS), CALL, waiting(R.RUNNING_XACTS), USABLE],
        Outcome.HEALED,
    ),
    "unknown, on a standby": ([waiting(R.UNKNOWN), CALL, USABLE], Outcome.HEALED),
    "unknown, on a primary": ([waiting(R.UNKNOWN, on_primary=True), CALL, USABLE], Outcome.RESOLVED_ITSELF),
    "never called": ([waiting(R.RUNNING_XACTS), USABLE], Outcome.RESOLVED_ITSELF),
    "another healer called": ([waiting(R.RUNNING_XACTS), LOCKED, USABLE], Outcome.RESOLVED_ITSELF),
    "the call was refused": ([waiting(R.RUNNING_XACTS), REFUSED, USABLE], Outcome.RESOLVED_ITSELF),
    "usable in the first snapshot": ([USABLE], Outcome.RESOLVED_ITSELF),
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
    "the node was unobserved for a moment": ([waiting(R.RUNNING_XACTS), CALL, UNOBSERVED, USABLE], Outcome.HEALED),
    "a call for other slots while the node is unobserved": (
        [waiting(R.RUNNING_XACTS), CALL, UNOBSERVED, CALL, USABLE],
        Outcome.HEALED,
    ),
    "dropped after our call": ([waiting(R.RUNNING_XACTS), CALL, DROPPED], Outcome.RESOLVED_ITSELF),
    "replay was resumed": ([waiting(R.REPLAY_PAUSED), CALL, USABLE], Outcome.RESOLVED_ITSELF),
    "still waiting": ([waiting(R.RUNNING_XACTS), CALL, waiting(R.RUNNING_XACTS)], None),
    "too young to act on": ([young(waiting(R.RUNNING_XACTS)), CALL, USABLE], Outcome.RESOLVED_ITSELF),
    "created by the creation that waited": (
        [begun(waiting(R.RUNNING_XACTS)), CALL, existing(C.NONE, 1000, confirmed=OURS + 56)],
        Outcome.HEALED,
    ),
    "created with a record from before our call": (
        [begun(waiting(R.RUNNING_XACTS)), CALL, existing(C.NONE, 1000, confirmed=OURS)],
        Outcome.RESOLVED_ITSELF,
    ),
    "created, and its consumer has moved to our record": (
        [begun(waiting(R.RUNNING_XACTS)), CALL, existing(C.NONE, OURS, confirmed=OURS + 500)],
        Outcome.HEALED,
    ),
    "its creator gave up, and a slot of its name is there": (
        [begun(waiting(R.RUNNING_XACTS)), CALL, existing(C.NONE, 2000)],
        Outcome.RESOLVED_ITSELF,
    ),
    "its creator gave up, and another waits": (
        [begun(waiting(R.RUNNING_XACTS)), CALL, begun(waiting(R.RUNNING_XACTS), pid=2), USABLE],
        Outcome.RESOLVED_ITSELF,
    ),
    "its creator gave up, and we called for the next": (
        [begun(waiting(R.RUNNING_XACTS)), CALL, begun(waiting(R.RUNNING_XACTS), pid=2), CALL, USABLE],
        Outcome.HEALED,
    ),
    "stalled, then restart_lsn moved to our record": (
        [existing(C.STALLED), CALL, existing(C.NONE, OURS)],
        Outcome.HEALED,
    ),
    "stalled, moved into an earlier record of ours": (
        [existing(C.STALLED), CALL, existing(C.STALLED), call(OURS + 5000), existing(C.NONE, OURS + 20)],
        Outcome.HEALED,
    ),
    "stalled, moved to where our record ends": (
        [existing(C.STALLED), CALL, existing(C.NONE, OURS + 56)],
        Outcome.RESOLVED_ITSELF,
    ),
    "stalled, moved to a record of the server's own": (
        [existing(C.STALLED), CALL, existing(C.NONE, OURS - 500)],
        Outcome.RESOLVED_ITSELF,
    ),
    "stalled, moved without us": ([existing(C.STALLED), existing(C.NONE, OURS)], Outcome.RESOLVED_ITSELF),
    "moved, and still stalled": ([existing(C.STALLED), CALL, existing(C.STALLED, 2000)], None),
    "moved, still stalled, moved to our record": (
        [existing(C.STALLED), CALL, existing(C.STALLED, 2000), existing(C.NONE, OURS)],
        Outcome.HEALED,
    ),
    "moved to our record, and is inconclusive now": (
        [existing(C.STALLED), CALL, replace(existing(C.NONE, OURS), condition=SlotCondition.INCONCLUSIVE)],
        Outcome.HEALED,
    ),
    "moved to our record, and a transaction holds the rest": (
        [existing(C.STALLED), CALL, existing(C.TRANSACTION, OURS)],
        Outcome.HEALED,
    ),
    "moved elsewhere, and its consumer holds the rest": (
        [existing(C.STALLED), CALL, existing(C.CONSUMER, 2000)],
        None,
    ),
    "not moved, the consumer falls behind": ([existing(C.STALLED), CALL, existing(C.CONSUMER)], None),
    "not moved, the consumer falls behind and catches up": (
        [existing(C.STALLED), CALL, existing(C.CONSUMER), existing(C.NONE, OURS)],
        Outcome.HEALED,
    ),
    "stalled, then held by a transaction until it ended": (
        [existing(C.STALLED), CALL, existing(C.TRANSACTION), existing(C.NONE, OURS)],
        Outcome.RESOLVED_ITSELF,
    ),
    "moved after our message": ([existing(C.STALLED), MESSAGE, existing(C.NONE, 2000)], Outcome.HEALED),
    "moved long after our message": (
        [existing(C.STALLED), MESSAGE, *[existing(C.STALLED)] * 31, existing(C.NONE, 2000)],
        Outcome.RESOLVED_ITSELF,
    ),
    "a second move after our message": (
        [existing(C.STALLED), existing(C.STALLED, 2000), MESSAGE, existing(C.NONE, 2000)],
        None,
    ),
    "stalled, then dropped": ([existing(C.STALLED), CALL, DROPPED], Outcome.RESOLVED_ITSELF),
    "stalled, then lost": ([existing(C.STALLED), CALL, existing(C.INVALIDATED, None)], Outcome.GAVE_UP),
    "stalled and recreated, its position went back": (
        [existing(C.STALLED, 100_000_000), CALL, existing(C.NONE, OURS)],
        Outcome.RESOLVED_ITSELF,
    ),
    "stalled and recreated, its consumer's position went back": (
        [existing(C.STALLED), CALL, existing(C.NONE, OURS, confirmed=40_000_000)],
        Outcome.RESOLVED_ITSELF,
    ),
    "stalled and recreated, its statistics begin again": (
        [existing(C.STALLED, decoded=900), CALL, existing(C.NONE, OURS, decoded=0)],
        Outcome.RESOLVED_ITSELF,
    ),
    "stalled and recreated, its catalog horizon went back": (
        [existing(C.STALLED, xmin=900), CALL, existing(C.NONE, OURS, xmin=800)],
        Outcome.RESOLVED_ITSELF,
    ),
    "its catalog horizon goes on, also past the end of xids": (
        [existing(C.STALLED, xmin=2**32 - 5), CALL, existing(C.NONE, OURS, xmin=7)],
        Outcome.HEALED,
    ),
    "decodes on": ([existing(C.STALLED, decoded=900), CALL, existing(C.NONE, OURS, decoded=950)], Outcome.HEALED),
    "held in the first snapshot": ([existing(C.CONSUMER)], None),
    "held by a transaction, which ended": ([existing(C.TRANSACTION), existing(C.NONE, 2000)], Outcome.RESOLVED_ITSELF),
    "inconclusive": ([INCONCLUSIVE], None),
    "inconclusive, then stalled": ([INCONCLUSIVE, existing(C.STALLED), CALL], None),
    "inconclusive, then usable": ([INCONCLUSIVE, existing(C.NONE)], Outcome.RESOLVED_ITSELF),
    "created, with much WAL behind it": (
        [waiting(R.RUNNING_XACTS), CALL, existing(C.STALLED, confirmed=OURS + 56)],
        Outcome.HEALED,
    ),
    "stalled, dropped, and created again": (
        [existing(C.STALLED), CALL, waiting(R.RUNNING_XACTS), USABLE],
        Outcome.RESOLVED_ITSELF,
    ),
    "a copy that became persistent with our record": ([temporary(), CALL, persistent(OURS)], Outcome.HEALED),
    "a copy that followed our record later": (
        [temporary(), CALL, temporary(OURS), temporary(OURS), call(OURS + 5000), persistent(OURS + 9000)],
        Outcome.HEALED,
    ),
    "a copy whose slot moved to a record of the server's own": (
        [temporary(), CALL, temporary(2000), persistent(2000)],
        Outcome.RESOLVED_ITSELF,
    ),
    "a copy that became persistent without us": ([temporary(), persistent(2000)], Outcome.RESOLVED_ITSELF),
    "a copy that is persistent in the first snapshot": ([persistent(1000)], Outcome.RESOLVED_ITSELF),
    "a copy that is persistent, and its slot stalled since": (
        [temporary(), CALL, persistent(OURS, SlotCondition.STALLED)],
        Outcome.HEALED,
    ),
    "a copy that waits on": ([temporary(), CALL, temporary(OURS)], None),
    "a copy that had to wait for a transaction": (
        [temporary(blocked=True), CALL, temporary(OURS), persistent(OURS)],
        Outcome.RESOLVED_ITSELF,
    ),
    "a copy that had to wait for a transaction after our record": (
        [temporary(), CALL, temporary(OURS, blocked=True), persistent(OURS)],
        Outcome.RESOLVED_ITSELF,
    ),
    "a copy for which a record was missing after the transaction": (
        [temporary(blocked=True), CALL, temporary(), CALL, persistent(OURS)],
        Outcome.HEALED,
    ),
    "a copy whose standby did not replay": (
        [temporary(obstacle=R.REPLAY_PAUSED), CALL, persistent(OURS)],
        Outcome.RESOLVED_ITSELF,
    ),
    "a copy that ended with its worker and was recreated": (
        [temporary(), CALL, temporary(OURS), without_copy(), temporary(OURS), persistent(OURS)],
        Outcome.RESOLVED_ITSELF,
    ),
    "a copy that was recreated and called for": (
        [temporary(), without_copy(), temporary(), CALL, persistent(OURS)],
        Outcome.HEALED,
    ),
    "a copy whose original was recreated": (
        [temporary(100_000_000), CALL, persistent(OURS)],
        Outcome.RESOLVED_ITSELF,
    ),
    "a copy that was lost": ([temporary(), CALL, existing(C.INVALIDATED, None)], Outcome.GAVE_UP),
    "a copy whose original was dropped": ([temporary(), CALL, DROPPED], Outcome.RESOLVED_ITSELF),
    "a copy whose name a slot of the standby's own has taken": ([temporary(), CALL, existing(C.NONE, OURS)], None),
    "there was no copy, then a persistent one": ([without_copy(), persistent(1000)], Outcome.RESOLVED_ITSELF),
    "there is no copy": ([without_copy()], None),
    "persistent after our message": ([temporary(), MESSAGE, persistent(2000)], Outcome.HEALED),
    "a creation that ended, where a copy should be": (
        [waiting(R.RUNNING_XACTS), CALL, without_copy()],
        Outcome.RESOLVED_ITSELF,
    ),
    "snapshots after the outcome change nothing": ([waiting(R.RUNNING_XACTS), CALL, USABLE, DROPPED], Outcome.HEALED),
}


def progress_of(story: Story) -> RecordProgress:
    progress = RecordProgress()
    for now, step in enumerate(story, start=1):
        at = float(now)
        progress = (
            apply_observation(progress, step, at) if isinstance(step, SlotState) else apply_attempt(progress, step, at)
        )
    return progress


@pytest.mark.parametrize(("story", "outcome"), STORIES.values(), ids=STORIES.keys())
def test_story_has_its_outcome(story: Story, outcome: Outcome | None) -> None:
    progress = progress_of(story)
    assert progress.outcome == outcome
    assert bool(progress.why) == (outcome is not None)


WHYS: dict[str, tuple[Story, str]] = {
    "healed creation": ([waiting(R.RUNNING_XACTS), CALL, USABLE], "usable after our call"),
    "healed by message": ([waiting(R.RUNNING_XACTS), MESSAGE, USABLE], "usable after our message"),
    "healed slot": ([existing(C.STALLED), CALL, existing(C.NONE, OURS)], "restart_lsn moved after our call"),
    "another record": (
        [existing(C.STALLED), CALL, existing(C.NONE, 2000)],
        "restart_lsn moved, but not to a record of ours",
    ),
    "another healer": ([waiting(R.RUNNING_XACTS), LOCKED, USABLE], "no call of ours: another healer acted"),
    "persistent copy": ([temporary(), CALL, persistent(OURS)], "persistent after our call"),
    "persistent copy, another record": (
        [temporary(), CALL, persistent(2000)],
        "persistent, but not by a record of ours",
    ),
    "recreated": (
        [existing(C.STALLED, 100_000_000), CALL, existing(C.NONE, 2000)],
        "dropped and created again: another slot of that name",
    ),
    "usable at the first look": ([USABLE], "usable: no call was needed when the healer looked"),
    "gone at the first look": ([DROPPED], "gone: no call was needed when the healer looked"),
    "retained, then usable": (
        [existing(C.TRANSACTION), USABLE],
        "usable: no call was needed when the healer looked",
    ),
    "usable before a call": ([waiting(R.RUNNING_XACTS), USABLE], "usable without a call of ours"),
    "gone before a call": ([waiting(R.RUNNING_XACTS), DROPPED], "gone without a call of ours"),
    "gone after a call": (
        [waiting(R.RUNNING_XACTS), CALL, DROPPED],
        "the slot is gone after our call: nothing proves that it became usable",
    ),
    "usable after a call during a transaction": (
        [waiting(R.TRANSACTION), CALL, USABLE],
        "usable, but not by a call of ours: something else was in the way when we called",
    ),
}


@pytest.mark.parametrize(("story", "why"), WHYS.values(), ids=WHYS.keys())
def test_outcome_has_its_reason(story: Story, why: str) -> None:
    assert progress_of(story).why == why


@pytest.mark.parametrize(
    ("story", "state", "again"),
    [
        ([existing(C.STALLED), CALL, existing(C.NONE, OURS)], existing(C.STALLED, OURS), True),
        ([USABLE], waiting(R.RUNNING_XACTS), True),
        ([temporary(), CALL, persistent(OURS)], temporary(OURS), True),
        ([waiting(R.RUNNING_XACTS), CALL, DROPPED], waiting(R.RUNNING_XACTS), True),
        ([waiting(R.RUNNING_XACTS), CALL, existing(C.STALLED)], existing(C.STALLED), False),
        ([existing(C.INVALIDATED)], waiting(R.RUNNING_XACTS), False),
        ([waiting(R.RUNNING_XACTS)], waiting(R.RUNNING_XACTS), False),
        ([USABLE], USABLE, False),
    ],
)
def test_slot_that_was_well_is_reopened_when_it_needs_a_record(story: Story, state: SlotState, *, again: bool) -> None:
    assert should_reopen(progress_of(story), state) is again


def test_standby_fed_from_an_archive_gets_one_record_and_no_burst() -> None:
    archived = waiting(R.ARCHIVED_SEGMENT)
    before, after = progress_of([archived]), progress_of([archived, CALL, archived])
    assert (before.wants_call, before.burst_eligible) == (True, False)
    assert (after.wants_call, after.burst_eligible) == (False, False)


@pytest.mark.parametrize(
    ("story", "wants", "awaits"),
    [
        ([temporary()], True, False),
        ([temporary(active=False)], True, False),
        ([temporary(obstacle=R.REPLAY_PAUSED)], False, False),
        ([temporary(blocked=True)], True, False),
        ([without_copy()], False, False),
        ([persistent(1000)], False, False),
        # One record ahead of its consumer is enough, whether that is away or only has not come to it.
        ([temporary(), CALL, temporary()], False, True),
        ([temporary(active=False), CALL, temporary(active=False)], False, True),
        ([temporary(), CALL, temporary(OURS, confirmed=OURS + 56)], True, False),
    ],
)
def test_copy_wants_calls_until_a_record_is_ahead_of_its_consumer(story: Story, *, wants: bool, awaits: bool) -> None:
    progress = progress_of(story)
    assert (progress.wants_call, progress.awaits_read) == (wants, awaits)
    assert not progress.burst_eligible


@pytest.mark.parametrize("word", [R.REPLAY_DELAYED, "something_new"])
def test_wait_for_an_unknown_reason_wants_no_call(word: str) -> None:
    unknown = waiting(R.RUNNING_XACTS)
    assert unknown.wait is not None
    unknown = replace(unknown, wait=replace(unknown.wait, reason=word))  # type: ignore[arg-type]
    assert not progress_of([unknown]).wants_call


def test_number_of_remembered_records_is_bounded() -> None:
    progress = progress_of([existing(C.STALLED), *[call(OURS + 1000 * i) for i in range(500)]])
    assert len(progress.record_ranges) == 64
    assert progress.calls == 500


def test_causes_and_reasons_are_those_of_the_diagnosis() -> None:
    assert (C.STALLED, R.RUNNING_XACTS) == (RetentionCause.STALLED, WaitReason.RUNNING_XACTS)
