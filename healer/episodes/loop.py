"""The loop of one cluster: look, call, look again, until each slot has its outcome. narration.py tells of it."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

from healer.episodes.budget import CallBudget
from healer.episodes.journal import EpisodeJournal, describe_state
from healer.episodes.partial_snapshot import PartialCollector
from healer.episodes.report import Report, SlotResult
from healer.remedies.attempt import Call, CallResult
from healer.remedies.base import Remedy
from healer.remedies.connection import SHORTEST_IDLE, Primary
from healer.remedies.force_snapshot.schedule import LOOK_INTERVAL, Attempt, Progress
from healer.remedies.progress import WELL, Outcome, Track, begin
from healer.remedies.slot_state import SlotKey, SlotState, evaluate
from pgslot.config.model import Cluster, HealerSettings

MAX_SLOTS = 1000
"""Slots in one episode. A server with more of them in creation has another problem."""
MAX_ALERTS = 20_000

FRESH_SECONDS = 0.5
"""For so long after a look its answer is acted on."""


def _nothing(*_: object) -> None:
    """Nobody is told."""


@dataclass(frozen=True, slots=True)
class Watchers:
    """Whom an episode tells, and asks, of what is not its own."""

    called: Callable[[Call], None] = _nothing
    healed: Callable[[SlotResult, Collection[str]], None] = _nothing
    """A slot has its outcome: and the alerts about it, by fingerprint, that still fire."""
    may_act: Callable[[bool], bool] = lambda _wants: True
    """Asked before each attempt with True, told False when nothing is to be called for: is it one of the clusters?"""


class Episode:
    """One episode. `run` it once; alerts join and leave while it runs, and `stop` ends it before the next call."""

    def __init__(
        self,
        remedy: Remedy,
        cluster: Cluster,
        settings: HealerSettings,
        budget: CallBudget,
        watchers: Watchers | None = None,
    ) -> None:
        target = remedy.target(cluster)
        if target is None:
            raise ValueError(f"cluster {cluster.name} has no section for {remedy.name}")
        self.remedy = remedy
        self.cluster = cluster
        self._target = target
        self._rules = remedy.rules
        self._settings = settings
        self._budget = budget
        self._watchers = watchers or Watchers()
        self._alerts: dict[str, SlotKey] = {}
        self._names: dict[str, str] = {}
        """What the alerts are called, for whoever reads the log."""
        self._askers: dict[SlotKey, set[str]] = {}
        """The alerts about each slot, by fingerprint."""
        self._tracks: dict[SlotKey, Track] = {}
        self._concluded: set[SlotKey] = set()
        """Those of them whose outcome has been told."""
        self._progress = Progress(now=0.0, dry_run=target.dry_run)
        self._stop: str | None = None
        self._looks = True
        """False: it only closes its connections."""
        self._changed = asyncio.Event()
        self._narrator = EpisodeJournal(cluster.name, remedy)

    @property
    def report(self) -> Report:
        return self._narrator.report

    @property
    def fingerprints(self) -> frozenset[str]:
        """The alerts that take part."""
        return frozenset(self._alerts)

    @property
    def calls_left(self) -> int:
        """Of the slot that has most of them left."""
        limit = self._settings.calls_per_episode
        return max((limit - track.calls for track in self._open().values()), default=0)

    @property
    def deadline(self) -> float:
        """Unix time at which the next of its slots is given up; the last one, when all have an outcome."""
        ended = max((track.since for track in self._tracks.values()), default=0.0)
        since = min((track.since for track in self._open().values()), default=ended)
        return self.report.started_at + since + self._settings.give_up_after

    @property
    def over(self) -> bool:
        """It takes no alerts in any more: it has ended, or is about to."""
        return self._stop is not None or not self._looks or self.report.outcome is not None

    def has_room(self, subject: SlotKey) -> bool:
        """Return whether another alert about this subject can join."""
        known = subject in self._tracks
        return len(self._alerts) < MAX_ALERTS and (known or len(self._tracks) < MAX_SLOTS)

    def join(self, fingerprint: str, subject: SlotKey, name: str = "") -> None:
        """Take a firing alert in. Another one about a slot that is open changes nothing, and costs no look."""
        news = fingerprint not in self._alerts
        self._alerts[fingerprint] = subject
        self._names[fingerprint] = name
        self._askers.setdefault(subject, set()).add(fingerprint)
        track = self._tracks.get(subject)
        if track is None or (not track.open and news):
            self._begin(subject)
            self._changed.set()
        elif track.left is not None:
            self._tracks[subject] = replace(track, left=None)

    def leave(self, fingerprint: str, why: str = "resolved") -> bool:
        """Take an alert out, because it resolved or was silenced; return whether it was in."""
        subject = self._alerts.pop(fingerprint, None)
        if subject is None:
            return False
        self._names.pop(fingerprint, None)
        self._narrator.left(subject, why)
        self._askers[subject].discard(fingerprint)
        if not self._askers[subject]:
            reason = f"the alert was {why} while the slot still waited"
            self._tracks[subject] = replace(self._tracks[subject], left=reason)
            self._changed.set()
        return True

    def follow(self, cluster: Cluster) -> None:
        """Go on with the members that the cluster has now."""
        self.cluster = cluster
        self._changed.set()

    def stop(self, reason: str) -> None:
        """End it before the next call, whatever it waits for; the first reason counts."""
        self._stop = self._stop or reason
        self._changed.set()

    async def run(self) -> Report:
        """Run until each slot has an outcome; the report has them."""
        lookout = PartialCollector(self.cluster)
        try:
            async with self.remedy.primary(self._target, max(SHORTEST_IDLE, 3 * self._settings.interval)) as primary:
                if not self._target.dry_run:
                    # It takes as long as the first look, which is what most often shows that it is needed.
                    primary.prepare_ahead()
                try:
                    await self._loop(lookout, primary)
                finally:
                    # Closing takes a moment, in which nobody would look at a slot that joined.
                    self._looks = False
        except asyncio.CancelledError:
            self.stop("the healer stops")
            raise
        except Exception:  # noqa: BLE001 - one cluster's defect must not end the others' episodes
            self._narrator.failed()
            self.finish(Outcome.ERROR, "a defect of the healer: see its log")
        finally:
            self.finish()
            await lookout.close()
        return self.report

    async def _loop(self, lookout: PartialCollector, primary: Primary) -> None:
        while self._stop is None:
            self._changed.clear()
            lookout.follow(self.cluster)
            snapshot = await lookout.collect({subject.node for subject in self._tracks})
            self._take_in(evaluate(snapshot, self._tracks))
            self._settle()
            tracks = self._open().values()
            if not tracks:
                return
            step = self._rules.next_step(tracks, self._progress, self._settings)
            if isinstance(step, Attempt):
                await self._attempt(primary, step)
                continue
            if not any(self._rules.wants(track) for track in tracks):
                self._watchers.may_act(False)
                await primary.not_needed()
            await self._pause(step.seconds)

    async def _attempt(self, primary: Primary, step: Attempt) -> None:
        """Act, unless it has been stopped; if connecting took long it is looked once more before."""
        if not self._watchers.may_act(True):
            self._narrator.no_room()
            return await self._pause(LOOK_INTERVAL)
        failed = None
        if not primary.ready:
            failed = await primary.prepare()
            if failed is None and self._narrator.elapsed - self._progress.now > FRESH_SECONDS:
                # What the look has shown may be over. One that fails is an attempt, whose pace is kept.
                return None
        if self._stop is None:
            self._attempted(failed or await self.remedy.act(primary, step))
        return None

    def _take_in(self, sights: dict[SlotKey, SlotState]) -> None:
        """Put down what a look has shown."""
        now = self._narrator.elapsed
        for subject, sight in sights.items():
            if self._rules.opens_again(self._tracks[subject], sight):
                self._begin(subject)
            before = self._tracks[subject]
            self._tracks[subject] = self._rules.advance(before, sight, now)
            if before.now == before.since or describe_state(before.sight) != describe_state(sight):
                self._narrator.seen(subject, sight)
        self._progress = replace(self._progress, now=now, hour_spent=not self._budget.left(time.monotonic()))

    def _settle(self) -> None:
        """Give the slots their outcomes. Who is well is watched on while its alert fires; the others are let go."""
        for subject in list(self._tracks):
            self._tracks[subject] = self._rules.settle(self._tracks[subject], self._progress, self._settings)
            self._conclude(subject)

    def _conclude(self, subject: SlotKey) -> None:
        track = self._tracks[subject]
        if track.outcome is None:
            return
        if subject not in self._concluded:
            self._concluded.add(subject)
            self._watchers.healed(self._narrator.slot_ended(subject, track, track.outcome), set(self._askers[subject]))
        if track.outcome not in WELL or not self._askers[subject]:
            for fingerprint in self._askers.pop(subject):
                del self._alerts[fingerprint], self._names[fingerprint]
            del self._tracks[subject]
            self._concluded.discard(subject)

    def _attempted(self, call: Call) -> None:
        self._watchers.called(call)
        self._narrator.called(call, {self._names[fingerprint] for fingerprint in self._alerts})
        now = self._narrator.elapsed
        if call.result in self.remedy.spending:
            self._budget.spend(time.monotonic())
        after = self._rules.after_attempt
        self._tracks = {subject: after(track, call, now) for subject, track in self._tracks.items()}
        self._progress = replace(
            self._progress, now=now, last_attempt=now, by_message=call.result is CallResult.EMITTED
        )

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until something has changed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def finish(self, outcome: Outcome = Outcome.CANCELLED, why: str | None = None) -> None:
        """End what is still open, by default as cancelled for the reason of the stop; what has ended stays."""
        if self.report.outcome is not None:
            return
        why = why or self._stop or "the healer stops"
        for subject, track in self._open().items():
            self._tracks[subject] = track.end(outcome, why)
            self._conclude(subject)
        self._narrator.ended((outcome, why))

    def _begin(self, subject: SlotKey) -> None:
        self._tracks[subject] = begin(self._narrator.elapsed)
        self._concluded.discard(subject)
        self._narrator.joined(subject)

    def _open(self) -> dict[SlotKey, Track]:
        return {subject: track for subject, track in self._tracks.items() if track.open}
