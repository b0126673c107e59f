"""
One episode at a time for each cluster and remedy: alerts start it, join it, or are left alone; and past ones.

An episode is supervised from outside of it: it is told to stop by a reason that it checks before each call, and
whatever becomes of its task, the task's end is what takes it out of the books.
"""

import asyncio
import time
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial

from healer.capability import CapabilityMonitor, Key
from healer.episodes.budget import CallBudget
from healer.episodes.loop import MAX_ALERTS, Episode, Watchers
from healer.episodes.report import Report, SlotResult
from healer.metrics import HealerMetrics
from healer.remedies.attempt import Call
from healer.remedies.progress import Outcome
from healer.remedies.registry import REMEDIES
from healer.webhook.body import REFUSED, Action, Alert
from healer.webhook.deduplication import SeenAlerts
from healer.webhook.filter import AcceptedAlert, classify
from pgslot.cli.logging import get_logger
from pgslot.config.model import Cluster, Config

MAX_PAST_EPISODES = 100
CLOSE_SECONDS = 10.0
"""How long episodes may take to close their connections at the end; the longest look or call is shorter."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Running:
    """An episode and the task that it runs in."""

    episode: Episode
    task: asyncio.Task[Report]


class EpisodeManager:
    """All clusters' episodes, running and past, and what is left of their budgets."""

    def __init__(self, config: Config, metrics: HealerMetrics, monitor: CapabilityMonitor) -> None:
        self._config = config
        self._clusters: Mapping[str, Cluster] = {}
        self._metrics = metrics
        self._monitor = monitor
        self._budgets: dict[Key, CallBudget] = {}
        self._running: dict[Key, Running] = {}
        self._acting: set[Key] = set()
        """Those in which something is called for, or that have not been looked at yet."""
        self._late: dict[Key, dict[str, Alert]] = {}
        """By cluster and remedy, and fingerprint: firing alerts that came while its episode was about to end."""
        self._past: deque[Report] = deque(maxlen=MAX_PAST_EPISODES)
        self.closing = False
        """No alert is taken any more."""
        self.seen = SeenAlerts()
        metrics.clusters_remaining.set_function(self._clusters_left)
        self.reconfigure(config)

    @property
    def reports(self) -> list[Report]:
        """All known episodes, the newest first."""
        running = sorted((each.episode.report for each in self._running.values()), key=lambda report: report.started_at)
        return [*reversed(running), *self._past]

    @property
    def active(self) -> dict[str, str]:
        """Which alert, by its fingerprint, takes part in the episode of which cluster, or waits for its next."""
        found = {
            fingerprint: cluster
            for (cluster, _), running in self._running.items()
            for fingerprint in running.episode.fingerprints
        }
        return found | {fingerprint: cluster for (cluster, _), late in self._late.items() for fingerprint in late}

    def reconfigure(self, config: Config) -> None:
        """Take a new configuration over. An episode whose cluster has changed is stopped: disabled means now."""
        self._config = config
        self._clusters = {cluster.name: cluster for cluster in config.clusters}
        self.seen.clear()
        self._set_budgets()
        for (name, _), running in self._running.items():
            cluster = self._clusters.get(name)
            if cluster is not None and cluster.as_configured == running.episode.cluster.as_configured:
                # A failover is when members come and go, and no reason to stop.
                if cluster.patroni is not None:
                    running.episode.follow(cluster)
                continue
            target = cluster.healer if cluster is not None else None
            if target is not None and not target.enabled:
                _stop(running, f"switched off{f': {target.disabled_reason}' if target.disabled_reason else ''}")
            else:
                _stop(running, "the configuration of the cluster has changed")

    def submit(self, alert: Alert) -> Action:
        """Act on one alert without waiting for anything; return what was done with it."""
        action = self._take(alert)
        self._metrics.alerts.labels(action).inc()
        if action in (Action.STARTED, Action.JOINED):
            self.seen.add(alert.fingerprint)
        return action

    def calls_left(self, cluster: str, remedy: str) -> int:
        """Return how many calls the cluster's budget allows at this moment."""
        return self._budgets[cluster, remedy].left(time.monotonic())

    def withdraw(self, fingerprint: str, cluster: str, why: str = "resolved") -> bool:
        """Take an alert out of the cluster's episodes, or of what waits for the next; return whether it was in."""
        late = [each.pop(fingerprint, None) for (name, _), each in self._late.items() if name == cluster]
        left = [
            running.episode.leave(fingerprint, why) for (name, _), running in self._running.items() if name == cluster
        ]
        return any(late) or any(left)

    async def close(self) -> None:
        """Stop all episodes and wait until their connections are closed."""
        self.closing = True
        tasks = {running.task for running in self._running.values()}
        for running in self._running.values():
            _stop(running, "the healer stops")
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
            for task in late:
                log.error("an episode does not end, and is left", task=task.get_name())

    def _take(self, alert: Alert) -> Action:
        accepted = classify(alert, self._clusters)
        if not isinstance(accepted, AcceptedAlert):
            return accepted
        name = accepted.cluster.name
        if not alert.firing:
            return Action.RESOLVED if self.withdraw(alert.fingerprint, name) else Action.IGNORED_RESOLVED
        key = (name, accepted.remedy.name)
        running = self._running.get(key)
        if running is None:
            if self._clusters_left(name) <= 0:
                return Action.REFUSED_BUDGET
            self._start(accepted, alert)
            return Action.STARTED
        if running.episode.over or running.task.done():
            # It has ended and is closing its connections: this one is for the next.
            return self._take_later(key, alert)
        if not running.episode.has_room(accepted.subject):
            return Action.REFUSED_FULL
        running.episode.join(alert.fingerprint, accepted.subject, alert.labels.get("alertname", ""))
        return Action.JOINED

    def _take_later(self, key: Key, alert: Alert) -> Action:
        late = self._late.setdefault(key, {})
        if len(late) >= MAX_ALERTS and alert.fingerprint not in late:
            return Action.REFUSED_FULL
        late[alert.fingerprint] = alert
        return Action.JOINED

    def _start(self, accepted: AcceptedAlert, alert: Alert) -> None:
        cluster, remedy, subject = accepted.cluster, accepted.remedy, accepted.subject
        key = (cluster.name, remedy.name)

        def called(call: Call) -> None:
            self._metrics.count_call(*key, call)
            if call.capability is not None:
                self._monitor.note(cluster, remedy, call.capability)

        def healed(heal: SlotResult, firing: Collection[str]) -> None:
            self._metrics.heal_ended(*key, heal.outcome, heal.heal_seconds)
            for each in firing:
                self.seen.retry_later(each)

        watchers = Watchers(called, healed, partial(self._may_act, key))
        episode = Episode(remedy, cluster, self._config.healer, self._budgets[key], watchers)
        episode.join(alert.fingerprint, subject, alert.labels.get("alertname", ""))
        self._metrics.episode_began(*key, lambda: episode.calls_left, lambda: episode.deadline)
        self._acting.add(key)
        task = asyncio.create_task(episode.run(), name=f"episode of {cluster.name}, {remedy.name}")
        self._running[key] = Running(episode, task)
        task.add_done_callback(partial(self._ended, episode))
        named = {"node": subject.node, "slot": subject.slot_name}
        log.info("episode started", cluster=cluster.name, heal=remedy.name, **named)

    def _ended(self, episode: Episode, task: asyncio.Task[Report]) -> None:
        """Take an episode out of the books, also one whose task never ran."""
        key = (episode.cluster.name, episode.remedy.name)
        del self._running[key]
        self._acting.discard(key)
        if not task.cancelled() and task.exception() is not None:
            log.critical("an episode ended by a defect", exc=task.exception())
            episode.finish(Outcome.ERROR, "a defect of the healer: see its log")
        episode.finish()
        self._past.appendleft(episode.report)
        self._metrics.episode_ended(*key)
        for alert in self._late.pop(key, {}).values():
            if not self.closing and self._take(alert) in REFUSED:
                # Whoever sent it believes that it was taken.
                self.seen.forget(alert.fingerprint)

    def _may_act(self, key: Key, wants: bool) -> bool:
        """Let a cluster be one of those that are acted on at the same time, or be none of them any more."""
        if not wants:
            self._acting.discard(key)
        elif key not in self._acting and self._clusters_left(key[0]) > 0:
            self._acting.add(key)
        return key in self._acting

    def _clusters_left(self, but: str | None = None) -> int:
        """Return how many more clusters may be acted on; `but`: one that is not counted if it is acted on already."""
        acting = {cluster for cluster, _ in self._acting} - {but}
        return max(0, self._config.healer.clusters_at_once - len(acting))

    def _set_budgets(self) -> None:
        """Give each cluster its budgets of calls; one that had one, even under another configuration, keeps it."""
        settings = self._config.healer
        now = time.monotonic()
        for cluster in self._config.clusters:
            for remedy in REMEDIES.values():
                target = remedy.target(cluster)
                if target is None:
                    continue
                key, allowed = (cluster.name, remedy.name), remedy.allowance(target, settings)
                if key in self._budgets:
                    self._budgets[key].resize(allowed.per_hour)
                else:
                    self._budgets[key] = CallBudget(allowed.per_hour, now, at_start=allowed.at_start)
                self._metrics.budget(*key, partial(self.calls_left, *key))


def _stop(running: Running, reason: str) -> None:
    """Say why, which it checks before each call, and wake it from whatever it waits for."""
    if not running.episode.over:
        # Only once: it is closing its connections after that.
        running.episode.stop(reason)
        running.task.cancel()
