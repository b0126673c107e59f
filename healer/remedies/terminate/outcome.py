"""
The outcome of a slot's heal by ending the transaction that blocks it, computed from snapshots and attempts.

No session is terminated at once. For some seconds the diagnosis has to name the same transaction in every snapshot, and
then prove that it blocks the slot; the primary shows its session after the first of them, and that session, unchanged,
may be terminated after the last.

`healed` is claimed only for a slot that moved because of it: soon, the same slot, and with no other transaction in its
way since.
"""

from dataclasses import replace

from healer.remedies.attempt import AttemptResult
from healer.remedies.progress import WELL, Outcome
from healer.remedies.slot_state import SlotCondition, SlotState, was_recreated
from healer.remedies.terminate.blocking_transaction import blocker_of
from healer.remedies.terminate.connection import TerminationAttempt
from healer.remedies.terminate.progress import TerminationProgress, TerminationTarget
from pgslot.diagnosis.creation_wait import WaitReason

EFFECT_SECONDS = 120.0
"""
Within which an act shows its effect, or has had none: one record (30 s) and one confirmation (90 s).

It is awaited also without an alert, which ends when no transaction blocks the slot.
"""

_HIDES_BLOCKERS = frozenset(
    {
        WaitReason.REPLAY_PAUSED,
        WaitReason.WAL_RECEIVER_DOWN,
        WaitReason.RECOVERY_CONFLICT,
        WaitReason.REPLAY_DELAYED,
        WaitReason.ARCHIVED_SEGMENT,
    }
)
"""Reasons of a creation's wait that stand before a transaction: while they hold, none is named."""


def apply_observation(progress: TerminationProgress, state: SlotState, now: float) -> TerminationProgress:
    """Return the progress after another snapshot."""
    before = progress
    progress = replace(progress, state=state, now=now)
    if state.condition is SlotCondition.UNOBSERVED:
        return _without_target(progress)
    progress = replace(progress, last_observed=state)
    if not progress.open:
        return progress
    if before.last_observed is not None and was_recreated(before.last_observed, state):
        progress = replace(progress, recreated=True)
    decided = _decided(before, progress)
    if decided is not None:
        return decided
    if progress.first_call is not None and state.wait is not None and state.wait.reason in _HIDES_BLOCKERS:
        progress = replace(progress, hidden_since=True)
    blocker = blocker_of(state)
    if blocker is None:
        return _without_target(progress)
    if progress.blocked_at is None and state.slot is not None:
        progress = replace(progress, blocked_at=state.slot.restart_position)
    ended = progress.target.blocker if progress.target is not None and progress.target.ended else None
    if progress.first_call is not None and (ended is None or (blocker.pid, blocker.xid) != (ended.pid, ended.xid)):
        progress = replace(progress, others_since=True)
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
        return replace(
            progress,
            attempts=progress.attempts + 1,
            unavailable=attempt.unavailable,
            target=replace(target, session=None, checked_position=None),
        )
    if (attempt.blocker.pid, attempt.blocker.xid) != (target.blocker.pid, target.blocker.xid):
        return progress
    progress = replace(progress, attempts=progress.attempts + 1, unavailable=None)
    same = attempt.blocker.same_as(target.blocker)
    match attempt.result:
        case AttemptResult.SEEN if same:
            return replace(progress, locked_out=False, target=_seen(target, attempt, now))
        case AttemptResult.REFUSED if same:
            refused = replace(
                target, session=None, checked_position=None, refusal=attempt.refusal, rivals=attempt.rivals
            )
            return replace(progress, target=refused)
        case AttemptResult.LOCKED:
            return replace(progress, locked_out=True, target=replace(target, session=None, checked_position=None))
        case AttemptResult.IN_DOUBT:
            # The check has to start again, if the session is still there.
            return replace(progress, act_in_doubt=True, target=replace(target, session=None, checked_position=None))
        case AttemptResult.DRY_RUN if same:
            return replace(progress, target=replace(target, dry_run_match=True))
        case AttemptResult.ENDED:
            ended = replace(target, ended=True, session=attempt.session, rule=attempt.rule)
            first = now if progress.first_call is None else progress.first_call
            return replace(progress, target=ended, calls=progress.calls + 1, first_call=first)
    return progress


def _seen(target: TerminationTarget, attempt: TerminationAttempt, now: float) -> TerminationTarget:
    if target.session is not None:
        return replace(target, checks=target.checks + 1)
    return replace(
        target,
        session=attempt.session,
        seen_at=now,
        checked_position=attempt.position,
        refusal=None,
        rivals=(),
        checks=target.checks + 1,
    )


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
        return _unblocked(progress, "it releases WAL")
    return progress.end(Outcome.RESOLVED_ITSELF, "no act of ours: no transaction is in its way")


def _moved(progress: TerminationProgress) -> bool:
    restart = progress.state.slot.restart_position if progress.state.slot is not None else None
    blocked_at = progress.blocked_at
    retained = progress.initial_condition is SlotCondition.RETAINED
    return retained and restart is not None and blocked_at is not None and restart > blocked_at


def _unblocked(progress: TerminationProgress, how: str) -> TerminationProgress:
    if progress.first_call is None:
        whose = "perhaps by an act of ours that got no answer" if progress.act_in_doubt else "by no act of ours"
        return progress.end(Outcome.RESOLVED_ITSELF, f"{how}, {whose}")
    if progress.recreated:
        return progress.end(Outcome.RESOLVED_ITSELF, f"{how}, but it is another slot of that name; {progress.done}")
    if progress.others_since:
        why = f"{how}, but other transactions were in its way after our act"
        return progress.end(Outcome.RESOLVED_ITSELF, why)
    if progress.hidden_since:
        why = f"{how}, but after our act the standby did not replay, which hides what else was in its way"
        return progress.end(Outcome.RESOLVED_ITSELF, why)
    if progress.now - progress.first_call > EFFECT_SECONDS:
        why = f"{how}, but more than {EFFECT_SECONDS:.0f} s after our act"
        return progress.end(Outcome.RESOLVED_ITSELF, why)
    return progress.end(Outcome.HEALED, f"{how} after we ended the transaction in its way")
