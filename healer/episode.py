"""The loop of one cluster: look, call, look again, until an outcome."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from exporter.config import Cluster, HealerSettings
from exporter.log import event
from exporter.observer import Observer
from healer.policy import (
    Attempt,
    End,
    LookAgain,
    Outcome,
    Progress,
    Sight,
    Subject,
    Track,
    advance,
    after_call,
    next_step,
    see,
)
from healer.primary import APPLICATION_NAME, Call, CallResult, Primary

LOOK_TIMEOUT = 5.0
TIMELINE_LENGTH = 200
MOST_SUBJECTS = 1000
"""Slots in one episode. A server with more of them in creation has another problem."""
MOST_ALERTS = 20_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Event:
    """One line of an episode's timeline."""

    seconds: float
    text: str


@dataclass
class Report:
    """An episode as the log, the status page and /episodes tell it; filled while it runs."""

    cluster: str
    started_at: float
    """Unix time."""
    subjects: list[Subject] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    """What was waited for, in the order in which it was first seen."""
    calls: int = 0
    lsns: deque[str] = field(default_factory=lambda: deque(maxlen=10))
    """The last LSNs that pg_log_standby_snapshot() returned."""
    seconds: float = 0.0
    heal_seconds: float | None = None
    """From the first call to the effect; None unless healed."""
    outcome: Outcome | None = None
    """None while it runs."""
    why: str = ""
    timeline: deque[Event] = field(default_factory=lambda: deque(maxlen=TIMELINE_LENGTH))


class Episode:
    """One episode. `run` it once; alerts join and leave while it runs."""

    def __init__(self, cluster: Cluster, settings: HealerSettings, called: Callable[[Call], None]) -> None:
        if cluster.healer is None:
            raise ValueError(f"cluster {cluster.name} has no healer section")
        self.cluster = cluster
        self._target = cluster.healer
        self._settings = settings
        self._called = called
        self._alerts: dict[str, Subject] = {}
        self._subjects: set[Subject] = set()
        self._tracks: dict[Subject, Track] = {}
        self._started = time.monotonic()
        self._first_call: float | None = None
        self._progress = Progress(now=0.0, firing=True, dry_run=cluster.healer.dry_run)
        self._curable = False
        self._changed = asyncio.Event()
        self.report = Report(cluster.name, time.time())

    def has_room(self, subject: Subject) -> bool:
        """Return whether another alert about this subject can join."""
        known = subject in self._subjects
        return len(self._alerts) < MOST_ALERTS and (known or len(self._subjects) < MOST_SUBJECTS)

    def join(self, fingerprint: str, subject: Subject) -> None:
        """Take a firing alert in."""
        self._alerts[fingerprint] = subject
        if subject not in self._subjects:
            self._subjects.add(subject)
            self.report.subjects.append(subject)
            self._tell(f"alert for slot {subject.slot_name} on {subject.node}")
        self._changed.set()

    def leave(self, fingerprint: str) -> bool:
        """Take a resolved alert out; return whether it was in."""
        left = self._alerts.pop(fingerprint, None)
        if left is not None:
            self._tell(f"alert for slot {left.slot_name} on {left.node} resolved")
            self._changed.set()
        return left is not None

    async def run(self) -> Report:
        """Run until an outcome; the report has it."""
        observer = Observer([self.cluster], APPLICATION_NAME)
        try:
            async with Primary(self._target) as primary:
                end = await self._loop(observer, primary)
        except asyncio.CancelledError as cancelled:
            self._finish(End(Outcome.CANCELLED, cancelled.args[0] if cancelled.args else "the healer stops"))
            raise
        except Exception:  # noqa: BLE001 - one cluster's defect must not end the others' episodes
            self._finish(End(Outcome.ERROR, "a defect of the healer: see its log"))
            _log.exception("the episode failed", extra={"fields": {"cluster": self.cluster.name}})
        else:
            self._finish(end)
        finally:
            await observer.close()
        return self.report

    async def _loop(self, observer: Observer, primary: Primary) -> End:
        while True:
            await self._look(observer)
            step = next_step(self._tracks.values(), self._progress, self._settings)
            if isinstance(step, End):
                return step
            if isinstance(step, Attempt):
                await self._attempt(primary)
            else:
                await self._pause(step)

    async def _look(self, observer: Observer) -> None:
        snapshot = await observer.look(self.cluster.name, LOOK_TIMEOUT)
        for subject, sight in see(snapshot, self.report.subjects).items():
            before = self._tracks.get(subject)
            track = advance(before, sight)
            self._tracks[subject] = track
            if before is None or _shown(before.sight) != _shown(track.sight):
                self._tell_sight(subject, track)
        curable = any(track.sight.curable for track in self._tracks.values())
        self._progress = replace(
            self._progress,
            now=self._elapsed(),
            firing=bool(self._alerts),
            burst_attempts=0 if curable and not self._curable else self._progress.burst_attempts,
        )
        self._curable = curable

    async def _attempt(self, primary: Primary) -> None:
        call = await primary.call()
        self._called(call)
        now = self._elapsed()
        if call.result is CallResult.OK:
            self._tracks = {subject: after_call(track) for subject, track in self._tracks.items()}
            self._first_call = now if self._first_call is None else self._first_call
            self.report.calls += 1
            if call.lsn is not None:
                self.report.lsns.append(call.lsn)
        reason = call.capability.reason if call.capability is not None else None
        self._progress = replace(
            self._progress,
            now=now,
            attempts=self._progress.attempts + 1,
            burst_attempts=self._progress.burst_attempts + 1,
            last_attempt=now,
            calls=self.report.calls,
            unavailable=reason,
        )
        shown = f"called, record at {call.lsn}" if call.lsn else f"not called: {reason or call.error or call.result}"
        self._tell(shown)
        event(
            _log,
            logging.INFO if call.result is CallResult.OK else logging.WARNING,
            "called pg_log_standby_snapshot()" if call.result is CallResult.OK else "could not call",
            cluster=self.cluster.name,
            slots=[subject.slot_name for subject in self.report.subjects],
            result=f"{call.result}",
            lsn=call.lsn,
            reason=f"{reason}" if reason else None,
            remedy=call.capability.remedy or None if call.capability else None,
            error=call.error or None,
        )

    async def _pause(self, step: LookAgain) -> None:
        self._changed.clear()
        try:
            await asyncio.wait_for(self._changed.wait(), step.seconds)
        except TimeoutError:
            return

    def _finish(self, end: End) -> None:
        report = self.report
        report.seconds = self._elapsed()
        report.outcome, report.why = end.outcome, end.why
        if end.outcome is Outcome.HEALED and self._first_call is not None:
            report.heal_seconds = report.seconds - self._first_call
        self._tell(f"{end.outcome}: {end.why}")
        event(
            _log,
            logging.INFO if end.outcome in (Outcome.HEALED, Outcome.RESOLVED_ITSELF) else logging.WARNING,
            "episode ended",
            cluster=report.cluster,
            outcome=f"{end.outcome}",
            why=end.why,
            nodes=sorted({subject.node for subject in report.subjects}),
            slots=[subject.slot_name for subject in report.subjects],
            reasons=report.reasons,
            calls=report.calls,
            lsns=list(report.lsns),
            seconds=round(report.seconds, 3),
            heal_seconds=None if report.heal_seconds is None else round(report.heal_seconds, 3),
        )

    def _tell_sight(self, subject: Subject, track: Track) -> None:
        reason = track.sight.reason
        if reason is not None and reason not in self.report.reasons:
            self.report.reasons.append(f"{reason}")
        held = None
        if track.sight.wait is not None and track.sight.wait.blocker is not None:
            blocker = track.sight.wait.blocker
            held = f"{blocker.held_by} pid={blocker.pid} user={blocker.usename} application={blocker.application_name}"
        self._tell(f"slot {subject.slot_name}: {' '.join(_shown(track.sight))}{f', held by {held}' if held else ''}")
        event(
            _log,
            logging.INFO,
            "slot seen",
            cluster=self.cluster.name,
            node=subject.node,
            slot=subject.slot_name,
            state=f"{track.sight.state}",
            reason=f"{reason}" if reason else None,
            blocker=held,
        )

    def _tell(self, text: str) -> None:
        self.report.timeline.append(Event(round(self._elapsed(), 3), text))

    def _elapsed(self) -> float:
        return time.monotonic() - self._started


def _shown(sight: Sight) -> Iterable[str]:
    return (sight.state,) if sight.reason is None else (sight.state, "for", sight.reason)
