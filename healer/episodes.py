"""One episode at a time for each cluster: alerts start it, join it, or are left alone; and the memory of past ones."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from functools import partial

from exporter.config import Cluster, Config
from exporter.log import event
from healer.alerts import Action, Alert
from healer.budget import CallBudget
from healer.capability import CapabilityMonitor
from healer.episode import MOST_ALERTS, Episode
from healer.intake import Accepted, examine
from healer.metrics import HealerMetrics
from healer.primary import Call
from healer.report import Report
from healer.tracks import Outcome

REMEMBERED = 100
START_SHARE = 10
"""The tenth part of an hour's calls is there right after a start."""
MOST_HEARD = 100_000
"""Fingerprints; beyond them an alert is taken in twice, which changes nothing."""

_log = logging.getLogger(__name__)


class Episodes:
    """All clusters' episodes, running and past, and what is left of their budgets."""

    def __init__(self, config: Config, metrics: HealerMetrics, monitor: CapabilityMonitor) -> None:
        self._config = config
        self._clusters: Mapping[str, Cluster] = {}
        self._metrics = metrics
        self._monitor = monitor
        self._budgets: dict[str, CallBudget] = {}
        self._running: dict[str, tuple[Episode, asyncio.Task[None]]] = {}
        self._late: dict[str, list[Alert]] = {}
        self._past: deque[Report] = deque(maxlen=REMEMBERED)
        self.closing = False
        """No alert is taken any more."""
        self.heard: set[str] = set()
        """Fingerprints of firing alerts that were taken in; whoever asks Alertmanager prunes it."""
        metrics.clusters_remaining.set_function(self._clusters_left)
        self.reconfigure(config)

    @property
    def reports(self) -> list[Report]:
        """All known episodes, the newest first."""
        running = sorted(self._running.values(), key=lambda pair: -pair[0].report.started_at)
        return [*(episode.report for episode, _ in running), *self._past]

    @property
    def joined(self) -> dict[str, str]:
        """Which alert, by its fingerprint, takes part in the episode of which cluster."""
        return {
            fingerprint: cluster
            for cluster, (episode, _) in self._running.items()
            for fingerprint in episode.fingerprints
        }

    def reconfigure(self, config: Config) -> None:
        """Take a new configuration over. An episode whose cluster has changed is cancelled: disabled means now."""
        self._config = config
        self._clusters = {cluster.name: cluster for cluster in config.clusters}
        self.heard.clear()
        self._set_budgets()
        for name, (episode, task) in self._running.items():
            cluster = self._clusters.get(name)
            if cluster == episode.cluster:
                continue
            target = cluster.healer if cluster is not None else None
            if target is not None and not target.enabled:
                task.cancel(f"switched off{f': {target.disabled_reason}' if target.disabled_reason else ''}")
            else:
                task.cancel("the configuration of the cluster has changed")

    def take(self, alert: Alert) -> Action:
        """Act on one alert without waiting for anything; return what was done with it."""
        action = self._take(alert)
        self._metrics.alerts.labels(action).inc()
        if action in (Action.STARTED, Action.JOINED) and len(self.heard) < MOST_HEARD:
            self.heard.add(alert.fingerprint)
        return action

    def calls_left(self, cluster: str) -> int:
        """Return how many calls the cluster's budget allows at this moment."""
        return self._budgets[cluster].left(time.monotonic())

    def leave(self, fingerprint: str, cluster: str, why: str) -> None:
        """Take an alert out of the cluster's episode, because of what Alertmanager says of it."""
        if cluster in self._running:
            self._running[cluster][0].leave(fingerprint, why)

    async def close(self) -> None:
        """Cancel all episodes and wait until their connections are closed."""
        self.closing = True
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _take(self, alert: Alert) -> Action:
        accepted = examine(alert, self._clusters)
        if not isinstance(accepted, Accepted):
            return accepted
        running = self._running.get(accepted.cluster.name)
        if not alert.firing:
            left = running is not None and running[0].leave(alert.fingerprint)
            return Action.RESOLVED if left else Action.IGNORED_RESOLVED
        if running is None:
            if self._clusters_left() <= 0:
                return Action.REFUSED_BUDGET
            self._start(accepted, alert.fingerprint)
            return Action.STARTED
        episode = running[0]
        if not episode.has_room(accepted.subject):
            return Action.REFUSED_FULL
        if episode.report.outcome is not None or episode.cluster != accepted.cluster:
            # It has ended and is closing its connections: this one is for the next.
            return self._take_later(accepted, alert)
        episode.join(alert.fingerprint, accepted.subject)
        return Action.JOINED

    def _take_later(self, accepted: Accepted, alert: Alert) -> Action:
        late = self._late.setdefault(accepted.cluster.name, [])
        if len(late) >= MOST_ALERTS:
            return Action.REFUSED_FULL
        late.append(alert)
        return Action.JOINED

    def _start(self, accepted: Accepted, fingerprint: str) -> None:
        cluster, subject = accepted.cluster, accepted.subject

        def called(call: Call) -> None:
            self._metrics.count_call(cluster.name, call)
            if call.capability is not None:
                self._monitor.note(cluster.name, call.capability)

        episode = Episode(cluster, self._config.healer, self._budgets[cluster.name], called)
        episode.join(fingerprint, subject)
        self._metrics.episode_began(cluster.name, lambda: episode.calls_left)
        self._running[cluster.name] = (episode, asyncio.create_task(self._run(episode)))
        event(_log, logging.INFO, "episode started", cluster=cluster.name, node=subject.node, slot=subject.slot_name)

    async def _run(self, episode: Episode) -> None:
        report = episode.report
        try:
            await episode.run()
        finally:
            del self._running[report.cluster]
            self._past.appendleft(report)
            self._metrics.episode_ended(report.cluster, report.outcome or Outcome.ERROR, report.heal_seconds)
            late = self._late.pop(report.cluster, [])
            for alert in [] if self.closing else late:
                self._take(alert)

    def _clusters_left(self) -> int:
        return max(0, self._config.healer.clusters_at_once - len(self._running))

    def _set_budgets(self) -> None:
        """Give each cluster its budget of calls; one that had one, even under another configuration, keeps it."""
        settings = self._config.healer
        now = time.monotonic()
        for cluster in self._config.clusters:
            if cluster.healer is None:
                continue
            if cluster.name in self._budgets:
                self._budgets[cluster.name].resize(settings.calls_per_hour)
                continue
            at_start = max(settings.burst_calls, settings.calls_per_hour // START_SHARE)
            budget = CallBudget(settings.calls_per_hour, now, at_start=at_start)
            self._budgets[cluster.name] = budget
            left = self._metrics.calls_remaining.labels(cluster.name, "hour")
            left.set_function(partial(self.calls_left, cluster.name))
