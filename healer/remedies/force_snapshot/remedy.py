"""The remedy `log_standby_snapshot`: force a running-xacts record on the primary, and repeat as needed."""

from collections.abc import Collection
from typing import ClassVar

from healer.remedies.attempt import Act, AttemptResult, Capability, LogEntry, Wait
from healer.remedies.base import BudgetLimit, EpisodeProgress, Remedy
from healer.remedies.connection import AnyConnection
from healer.remedies.force_snapshot import outcome, schedule
from healer.remedies.force_snapshot.connection import RecordAttempt, RecordConnection, has_fallback
from healer.remedies.force_snapshot.progress import RecordProgress
from healer.remedies.slot_state import SlotState
from pgslot.config.model import Cluster, HealerConfig, HealerSettings

START_SHARE = 10
"""Right after the healer starts, this fraction (1/10) of an hour's calls is available."""


class ForceSnapshot(Remedy[RecordProgress, Act, RecordAttempt]):
    """Harmless, and on by default: it acts for every cluster with a section `healer`."""

    name: ClassVar[str] = "log_standby_snapshot"
    connection: ClassVar[type[AnyConnection]] = RecordConnection
    # LOCKED: another healer makes the call, and both healers' budgets stay equal.
    spending: ClassVar[frozenset[AttemptResult]] = frozenset(
        {AttemptResult.OK, AttemptResult.EMITTED, AttemptResult.LOCKED, AttemptResult.ERROR}
    )
    watches_healed: ClassVar[bool] = True
    plan: ClassVar[str] = "pg_log_standby_snapshot() on the primary"
    not_now: ClassVar[str] = "a record would not help now"
    cannot_help: ClassVar[str] = "no record helps"

    def target(self, cluster: Cluster) -> HealerConfig | None:
        return cluster.healer

    def policy(self, target: HealerConfig) -> str:
        return "fallback: emit_message" if target.fallback else ""

    def budget_limit(self, target: HealerConfig, settings: HealerSettings) -> BudgetLimit:
        del target
        return BudgetLimit(settings.calls_per_hour, max(settings.burst_calls, settings.calls_per_hour // START_SHARE))

    def fallback_plan(self, target: HealerConfig, capability: Capability) -> str | None:
        return "pg_logical_emit_message() on the primary" if has_fallback(target, capability) else None

    def begin(self, since: float = 0.0) -> RecordProgress:
        return RecordProgress(since=since, now=since)

    def apply_observation(self, progress: RecordProgress, state: SlotState, now: float) -> RecordProgress:
        return outcome.apply_observation(progress, state, now)

    def apply_attempt(self, progress: RecordProgress, attempt: RecordAttempt, now: float) -> RecordProgress:
        return outcome.apply_attempt(progress, attempt, now)

    def apply_timeouts(
        self, progress: RecordProgress, episode: EpisodeProgress, settings: HealerSettings
    ) -> RecordProgress:
        return schedule.apply_timeouts(progress, episode, settings)

    def should_reopen(self, progress: RecordProgress, state: SlotState) -> bool:
        return outcome.should_reopen(progress, state)

    def wants_attempt(self, progress: RecordProgress) -> bool:
        return progress.wants_call

    def next_step(
        self, open_slots: Collection[RecordProgress], episode: EpisodeProgress, settings: HealerSettings
    ) -> Act | Wait:
        return schedule.next_step(open_slots, episode, settings)

    def describe(self, attempt: RecordAttempt) -> LogEntry:
        function = (
            "pg_logical_emit_message()" if attempt.result is AttemptResult.EMITTED else "pg_log_standby_snapshot()"
        )
        capability = attempt.capability
        reason = capability.reason if capability is not None else None
        if attempt.acted:
            line = f"called {function}, {attempt.lsn} returned{f' (no better way: {reason})' if reason else ''}"
        elif attempt.result is AttemptResult.LOCKED:
            holder = f"another client holds the healers' lock: {attempt.lock_holder}" if attempt.lock_holder else None
            line = f"not called: {holder or 'another healer acts on this cluster'}"
        else:
            line = f"not called: {reason or attempt.error}"
        fields = {
            "lsn": attempt.lsn,
            "reason": f"{reason}" if reason else None,
            "remedy": capability.advice or None if capability else None,
            "holder": attempt.lock_holder,
            "error": attempt.error or None,
        }
        return LogEntry(line, f"called {function}" if attempt.acted else "could not call", attempt.acted, fields)
