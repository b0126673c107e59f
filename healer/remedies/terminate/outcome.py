"""
The outcome of a slot's heal by ending the transaction that blocks it, computed from snapshots and attempts.

No session is terminated at once. For some seconds the diagnosis has to name the same transaction in every snapshot; the
primary shows its session after the first of them, and that session, unchanged, may be terminated after the last.
"""

from dataclasses import replace

from healer.remedies.attempt import AttemptResult
from healer.remedies.progress import WELL, Outcome
from healer.remedies.slot_state import SlotCondition, SlotState
from healer.remedies.terminate.blocking_transaction import blocker_of
from healer.remedies.terminate.connection import TerminationAttempt
from healer.remedies.terminate.progress import TerminationProgress, TerminationTarget


def apply_observation(progress: TerminationProgress, state: SlotState, now: float) -> TerminationProgress:
    """Return the progress after another snapshot."""
    before = progress
    progress = replace(progress, state=state, now=now)
    if state.condition is SlotCondition.UNOBSERVED:
        return _without_target(progress)
    progress = replace(progress, last_observed=state)
    if not progress.open:
        return progress
    decided = _decided(before, progress)
    if decided is not None:
        return decided
    blocker = blocker_of(state)
    if blocker is None:
        return _without_target(progress)
    if progress.blocked_at is None and state.slot is not None:
        progress = replace(progress, blocked_at=state.slot.restart_position)
    if progress.target is not None and blocker.same_as(progress.target.blocker):
        target = replace(progress.target, blocker=blocker)
    else:
        target = TerminationTarget(blocker, since=now)
    return replace(progress, initial_condition=state.condition, target=target)


def should_reopen(progress: TerminationProgress, state: SlotState) -> bool:
    """Return whether a transaction blocks a slot that was well, while its alert still fires."""
    return progress.outcome in WELL and blocker_of(state) is not None and blocker_of(progress.state) is None


def apply_attempt(progress: TerminationProgress, attempt: TerminationAttempt, now: float) -> TerminationProgress:
    """Return the progress after an attempt, which may have been made for another slot with the same blocker."""
    target = progress.target
    if not progress.open or target is None:
        return progress
    if attempt.result in (AttemptResult.UNAVAILABLE, AttemptResult.ERROR) or attempt.blocker is None:
        # Its effect is not known: the check has to start again.
        in_doubt = attempt.result is AttemptResult.ERROR and target.session is not None
        return replace(
            progress,
            attempts=progress.attempts + 1,
            unavailable=attempt.unavailable,
            act_in_doubt=progress.act_in_doubt or in_doubt,
            target=replace(target, session=None),
        )
    if (attempt.blocker.pid, attempt.blocker.xid) != (target.blocker.pid, target.blocker.xid):
        return progress
    progress = replace(progress, attempts=progress.attempts + 1, unavailable=None)
    same = attempt.blocker == target.blocker
    match attempt.result:
        case AttemptResult.SEEN if same:
            return replace(progress, target=replace(target, session=attempt.session, seen_at=now, refusal=None))
        case AttemptResult.REFUSED if same:
            return replace(progress, target=replace(target, session=None, refusal=attempt.refusal))
        case AttemptResult.LOCKED:
            return replace(progress, locked_out=True, target=replace(target, session=None))
        case AttemptResult.DRY_RUN if same:
            return replace(progress, target=replace(target, dry_run_match=True))
        case AttemptResult.ENDED:
            ended = replace(target, ended=True, session=attempt.session, rule=attempt.rule)
            first = now if progress.first_call is None else progress.first_call
            return replace(progress, target=ended, calls=progress.calls + 1, first_call=first)
    return progress


def _without_target(progress: TerminationProgress) -> TerminationProgress:
    """Return the progress without its target, which has to be checked again; a target that we ended is kept."""
    ended = progress.target is not None and progress.target.ended
    return replace(progress, target=progress.target if ended else None)


def _decided(before: TerminationProgress, progress: TerminationProgress) -> TerminationProgress | None:
    """Return the progress with the outcome that this snapshot shows; None: the heal goes on."""
    condition = progress.state.condition
    if condition is SlotCondition.LOST:
        return progress.end(Outcome.GAVE_UP, "the slot is lost: it was invalidated")
    if condition is SlotCondition.DROPPED:
        acted = progress.first_call is not None
        gone = "gone after our act: nothing proves that it became usable" if acted else "it is gone, by no act of ours"
        return progress.end(Outcome.RESOLVED_ITSELF, gone)
    if before.initial_condition is SlotCondition.WAITING and condition is not SlotCondition.WAITING:
        return _unblocked(progress, "usable")
    if _moved(progress):
        return _unblocked(progress, "restart_lsn moved")
    if condition is not SlotCondition.USABLE:
        return None
    if progress.initial_condition is not None:
        return _unblocked(progress, "it sets WAL free")
    return progress.end(Outcome.RESOLVED_ITSELF, "no act of ours: no transaction is in its way")


def _moved(progress: TerminationProgress) -> bool:
    restart = progress.state.slot.restart_position if progress.state.slot is not None else None
    blocked_at = progress.blocked_at
    retained = progress.initial_condition is SlotCondition.RETAINED
    return retained and restart is not None and blocked_at is not None and restart > blocked_at


def _unblocked(progress: TerminationProgress, how: str) -> TerminationProgress:
    if progress.first_call is not None:
        return progress.end(Outcome.HEALED, f"{how} after we ended the transaction in its way")
    if progress.act_in_doubt:
        return progress.end(Outcome.RESOLVED_ITSELF, f"{how}, perhaps by an act of ours of which no answer came")
    return progress.end(Outcome.RESOLVED_ITSELF, f"{how}, by no act of ours")
