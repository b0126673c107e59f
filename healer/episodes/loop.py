"""
The loop of one episode: take a snapshot, act, take another snapshot, until every slot has an outcome.

journal.py writes the log and the timeline.
"""

import asyncio
import contextlib
import time
from collections.abc import Collection
from dataclasses import replace

from healer.episodes.budget import CallBudget
from healer.episodes.deadlines import MAX_SNAPSHOT_AGE, NO_ROOM_INTERVAL
from healer.episodes.journal import EpisodeJournal, describe_state
from healer.episodes.memory import EpisodeMemory
from healer.episodes.partial_snapshot import PartialCollector
from healer.episodes.report import Report, SlotResult
from healer.episodes.watch import HealedSlot
from healer.remedies.attempt import Act, Attempt, Wait
from healer.remedies.base import AnyRemedy, EpisodeProgress
from healer.remedies.connection import MIN_IDLE_TIMEOUT, AnyConnection
from healer.remedies.progress import WELL, Outcome, SlotProgress
from healer.remedies.slot_state import SlotKey, SlotState, evaluate
from pgslot.config.model import Cluster, HealerSettings

MAX_SLOTS = 1000
"""In one episode. A server with more slots in creation has another problem."""
MAX_ALERTS = 20_000
"""In one episode, and in wait for the next one."""

INTERVALS_UNTIL_IDLE = 3
"""The server ends the episode's session after this many intervals (`healer.interval`) without a statement."""


class EpisodeCallbacks:
    """What an episode calls in its manager. By default it may always act, and reports nothing."""

    def attempted(self, attempt: Attempt) -> None:
        """Called after every attempt."""

    def slot_ended(self, result: SlotResult, firing: Collection[str]) -> None:
        """Called when a slot has an outcome; `firing`: the fingerprints of the alerts about it that still fire."""

    def may_act(self, *, wanted: bool) -> bool:
        """
        Return whether clusters_at_once lets this cluster be acted on.

        Called with `wanted` before every attempt, and without it to release the cluster's place.
        """
        return wanted


class Episode:
    """One episode. Call `run` once; alerts join and leave while it runs, and `stop` ends it before the next attempt."""

    def __init__(
        self,
        remedy: AnyRemedy,
        cluster: Cluster,
        settings: HealerSettings,
        budget: CallBudget,
        callbacks: EpisodeCallbacks | None = None,
        *,
        memory: EpisodeMemory | None = None,
    ) -> None:
        """`memory`: what earlier episodes of this process and its regular checks have learned; None: nothing."""
        target = remedy.target(cluster)
        if target is None:
            raise ValueError(f"cluster {cluster.name} has no section for {remedy.name}")
        self.remedy = remedy
        self.cluster = cluster
        self._target = target
        self._settings = settings
        self._budget = budget
        self._callbacks = callbacks or EpisodeCallbacks()
        memory = memory or EpisodeMemory()
        self._clock = memory.clock
        self._collector = PartialCollector(cluster, memory.collector)
        self._alerts: dict[str, SlotKey] = {}
        """The slot of each alert, by fingerprint."""
        self._names: dict[str, str] = {}
        """The value of each alert's label `alertname`, by fingerprint, for the log."""
        self._fingerprints: dict[SlotKey, set[str]] = {}
        """The alerts about each slot, by fingerprint."""
        self._slots: dict[SlotKey, SlotProgress] = {}
        self._reported: set[SlotKey] = set()
        """Slots whose outcome has been reported."""
        self._progress = EpisodeProgress(now=0.0, dry_run=target.dry_run)
        self._stop: str | None = None
        self._collecting = True
        """False: the loop has ended, and connections are being closed."""
        self._changed = asyncio.Event()
        self._journal = EpisodeJournal(cluster.name, remedy, memory.history)

    @property
    def report(self) -> Report:
        return self._journal.report

    @property
    def fingerprints(self) -> frozenset[str]:
        """The fingerprints of the alerts that have joined."""
        return frozenset(self._alerts)

    @property
    def open_slots(self) -> dict[SlotKey, SlotState]:
        """The slots without an outcome, in the state of the last snapshot."""
        return {key: progress.state for key, progress in self._open().items()}

    @property
    def calls_left(self) -> int:
        """The most calls that any open slot has left in this episode."""
        limit = self._settings.calls_per_episode
        return max((limit - progress.calls for progress in self._open().values()), default=0)

    @property
    def deadline(self) -> float:
        """Unix time at which the next open slot is given up; the last deadline if no slot is open."""
        return self.report.started_at + next_deadline(self._slots.values(), self._settings.give_up_after)

    @property
    def over(self) -> bool:
        """No more alerts can join: it has ended, or is about to."""
        return self._stop is not None or not self._collecting or self.report.outcome is not None

    def has_joined(self, fingerprint: str) -> bool:
        """Return whether the alert takes part."""
        return fingerprint in self._alerts

    @property
    def healed(self) -> dict[SlotKey, HealedSlot]:
        """The slots that are well while alerts about them fire."""
        return {
            key: HealedSlot(
                progress, {fingerprint: self._names[fingerprint] for fingerprint in self._fingerprints[key]}
            )
            for key, progress in self._slots.items()
            if progress.outcome in WELL
        }

    def has_room(self, key: SlotKey) -> bool:
        """Return whether the limits let an alert about this slot join."""
        return len(self._alerts) < MAX_ALERTS and (key in self._slots or len(self._slots) < MAX_SLOTS)

    def join(self, fingerprint: str, key: SlotKey, name: str = "", runbook_url: str = "") -> None:
        """Add a firing alert. If its slot is open already, no extra snapshot is taken."""
        self.report.add_alert(name, runbook_url)
        new = fingerprint not in self._alerts
        self._alerts[fingerprint] = key
        self._names[fingerprint] = name
        self._fingerprints.setdefault(key, set()).add(fingerprint)
        progress = self._slots.get(key)
        if progress is None or (not progress.open and new):
            self._begin(key)
            self._changed.set()
        elif progress.withdrawn is not None:
            self._slots[key] = replace(progress, withdrawn=None)

    def leave(self, fingerprint: str, why: str = "resolved") -> bool:
        """Remove an alert that resolved or was silenced; return whether it had joined."""
        key = self._alerts.pop(fingerprint, None)
        if key is None:
            return False
        self._names.pop(fingerprint, None)
        self._journal.left(key, why)
        self._fingerprints[key].discard(fingerprint)
        if not self._fingerprints[key]:
            reason = f"the alert was {why} while the slot still waited"
            self._slots[key] = replace(self._slots[key], withdrawn=reason)
            self._changed.set()
        return True

    def follow(self, cluster: Cluster) -> None:
        """Continue with the members that the cluster has now."""
        self.cluster = cluster
        self._changed.set()

    def stop(self, reason: str) -> None:
        """End the episode before the next attempt, whatever it waits for; the first reason counts."""
        self._stop = self._stop or reason
        self._changed.set()

    async def run(self) -> Report:
        """Run until every slot has an outcome; return the report."""
        collector = self._collector
        idle_timeout = max(MIN_IDLE_TIMEOUT, INTERVALS_UNTIL_IDLE * self._settings.interval)
        try:
            async with self.remedy.connect(self._target, idle_timeout) as connection:
                if not self._target.dry_run:
                    # Connecting takes as long as the first snapshot, which usually shows that an attempt is needed.
                    connection.prepare_in_background()
                try:
                    await self._loop(collector, connection)
                finally:
                    # Closing takes a moment, in which a slot that joined would not be observed.
                    self._collecting = False
        except asyncio.CancelledError:
            self.stop("the healer stops")
            raise
        except Exception:  # noqa: BLE001 - an internal error in one cluster must not end the others' episodes
            self._journal.failed()
            self.finish(Outcome.ERROR, "an internal error of the healer: see its log")
        finally:
            self.finish()
            await collector.close()
        return self.report

    async def _loop(self, collector: PartialCollector, connection: AnyConnection) -> None:
        while self._stop is None:
            self._changed.clear()
            collector.follow(self.cluster)
            snapshot = await collector.collect({key.node for key in self._slots})
            self._apply_observations(evaluate(snapshot, self._slots))
            self._apply_timeouts()
            open_slots = self._open().values()
            if not open_slots:
                return
            match self.remedy.next_step(open_slots, self._progress, self._settings):
                case Wait(seconds):
                    if not any(self.remedy.wants_attempt(progress) for progress in open_slots):
                        self._callbacks.may_act(wanted=False)
                        await connection.cancel_preparation()
                    await self._pause(seconds)
                case act:
                    await self._attempt(connection, act)

    async def _attempt(self, connection: AnyConnection, step: Act) -> None:
        """Act, unless the episode was stopped; if connecting took long, return for another snapshot first."""
        if not self._callbacks.may_act(wanted=True):
            self._journal.no_room(self._open())
            return await self._pause(NO_ROOM_INTERVAL)
        failed = None
        if not connection.ready:
            failed = await connection.prepare()
            if failed is None and self._journal.elapsed - self._progress.now > MAX_SNAPSHOT_AGE:
                # The snapshot may be stale. A failed connect counts as an attempt, and keeps its interval.
                return None
        if self._stop is None:
            self._apply_attempt(failed or await self._act(connection, step))
        return None

    async def _act(self, connection: AnyConnection, step: Act) -> Attempt:
        """Act; a stop cancels that on the server, and what was done all the same is reported before the stop."""
        connection.expected_identifier = self._collector.system_identifier
        act = asyncio.create_task(connection.act(step))
        try:
            return await asyncio.shield(act)
        except asyncio.CancelledError:
            await connection.interrupt()
            self._apply_attempt(await act)
            raise

    def _apply_observations(self, states: dict[SlotKey, SlotState]) -> None:
        now = self._journal.elapsed
        for key, state in states.items():
            if self.remedy.should_reopen(self._slots[key], state):
                self._begin(key)
            before = self._slots[key]
            self._slots[key] = self.remedy.apply_observation(before, state, now)
            if before.now == before.since or describe_state(before.state) != describe_state(state):
                self._journal.observed(key, state)
        spent = not self._budget.left(time.monotonic())
        self._progress = replace(self._progress, now=now, budget_spent=spent, clock_steps=self._clock.steps)

    def _apply_timeouts(self) -> None:
        """End slots whose time has come. A slot that is well is watched while its alert fires; others are removed."""
        for key in list(self._slots):
            self._slots[key] = self.remedy.apply_timeouts(self._slots[key], self._progress, self._settings)
            self._conclude(key)

    def _conclude(self, key: SlotKey) -> None:
        progress = self._slots[key]
        if progress.outcome is None:
            return
        if key not in self._reported:
            self._reported.add(key)
            result = self._journal.slot_ended(key, progress, progress.outcome)
            self._callbacks.slot_ended(result, set(self._fingerprints[key]))
        if progress.outcome not in WELL or not self._fingerprints[key]:
            for fingerprint in self._fingerprints.pop(key):
                del self._alerts[fingerprint], self._names[fingerprint]
            del self._slots[key]
            self._reported.discard(key)

    def _apply_attempt(self, attempt: Attempt) -> None:
        self._callbacks.attempted(attempt)
        self._journal.attempted(attempt, {self._names[fingerprint] for fingerprint in self._alerts}, self._open())
        now = self._journal.elapsed
        if attempt.result in self.remedy.spending:
            self._budget.spend(time.monotonic())
        if attempt.clock is not None:
            self._clock.observe(attempt.clock)
        self._collector.add_records(attempt.logged_records)
        self._slots = {key: self.remedy.apply_attempt(progress, attempt, now) for key, progress in self._slots.items()}
        self._progress = replace(
            self._progress,
            now=now,
            last_attempt=now,
            by_fallback=attempt.by_fallback,
            budget_spent=not self._budget.left(time.monotonic()),
            clock_steps=self._clock.steps,
        )

    async def _pause(self, seconds: float) -> None:
        """Wait until an alert, the members or a stop changes something, but no longer than this."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()

    def finish(self, outcome: Outcome = Outcome.CANCELLED, why: str | None = None) -> None:
        """End the slots that are still open, by default as cancelled for the reason of the stop."""
        if self.report.outcome is not None:
            return
        why = why or self._stop or "the healer stops"
        for key, progress in self._open().items():
            self._slots[key] = progress.end(outcome, "; ".join(filter(None, (why, progress.done))))
            self._conclude(key)
        self._journal.ended((outcome, why))

    def _begin(self, key: SlotKey) -> None:
        self._slots[key] = self.remedy.begin(self._journal.elapsed)
        self._reported.discard(key)
        self._journal.joined(key)

    def _open(self) -> dict[SlotKey, SlotProgress]:
        return {key: progress for key, progress in self._slots.items() if progress.open}


def next_deadline(slots: Collection[SlotProgress], give_up_after: float) -> float:
    """Return when the next open slot is given up, in seconds since the start; the last deadline if none is open."""
    last = max((progress.since for progress in slots), default=0.0)
    return min((progress.since for progress in slots if progress.open), default=last) + give_up_after
