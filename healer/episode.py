"""The loop of one cluster: look, call, look again, until an outcome."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import replace

from exporter.config import Cluster, HealerSettings
from exporter.log import event
from exporter.observer import Observer
from exporter.retention import RetentionCause
from healer.budget import CallBudget
from healer.policy import End, LookAgain, Progress, next_step
from healer.primary import APPLICATION_NAME, WROTE, Call, CallResult, Primary
from healer.report import Report
from healer.sights import Sight, Subject, see
from healer.tracks import Outcome, Track, advance, after_call

LOOK_TIMEOUT = 5.0
SHORTEST_LOCK_TTL = 60.0
MOST_SUBJECTS = 1000
"""Slots in one episode. A server with more of them in creation has another problem."""
MOST_ALERTS = 20_000

_SPENDING = WROTE | {CallResult.LOCKED, CallResult.ERROR}
"""What counts against the cluster's hour. LOCKED: another healer makes the call, and both budgets stay in step."""

_log = logging.getLogger(__name__)


class Episode:
    """One episode. `run` it once; alerts join and leave while it runs."""

    def __init__(
        self, cluster: Cluster, settings: HealerSettings, budget: CallBudget, called: Callable[[Call], None]
    ) -> None:
        if cluster.healer is None:
            raise ValueError(f"cluster {cluster.name} has no healer section")
        self.cluster = cluster
        self._target = cluster.healer
        self._settings = settings
        self._budget = budget
        self._called = called
        self._alerts: dict[str, Subject] = {}
        self._subjects: set[Subject] = set()
        self._tracks: dict[Subject, Track] = {}
        self._started = time.monotonic()
        self._first_call: float | None = None
        self._progress = Progress(now=0.0, dry_run=cluster.healer.dry_run)
        self._stopped: str | None = None
        self._hurried = False
        self._changed = asyncio.Event()
        self.report = Report(cluster.name, time.time())

    @property
    def fingerprints(self) -> frozenset[str]:
        """The alerts that take part."""
        return frozenset(self._alerts)

    @property
    def calls_left(self) -> int:
        return max(0, self._settings.calls_per_episode - self.report.calls)

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
            # Another alert about the same slot changes nothing: a look for each of them would let a storm of webhooks
            # through to the databases.
            self._changed.set()

    def leave(self, fingerprint: str, why: str = "resolved") -> bool:
        """Take an alert out, because it resolved or was silenced; return whether it was in."""
        left = self._alerts.pop(fingerprint, None)
        if left is not None:
            self._stopped = f"the alert was {why} while the slot still waited"
            self._tell(f"alert for slot {left.slot_name} on {left.node} {why}")
            if not self._alerts:
                self._changed.set()
        return left is not None

    async def run(self) -> Report:
        """Run until an outcome; the report has it."""
        observer = Observer([self.cluster], APPLICATION_NAME)
        try:
            ttl = max(SHORTEST_LOCK_TTL, 3 * self._settings.interval)
            async with Primary(self._target, lock_ttl=ttl) as primary:
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
            step = next_step(self._wanted(), self._progress, self._settings)
            if isinstance(step, End):
                return step
            if isinstance(step, LookAgain):
                await self._pause(step)
                continue
            # Once the lock is ours it is looked once more: another healer may have been at work until just now.
            call = await primary.call() if primary.ready else await primary.prepare()
            if call is not None:
                self._attempted(call)

    def _wanted(self) -> list[Track]:
        """Leave out the slots whose own alerts have all ended, for as long as there are alerts about others."""
        subjects = set(self._alerts.values())
        return [
            track
            for subject, track in self._tracks.items()
            if not subjects or subject in subjects or track.verdict is not None
        ]

    async def _look(self, observer: Observer) -> None:
        snapshot = await observer.look(self.cluster.name, LOOK_TIMEOUT)
        for subject, sight in see(snapshot, self.report.subjects).items():
            before = self._tracks.get(subject)
            track = advance(before, sight)
            self._tracks[subject] = track
            if before is None or _shown(before.sight) != _shown(track.sight):
                self._tell_sight(subject, track)
        hurried = any(track.hurried for track in self._tracks.values())
        self._progress = replace(
            self._progress,
            now=self._elapsed(),
            stopped=None if self._alerts else self._stopped,
            burst_attempts=0 if hurried and not self._hurried else self._progress.burst_attempts,
            spent_budget=self._spent_budget(),
        )
        self._hurried = hurried

    def _attempted(self, call: Call) -> None:
        self._called(call)
        now = self._elapsed()
        if call.result in _SPENDING:
            self._budget.spend(time.monotonic())
        if call.result in WROTE:
            self._wrote(call, now)
        reason = call.capability.reason if call.capability is not None else None
        self._progress = replace(
            self._progress,
            now=now,
            burst_attempts=self._progress.burst_attempts + 1,
            last_attempt=now,
            calls=self.report.calls,
            unavailable=reason if call.result is CallResult.UNAVAILABLE else None,
            by_message=call.result is CallResult.EMITTED,
            locked_out=call.result is CallResult.LOCKED,
        )
        self._tell_call(call)

    def _wrote(self, call: Call, now: float) -> None:
        record = _position(call.lsn) if call.lsn is not None else None
        self._tracks = {subject: after_call(track, record) for subject, track in self._tracks.items()}
        self._first_call = now if self._first_call is None else self._first_call
        self.report.calls += 1
        self.report.messages += call.result is CallResult.EMITTED
        if call.lsn is not None:
            self.report.lsns.append(call.lsn)

    def _spent_budget(self) -> str | None:
        if not self.calls_left:
            return "calls per episode"
        return None if self._budget.left(time.monotonic()) else "calls per cluster and hour"

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
            messages=report.messages or None,
            lsns=list(report.lsns),
            seconds=round(report.seconds, 3),
            heal_seconds=None if report.heal_seconds is None else round(report.heal_seconds, 3),
        )

    def _tell_call(self, call: Call) -> None:
        function = "pg_logical_emit_message()" if call.result is CallResult.EMITTED else "pg_log_standby_snapshot()"
        capability = call.capability
        reason = capability.reason if capability is not None else None
        done = call.result in WROTE
        if done:
            self._tell(f"called {function}, {call.lsn} returned{f' (no better way: {reason})' if reason else ''}")
        elif call.result is CallResult.LOCKED:
            self._tell("not called: another healer acts on this cluster")
        else:
            self._tell(f"not called: {reason or call.error}")
        event(
            _log,
            logging.INFO if done else logging.WARNING,
            f"called {function}" if done else "could not call",
            cluster=self.cluster.name,
            slots=[subject.slot_name for subject in self.report.subjects],
            result=f"{call.result}",
            lsn=call.lsn,
            reason=f"{reason}" if reason else None,
            remedy=capability.remedy or None if capability else None,
            error=call.error or None,
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
        self.report.tell(self._elapsed(), text)

    def _elapsed(self) -> float:
        return time.monotonic() - self._started


def _shown(sight: Sight) -> tuple[str, ...]:
    if sight.reason is not None:
        return (sight.state,) if sight.reason == sight.state else (sight.state, "for", sight.reason)
    elsewhere = sight.cause in (RetentionCause.TRANSACTION, RetentionCause.CONSUMER)
    return (sight.state, "with WAL kept by", f"{sight.cause}") if elsewhere else (sight.state,)


def _position(lsn: str) -> int:
    """Return an LSN's text as bytes since 0/0."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)
