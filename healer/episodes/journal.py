"""What an episode tells: lines of its timeline, and of the log. It decides nothing."""

import logging
import time
from collections.abc import Collection

from healer.episodes.report import MAX_RESULTS, Report, SlotResult
from healer.remedies.attempt import DONE, Call, CallResult
from healer.remedies.base import Remedy
from healer.remedies.progress import WELL, Outcome, Track
from healer.remedies.slot_state import SlotCondition, SlotKey, SlotState
from pgslot.cli.logging import get_logger

log = get_logger(__name__)


class EpisodeJournal:
    """Fills the report of one episode, and logs what happens in it."""

    def __init__(self, cluster: str, remedy: Remedy) -> None:
        self.report = Report(cluster, remedy.name, time.time())
        self._say = remedy.say
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the episode's start."""
        return time.monotonic() - self._started

    def joined(self, subject: SlotKey) -> None:
        if subject not in self.report.subjects[-1:] and subject not in self.report.subjects:
            self.report.subjects.append(subject)
            del self.report.subjects[:-MAX_RESULTS]
        self._tell(f"alert for slot {subject.slot_name} on {subject.node}")

    def left(self, subject: SlotKey, why: str) -> None:
        self._tell(f"alert for slot {subject.slot_name} on {subject.node} {why}")

    def seen(self, subject: SlotKey, sight: SlotState) -> None:
        """Tell of a sight that differs from the one before."""
        reason = sight.reason
        if reason is not None and reason not in self.report.reasons:
            self.report.reasons.append(f"{reason}")
        held = None
        blocker = (sight.blocker or sight.pinned_by) if sight.wait is None else sight.wait.blocker
        if blocker is not None:
            held = f"{blocker.held_by} pid={blocker.pid} user={blocker.usename} application={blocker.application_name}"
        self._tell(f"slot {subject.slot_name}: {' '.join(describe_state(sight))}{f', held by {held}' if held else ''}")
        log.info(
            "slot seen",
            cluster=self.report.cluster,
            node=subject.node,
            slot=subject.slot_name,
            state=f"{sight.state}",
            reason=f"{reason}" if reason else None,
            blocker=held,
        )

    def no_room(self) -> None:
        """Tell it once, however often it is so in a row."""
        text = "not called: as many clusters as may be healed at once are being healed"
        if not self.report.timeline or self.report.timeline[-1].text != text:
            self._tell(text)

    def called(self, call: Call, alerts: Collection[str]) -> None:
        said = self._say(call)
        if said.once and self.report.timeline and self.report.timeline[-1].text == said.line:
            return
        if call.result in DONE:
            self._count(call)
        self._tell(said.line)
        log.log(
            logging.INFO if said.done else logging.WARNING,
            said.message,
            cluster=self.report.cluster,
            heal=self.report.remedy,
            slots=[subject.slot_name for subject in self.report.subjects],
            alerts=sorted(filter(None, alerts)) or None,
            result=f"{call.result}",
            **said.fields,
        )

    def slot_ended(self, subject: SlotKey, track: Track, outcome: Outcome) -> SlotResult:
        """Put down what became of a slot, and return it."""
        now = self.elapsed
        took = now - track.first_call if outcome is Outcome.HEALED and track.first_call is not None else None
        heal = SlotResult(
            subject.node, subject.slot_name, outcome, track.why, round(now - track.since, 3), track.calls, took
        )
        self.report.slots.append(heal)
        self._tell(f"slot {subject.slot_name}: {outcome}: {track.why}")
        log.log(
            logging.INFO if outcome in WELL else logging.WARNING,
            "heal ended",
            cluster=self.report.cluster,
            heal=self.report.remedy,
            node=subject.node,
            slot=subject.slot_name,
            outcome=f"{outcome}",
            why=track.why,
            calls=track.calls,
            seconds=heal.seconds,
            heal_seconds=None if took is None else round(took, 3),
        )
        return heal

    def ended(self, otherwise: tuple[Outcome, str]) -> None:
        """Put down how the whole episode ended."""
        report = self.report
        report.conclude(self.elapsed, otherwise)
        self._tell(f"{report.outcome}: {report.why}")
        log.log(
            logging.INFO if report.outcome in WELL else logging.WARNING,
            "episode ended",
            cluster=report.cluster,
            heal=report.remedy,
            outcome=f"{report.outcome}",
            why=report.why,
            nodes=sorted({subject.node for subject in report.subjects}),
            slots=[subject.slot_name for subject in report.subjects],
            reasons=report.reasons,
            calls=report.calls,
            messages=report.messages or None,
            lsns=list(report.lsns),
            seconds=round(report.seconds, 3),
            heal_seconds=None if report.heal_seconds is None else round(report.heal_seconds, 3),
        )

    def failed(self) -> None:
        log.exception("the episode failed", cluster=self.report.cluster)  # noqa: LOG004 - called while the exception is handled

    def _count(self, call: Call) -> None:
        self.report.calls += 1
        self.report.messages += call.result is CallResult.EMITTED
        if call.lsn is not None:
            self.report.lsns.append(call.lsn)

    def _tell(self, text: str) -> None:
        self.report.tell(self.elapsed, text)


def describe_state(sight: SlotState) -> tuple[str, ...]:
    """Return a sight in words."""
    reason = sight.reason
    if reason is None or reason == sight.state:
        return (sight.state,)
    because = (SlotCondition.UNDECIDED, SlotCondition.NOT_PERSISTED, SlotCondition.UNREADY)
    by = "by" if sight.state is SlotCondition.HELD else "because of" if sight.state in because else "for"
    return (sight.state, by, reason)
