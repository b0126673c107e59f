"""Writes the timeline and the log of an episode; it decides nothing, and waits for nothing."""

import logging
import time
from collections.abc import Collection

from healer.episodes.report import MAX_RESULTS, Report, SlotResult
from healer.remedies.attempt import Attempt
from healer.remedies.base import AnyRemedy
from healer.remedies.progress import WELL, Outcome, SlotProgress
from healer.remedies.slot_state import SlotCondition, SlotKey, SlotState
from healer.slot_history import EventKind, SlotEvent, SlotHistory
from pgslot.cli.logging import get_logger
from pgslot.diagnosis.creation_wait import WaitReason
from pgslot.snapshot.model import NodeSnapshot

log = get_logger(__name__)


class EpisodeJournal:
    """Fills in the report of one episode, and logs what happens in it."""

    def __init__(self, cluster: str, remedy: AnyRemedy, history: SlotHistory | None = None) -> None:
        """`history`: where the events of each slot are kept beyond this episode; None: nowhere."""
        self.report = Report(cluster, remedy.name, time.time())
        self._remedy = remedy
        self._history = history
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the episode's start."""
        return time.monotonic() - self._started

    def joined(self, key: SlotKey) -> None:
        slots = self.report.subjects
        if key not in slots[-1:] and key not in slots:
            slots.append(key)
            del slots[:-MAX_RESULTS]
        self._append(f"alert for slot {key.slot_name} on {key.node}")

    def left(self, key: SlotKey, why: str) -> None:
        self._append(f"alert for slot {key.slot_name} on {key.node} {why}")
        self._remember(key, EventKind.WITHDRAWN, "", why)

    def observed(self, key: SlotKey, state: SlotState) -> None:
        """Report a state that differs from the previous one."""
        reason = state.reason
        if reason is not None and reason not in self.report.reasons:
            self.report.reasons.append(f"{reason}")
        holder = None
        blocker = (state.blocker or state.pinned_by) if state.wait is None else state.wait.blocker
        if blocker is not None:
            who = f"pid={blocker.pid} user={blocker.usename} application={blocker.application_name}"
            holder = f"{blocker.backend_type} {who}"
        held_by = f", held by {holder}" if holder else ""
        described = f"{' '.join(describe_state(state))}{held_by}"
        self._append(f"slot {key.slot_name}: {described}")
        self._remember(key, EventKind.STATE, f"{state.condition}", described)
        log.info(
            "slot seen",
            cluster=self.report.cluster,
            node=key.node,
            slot=key.slot_name,
            state=f"{state.condition}",
            reason=f"{reason}" if reason else None,
            blocker=holder,
        )

    def no_room(self, slots: Collection[SlotKey]) -> None:
        """Report, once in a row, that clusters_at_once does not let the episode act; `slots`: those that wait."""
        text = "not called: the healer acts on the maximum number of clusters"
        for key in slots:
            self._remember(key, EventKind.NO_ROOM, "")
        if not self.report.timeline or self.report.timeline[-1].text != text:
            self._append(text)

    def attempted(self, attempt: Attempt, alerts: Collection[str], slots: Collection[SlotKey]) -> None:
        """Report an attempt; `alerts`: the names of the alerts that asked for it, `slots`: those it was made for."""
        entry = self._remedy.describe(attempt)
        for key in slots:
            # The position is another one in each attempt: attempts alike are counted.
            text = entry.line if attempt.returned_lsn is None else entry.message
            self._remember(key, EventKind.ATTEMPT, f"{attempt.result}", text)
        if entry.once and self.report.timeline and self.report.timeline[-1].text == entry.line:
            return
        if attempt.acted:
            self.report.calls += 1
            self.report.messages += attempt.by_fallback
            if attempt.returned_lsn is not None:
                self.report.lsns.append(attempt.returned_lsn)
        self._append(entry.line)
        log.log(
            logging.INFO if entry.done else logging.WARNING,
            entry.message,
            cluster=self.report.cluster,
            heal=self.report.remedy,
            slots=[key.slot_name for key in self.report.subjects],
            alerts=sorted(filter(None, alerts)) or None,
            result=f"{attempt.result}",
            **entry.fields,
        )

    def slot_ended(self, key: SlotKey, progress: SlotProgress, outcome: Outcome) -> SlotResult:
        """Report a slot's outcome, and return it."""
        now = self.elapsed
        first = progress.first_call
        took = now - first if outcome is Outcome.HEALED and first is not None else None
        result = SlotResult(
            key.node, key.slot_name, outcome, progress.why, round(now - progress.since, 3), progress.calls, took
        )
        self.report.slots.append(result)
        self._append(f"slot {key.slot_name}: {outcome}: {progress.why}")
        self._remember(key, EventKind.OUTCOME, f"{outcome}", progress.why)
        log.log(
            logging.INFO if outcome in WELL else logging.WARNING,
            "heal ended",
            cluster=self.report.cluster,
            heal=self.report.remedy,
            node=key.node,
            slot=key.slot_name,
            outcome=f"{outcome}",
            why=progress.why,
            calls=progress.calls,
            seconds=result.seconds,
            heal_seconds=None if took is None else round(took, 3),
        )
        return result

    def ended(self, otherwise: tuple[Outcome, str]) -> None:
        """Report how the episode ended; `otherwise`: outcome and reason if no slot has an outcome."""
        report = self.report
        report.conclude(self.elapsed, otherwise)
        self._append(f"{report.outcome}: {report.why}")
        log.log(
            logging.INFO if report.outcome in WELL else logging.WARNING,
            "episode ended",
            cluster=report.cluster,
            heal=report.remedy,
            outcome=f"{report.outcome}",
            why=report.why,
            nodes=sorted({key.node for key in report.subjects}),
            slots=[key.slot_name for key in report.subjects],
            reasons=report.reasons,
            calls=report.calls,
            messages=report.messages or None,
            lsns=list(report.lsns),
            seconds=round(report.seconds, 3),
            heal_seconds=None if report.heal_seconds is None else round(report.heal_seconds, 3),
        )

    def failed(self) -> None:
        """Log the exception that is being handled."""
        log.exception("the episode failed", cluster=self.report.cluster)  # noqa: LOG004 - called by its handler

    def _remember(self, key: SlotKey, kind: EventKind, what: str, text: str = "") -> None:
        if self._history is not None:
            event = SlotEvent(kind, what, text, node=key.node, remedy=self.report.remedy)
            self._history.record(self.report.cluster, key.slot_name, event)

    def _append(self, text: str) -> None:
        self.report.append(self.elapsed, text)


def describe_state(state: SlotState) -> tuple[str, ...]:
    """Return the words that describe a slot's state."""
    reason = state.reason
    if reason is None or reason == state.condition:
        return (state.condition,)
    if reason == WaitReason.UNKNOWN:
        inconclusive = state.condition is SlotCondition.INCONCLUSIVE
        return (state.condition, "so far" if inconclusive else "for an unknown reason")
    because = (SlotCondition.INCONCLUSIVE, SlotCondition.NOT_PERSISTED, SlotCondition.UNREADY)
    by = "by" if state.condition is SlotCondition.RETAINED else "because of" if state.condition in because else "for"
    return (state.condition, by, reason)


def describe_failures(node: NodeSnapshot) -> str:
    """Return why a node could not be read: the connection's failure, or which queries failed and how."""
    if not node.up:
        return " ".join(node.failures.values())
    return ", ".join(f"{query}: {status}" for query, status in node.failures.items())
