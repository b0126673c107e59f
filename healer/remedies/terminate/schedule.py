"""When a blocking transaction is checked or ended, and when a slot's heal ends without success. Pure functions."""

import math
from collections.abc import Collection
from operator import itemgetter

from healer.remedies.attempt import TRANSIENT, Wait
from healer.remedies.base import EpisodeProgress
from healer.remedies.progress import Outcome
from healer.remedies.slot_state import SlotCondition
from healer.remedies.terminate.blocking_transaction import BlockKind
from healer.remedies.terminate.connection import Terminate
from healer.remedies.terminate.guards import LASTING, Refusal
from healer.remedies.terminate.outcome import EFFECT_SECONDS
from healer.remedies.terminate.progress import TerminationProgress, TerminationTarget
from pgslot.config.model import HealerSettings

# Intervals and times, in seconds.
OBSERVE_INTERVAL = 1.0
"""Between two snapshots."""
CONFIRM_SECONDS = 5.0
"""Between the first check of a session and its termination."""
REFUSED_SECONDS = 10.0
"""How long a transaction has to block the slot, or something else retain WAL, before a refusal is the outcome."""


def apply_timeouts(
    progress: TerminationProgress, episode: EpisodeProgress, settings: HealerSettings
) -> TerminationProgress:
    """Return the progress with an outcome if it is withdrawn, impossible, refused, or out of time."""
    if not progress.open:
        return progress
    awaits_effect = progress.first_call is not None and episode.now - progress.first_call < EFFECT_SECONDS
    if progress.withdrawn is not None and not awaits_effect:
        return progress.end(Outcome.CANCELLED, "; ".join(filter(None, (progress.withdrawn, progress.done))))
    if progress.unavailable is not None and progress.unavailable not in TRANSIENT:
        return progress.end(Outcome.UNAVAILABLE, f"{progress.unavailable}")
    target = progress.target
    if target is not None and target.dry_run_match and target.session is not None:
        return progress.end(Outcome.DRY_RUN, f"would have ended {target.session.description}")
    if target is not None and not target.ended and episode.now - target.since >= REFUSED_SECONDS:
        # A transaction may block only for a moment, as while a creation continues: that is not a reason to give up.
        refusal = Refusal.HOUR_SPENT if episode.budget_spent else target.refusal
        if refusal in LASTING:
            return progress.end(Outcome.REFUSED, f"{refusal}: {target.described}")
    retained = progress.state.condition is SlotCondition.RETAINED
    never_blocked = retained and target is None and progress.initial_condition is None
    if never_blocked and episode.now - progress.since >= REFUSED_SECONDS:
        where = "" if progress.state.on_primary else ", and it is on a standby"
        why = f"its WAL is kept by {progress.state.reason}{where}: no session is ended for that"
        return progress.end(Outcome.REFUSED, why)
    if episode.now - progress.since >= settings.give_up_after:
        return _give_up(progress)
    return progress


def wants_attempt(progress: TerminationProgress) -> bool:
    """Return whether there is a transaction to check or to end."""
    return progress.open and progress.withdrawn is None and progress.target is not None and not progress.target.ended


def next_step(
    slots: Collection[TerminationProgress], episode: EpisodeProgress, settings: HealerSettings
) -> Terminate | Wait:
    """Return the next step for the slots that are still open: one attempt at a time, for the slot that is due first."""
    dues = [
        (_due(progress, progress.target, episode, settings), progress.target)
        for progress in slots
        if wants_attempt(progress) and progress.target is not None
    ]
    if not dues:
        return Wait(OBSERVE_INTERVAL)
    due, target = min(dues, key=itemgetter(0))
    if episode.now >= due:
        act = target.session is not None and target.proven and not episode.budget_spent
        return Terminate(settings.interval, target, act=act, clock_steps=episode.clock_steps)
    return Wait(min(OBSERVE_INTERVAL, due - episode.now))


def _due(
    progress: TerminationProgress, target: TerminationTarget, episode: EpisodeProgress, settings: HealerSettings
) -> float:
    """Return when the next attempt may be made for this slot; infinite: not before a snapshot shows something else."""
    last = target.since if episode.last_attempt is None else episode.last_attempt
    never_checked = target.refusal is None and not progress.locked_out and progress.unavailable is None
    if target.session is None:
        return target.since if never_checked and not progress.attempts else max(target.since, last + settings.interval)
    if target.blocker.rivals:
        # Most of them end in a moment. After that it is refused as ambiguous.
        return last + settings.interval
    if target.proven:
        # The hour may be spent by an act for another slot: apply_timeouts() then refuses this one.
        return math.inf if episode.budget_spent else target.seen_at + CONFIRM_SECONDS
    if target.blocker.kind is not BlockKind.RETENTION or target.blocker.awaited is not None:
        return math.inf
    # Every check asks for records, or for the last checkpoint, that may be the proof.
    return last + (settings.burst_interval if target.checks < settings.burst_calls else settings.interval)


def _give_up(progress: TerminationProgress) -> TerminationProgress:
    if progress.unavailable is not None:
        return progress.end(Outcome.UNAVAILABLE, f"{progress.unavailable}")
    target = progress.target
    if progress.first_call is not None:
        if target is not None and target.ended:
            return progress.end(Outcome.NO_EFFECT, f"its session is still there: {target.blocker.description}")
        return progress.end(Outcome.NO_EFFECT, "still in need")
    if target is not None and target.refusal is not None:
        return progress.end(Outcome.REFUSED, f"{target.refusal}: {target.described}")
    if target is not None and not target.proven:
        return progress.end(Outcome.REFUSED, f"{Refusal.UNPROVEN}: {target.described}")
    waits_for = progress.state.reason or progress.state.condition
    return progress.end(Outcome.GAVE_UP, f"still {waits_for}: no session could be ended for it")
