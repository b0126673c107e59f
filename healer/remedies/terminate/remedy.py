"""The remedy `end_transaction`: terminate the session whose transaction endangers a slot, if its owner allows."""

from collections.abc import Collection
from dataclasses import replace
from typing import ClassVar

from healer.remedies.attempt import AttemptResult, LogEntry, Wait
from healer.remedies.base import BudgetLimit, EpisodeProgress, Remedy
from healer.remedies.connection import AnyConnection
from healer.remedies.slot_state import SlotState
from healer.remedies.terminate import outcome, schedule
from healer.remedies.terminate.connection import Terminate, TerminationAttempt, TerminationConnection
from healer.remedies.terminate.guards import Refusal
from healer.remedies.terminate.progress import TerminationProgress
from pgslot.config.model import Cluster, HealerConfig, HealerSettings


class EndTransaction(Remedy[TerminationProgress, Terminate, TerminationAttempt]):
    """Off by default: it acts only for a cluster whose configuration has a section `end_transactions`."""

    name: ClassVar[str] = "end_transaction"
    connection: ClassVar[type[AnyConnection]] = TerminationConnection
    spending: ClassVar[frozenset[AttemptResult]] = frozenset({AttemptResult.ENDED, AttemptResult.IN_DOUBT})
    guards: ClassVar[tuple[str, ...]] = tuple(Refusal)
    plan: ClassVar[str] = (
        "the blocking transaction is ended on the primary, if there is proof that it blocks and no guard refuses"
    )
    not_now: ClassVar[str] = "no blocking transaction that may be ended is visible"
    cannot_help: ClassVar[str] = "no transaction's end helps"

    def target(self, cluster: Cluster) -> HealerConfig | None:
        healer = cluster.healer
        if healer is None or healer.termination is None:
            return None
        dry_run = healer.dry_run or healer.termination.policy.dry_run
        return replace(healer, conninfo=healer.termination.conninfo, dry_run=dry_run, fallback=False)

    def policy(self, target: HealerConfig) -> str:
        if target.termination is None:
            return ""
        policy = target.termination.policy
        return f"{policy.rule}, at_most_per_hour: {policy.at_most_per_hour}"

    def budget_limit(self, target: HealerConfig, settings: HealerSettings) -> BudgetLimit:
        """Return the hour's limit for the start, too: the primary counts earlier acts, and refuses in the end."""
        del settings
        allowed = target.termination.policy.at_most_per_hour if target.termination is not None else 0
        return BudgetLimit(allowed, allowed)

    def begin(self, since: float = 0.0) -> TerminationProgress:
        return TerminationProgress(since=since, now=since)

    def apply_observation(self, progress: TerminationProgress, state: SlotState, now: float) -> TerminationProgress:
        return outcome.apply_observation(progress, state, now)

    def apply_attempt(
        self, progress: TerminationProgress, attempt: TerminationAttempt, now: float
    ) -> TerminationProgress:
        return outcome.apply_attempt(progress, attempt, now)

    def apply_timeouts(
        self, progress: TerminationProgress, episode: EpisodeProgress, settings: HealerSettings
    ) -> TerminationProgress:
        return schedule.apply_timeouts(progress, episode, settings)

    def should_reopen(self, progress: TerminationProgress, state: SlotState) -> bool:
        return outcome.should_reopen(progress, state)

    def wants_attempt(self, progress: TerminationProgress) -> bool:
        return schedule.wants_attempt(progress)

    def next_step(
        self, open_slots: Collection[TerminationProgress], episode: EpisodeProgress, settings: HealerSettings
    ) -> Terminate | Wait:
        return schedule.next_step(open_slots, episode, settings)

    def describe(self, attempt: TerminationAttempt) -> LogEntry:
        reason = attempt.capability.reason if attempt.capability is not None else None
        subject = attempt.session or attempt.blocker
        who = subject.description if subject is not None else None
        match attempt.result:
            case AttemptResult.ENDED:
                line, message = f"ended {who}: {attempt.why}", "ended a transaction"
            case AttemptResult.DRY_RUN:
                line, message = f"would have ended {who}: {attempt.why} (dry run)", "would have ended a transaction"
            case AttemptResult.SEEN:
                line = f"may be ended, if nothing has changed at the next observation: {who}"
                message = "a transaction is in the way"
            case AttemptResult.REFUSED:
                others = attempt.rivals or (attempt.blocker.rivals if attempt.blocker is not None else ())
                candidates = "; ".join(filter(None, (who, *others)))
                line, message = f"not ended: {attempt.refusal}: {candidates}", "refused to end a transaction"
            case AttemptResult.LOCKED:
                holder = attempt.lock_holder
                by = "another healer is acting" if holder is None else f"{holder} holds the healers' advisory lock"
                line, message = f"not ended: {by}", "could not end a transaction"
            case AttemptResult.IN_DOUBT:
                line = f"perhaps ended {who}: the act got no answer, and the session is gone"
                message = "may have ended a transaction"
            case _:
                line, message = f"not ended: {reason or attempt.error}", "could not end a transaction"
        done = attempt.result in (AttemptResult.ENDED, AttemptResult.DRY_RUN, AttemptResult.SEEN)
        fields = {
            "who": who,
            "refusal": attempt.refusal,
            "candidates": list(attempt.rivals or (attempt.blocker.rivals if attempt.blocker is not None else ()))
            or None,
            "lock_holder": attempt.lock_holder,
            "why": attempt.why or None,
            "rule": attempt.rule or None,
            "reason": f"{reason}" if reason else None,
            "remedy": attempt.capability.advice or None if attempt.capability else None,
            "error": attempt.error or None,
        }
        # The check of a session that is active, or for the proof, repeats as long as the slot waits.
        return LogEntry(line, message, done, fields, once=attempt.result in (AttemptResult.REFUSED, AttemptResult.SEEN))
