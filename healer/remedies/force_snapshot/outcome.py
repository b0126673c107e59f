"""
The outcome of a slot's heal, computed from snapshots and calls: did it end, and did one of our calls cause that?

A call counts as the cause only if a running-xacts record could help at that moment, if the slot has waited for nothing
else since, and if it is still the same slot. A stalled slot is healed when its restart_lsn lies in a record of ours:
restart_lsn always moves to the start of such a record. A standby's temporary copy is healed when it is persistent and
the primary's slot had moved to a record of ours before. Every other good end is `resolved_itself`.
"""

from dataclasses import replace

from healer.remedies.attempt import AttemptResult
from healer.remedies.force_snapshot.connection import RecordAttempt
from healer.remedies.force_snapshot.need import IN_NEED, record_cures
from healer.remedies.force_snapshot.progress import RecordProgress
from healer.remedies.progress import WELL, Outcome
from healer.remedies.slot_state import SlotCondition, SlotState, was_recreated
from pgslot.diagnosis.retention import RetentionCause

MAX_RECORD_RANGES = 64
"""Records of ours that a slot's restart_lsn may still move to; every active consumer has passed the older ones."""
MESSAGE_SECONDS = 30.0
"""The server logs its record within 25 s of our message; the first move of restart_lsn in this time counts as ours."""


def apply_observation(progress: RecordProgress, state: SlotState, now: float = 0.0) -> RecordProgress:
    """Return the progress after another snapshot."""
    before = progress
    progress = replace(progress, state=state, now=now)
    if state.condition is SlotCondition.UNOBSERVED:
        return progress
    progress = replace(progress, last_observed=state)
    if not progress.open:
        return progress
    if before.last_observed is not None and was_recreated(before.last_observed, state):
        progress = replace(_reset(progress), recreated=True)
    since = now if progress.retained_since is None else progress.retained_since
    retained = state.condition in (SlotCondition.RETAINED, SlotCondition.UNREADY)
    progress = replace(progress, retained_since=since if retained else None)
    match state.condition:
        case SlotCondition.LOST:
            return progress.end(Outcome.GAVE_UP, "the slot is lost: it was invalidated")
        case SlotCondition.DROPPED:
            if progress.called_in_time:
                gone = "the slot is gone after our call: nothing proves that it became usable"
                return progress.end(Outcome.RESOLVED_ITSELF, gone)
            return progress.end(Outcome.RESOLVED_ITSELF, _why_not_ours(progress, "gone"))
        case SlotCondition.WAITING:
            return _still_in_creation(progress, before)
    if progress.initial_condition is SlotCondition.WAITING and state.condition is not SlotCondition.NOT_PERSISTED:
        return _created(progress, before.last_observed)
    if (
        SlotCondition.NOT_PERSISTED in (progress.initial_condition, state.condition)
        or state.condition is SlotCondition.UNREADY
    ):
        return _copied(progress)
    return _existing(progress)


def should_reopen(progress: RecordProgress, state: SlotState) -> bool:
    """Return whether a slot that was well needs another heal while its alert still fires."""
    return progress.outcome in WELL and state.condition in IN_NEED and progress.state.condition not in IN_NEED


def apply_attempt(progress: RecordProgress, attempt: RecordAttempt, now: float) -> RecordProgress:
    """Return the progress after an attempt; a record may help every open slot, also one that did not ask for it."""
    if not progress.open:
        return progress
    if progress.wants_call:
        progress = replace(
            progress,
            attempts=progress.attempts + 1,
            burst=progress.burst + 1,
            calls=progress.calls + attempt.acted,
            unavailable=attempt.unavailable,
            locked_out=attempt.result is AttemptResult.LOCKED,
            lock_holder=attempt.lock_holder,
        )
    return _called(progress, attempt, now) if attempt.acted and progress.initial_condition is not None else progress


def _called(progress: RecordProgress, attempt: RecordAttempt, now: float) -> RecordProgress:
    stalled = progress.initial_condition is not SlotCondition.WAITING
    written = attempt.record_range
    if written is not None:
        progress = replace(
            progress,
            record_ranges=(*progress.record_ranges, written)[-MAX_RECORD_RANGES:],
            record=written[1] if stalled and progress.wants_call else progress.record,
        )
    if attempt.result is AttemptResult.EMITTED:
        # Only the first move of restart_lsn after the message counts as its effect.
        restart = progress.state.consumed.restart_position if progress.state.consumed is not None else None
        progress = replace(
            progress, message_at=now, stalled_at=restart if stalled and restart is not None else progress.stalled_at
        )
    return replace(
        progress,
        first_call=now if progress.first_call is None else progress.first_call,
        called_in_time=record_cures(progress.state)
        or (progress.called_in_time and (stalled or not progress.wants_call)),
    )


def _reset(progress: RecordProgress) -> RecordProgress:
    """Return the progress without what was done for an earlier slot of this name; the alert's time limit stays."""
    return replace(
        progress,
        initial_condition=None,
        called_in_time=False,
        burst=0,
        first_call=None,
        stalled_at=None,
        record_ranges=(),
        record=None,
        message_at=None,
        moved_by_us=False,
    )


def _still_in_creation(progress: RecordProgress, before: RecordProgress) -> RecordProgress:
    state = progress.state
    if progress.initial_condition is not SlotCondition.WAITING:
        progress = replace(_reset(progress), initial_condition=SlotCondition.WAITING)
    return replace(
        progress,
        called_in_time=progress.called_in_time and record_cures(state),
        burst=progress.burst if before.burst_eligible or not progress.burst_eligible else 0,
    )


def _created(progress: RecordProgress, before: SlotState | None) -> RecordProgress:
    """End the heal of a creation that has finished; it is healed if a call of ours can have finished it."""
    if progress.state.condition is SlotCondition.UNREADY:
        return progress.end(Outcome.RESOLVED_ITSELF, "gone, and what should be there is a copy of the primary's slot")
    if not progress.called_in_time:
        return progress.end(Outcome.RESOLVED_ITSELF, _why_not_ours(progress))
    if _created_before_call(progress):
        return progress.end(Outcome.RESOLVED_ITSELF, "usable by a record from before our first call")
    first, last = (
        state.slot.restart_position if state is not None and state.slot is not None else None
        for state in (before, progress.state)
    )
    if first is not None and last is not None and last != first and not _within(progress.record_ranges, last):
        return progress.end(Outcome.RESOLVED_ITSELF, "usable after our call, but perhaps another slot of that name")
    return progress.end(Outcome.HEALED, f"usable after our {_act(progress)}")


def _created_before_call(progress: RecordProgress) -> bool:
    """
    Return whether the creation finished with a record that was written before our first call.

    confirmed_flush_lsn of a new slot is the end of the record with which its creation finished
    (CreateInitDecodingContext and DecodingContextFindStartpoint, logical.c), or later, once its consumer has read.
    """
    end = progress.state.slot.confirmed_position if progress.state.slot is not None else None
    return end is not None and bool(progress.record_ranges) and end <= progress.record_ranges[0][0]


def _existing(progress: RecordProgress) -> RecordProgress:
    """Follow an existing slot: it is well when its restart_lsn has moved and nothing else retains its WAL."""
    state = progress.state
    restart = state.slot.restart_position if state.slot is not None else None
    if state.condition is SlotCondition.STALLED and progress.initial_condition is None:
        return replace(progress, initial_condition=SlotCondition.STALLED, stalled_at=restart)
    moved, progress = _moved(progress, restart)
    if progress.moved_by_us and state.condition is not SlotCondition.STALLED:
        return progress.end(Outcome.HEALED, f"restart_lsn moved after our {_act(progress)}")
    if state.cause is RetentionCause.TRANSACTION:
        # When the transaction ends, the slot moves by itself: no earlier record is the cause.
        progress = replace(progress, called_in_time=False, record_ranges=(), message_at=None)
    if state.condition is not SlotCondition.USABLE or (
        progress.initial_condition is SlotCondition.STALLED and not moved
    ):
        return progress
    if progress.calls and moved:
        return progress.end(Outcome.RESOLVED_ITSELF, "restart_lsn moved, but not to a record of ours")
    return progress.end(Outcome.RESOLVED_ITSELF, _why_not_ours(progress))


def _copied(progress: RecordProgress) -> RecordProgress:
    """Follow a standby's copy: it becomes persistent, and is well, once the primary's slot has moved far enough."""
    state = progress.state
    restart = state.original.restart_position if state.original is not None else None
    if state.condition is SlotCondition.UNREADY:
        # The copy ended with its worker. The next copy has a horizon of its own: no earlier record helps it.
        return replace(_reset(progress), initial_condition=progress.initial_condition, stalled_at=restart)
    if state.condition is SlotCondition.NOT_PERSISTED and progress.initial_condition is not SlotCondition.NOT_PERSISTED:
        return replace(_reset(progress), initial_condition=SlotCondition.NOT_PERSISTED, stalled_at=restart)
    if state.blocker is not None:
        # When the transaction ends, any record makes the copy persistent: no earlier record is the cause.
        return replace(progress, called_in_time=False, record_ranges=(), message_at=None, moved_by_us=False)
    moved, progress = _moved(progress, restart)
    if not state.persisted:
        return progress
    if progress.moved_by_us:
        return progress.end(Outcome.HEALED, f"persistent after our {_act(progress)}")
    if progress.calls and moved:
        return progress.end(Outcome.RESOLVED_ITSELF, "persistent, but not by a record of ours")
    return progress.end(Outcome.RESOLVED_ITSELF, _why_not_ours(progress))


def _moved(progress: RecordProgress, restart: int | None) -> tuple[bool, RecordProgress]:
    """Return whether restart_lsn has moved, and the progress with `moved_by_us` set if a call of ours caused that."""
    if restart is None or progress.stalled_at is None or restart <= progress.stalled_at:
        return False, progress
    if progress.moved_by_us:
        return True, progress
    by_message = progress.message_at is not None and progress.now - progress.message_at <= MESSAGE_SECONDS
    ours = progress.called_in_time and (by_message or _within(progress.record_ranges, restart))
    return True, replace(progress, moved_by_us=ours)


def _within(ranges: tuple[tuple[int, int], ...], position: int) -> bool:
    return any(begin <= position < end for begin, end in ranges)


def _act(progress: RecordProgress) -> str:
    return "call" if progress.message_at is None else "message"


def _why_not_ours(progress: RecordProgress, what: str = "usable") -> str:
    """Return why no call of ours is the cause of a good end; `what` the slot is now."""
    if progress.recreated:
        return "dropped and created again: another slot of that name"
    if progress.locked_out and progress.lock_holder is None:
        return "no call of ours: another healer acted"
    if progress.initial_condition is None:
        return f"{what}: no call was needed when the healer looked"
    if progress.first_call is None:
        return f"{what} without a call of ours"
    return f"{what}, but not by a call of ours: something else was in the way when we called"
