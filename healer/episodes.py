"""One episode at a time for each cluster: alerts start it, join it, or are left alone; and the memory of past ones."""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping

from exporter.config import Cluster, Config
from exporter.log import event
from healer.alerts import HEAL_ACTION, HEAL_LABEL, Action, Alert
from healer.capability import CapabilityMonitor
from healer.episode import Episode, Report
from healer.metrics import HealerMetrics
from healer.policy import Outcome, Subject
from healer.primary import Call

REMEMBERED = 100

_log = logging.getLogger(__name__)


class Episodes:
    """All clusters' episodes, running and past."""

    def __init__(self, config: Config, metrics: HealerMetrics, monitor: CapabilityMonitor) -> None:
        self._config = config
        self._clusters: Mapping[str, Cluster] = {cluster.name: cluster for cluster in config.clusters}
        self._metrics = metrics
        self._monitor = monitor
        self._running: dict[str, tuple[Episode, asyncio.Task[None]]] = {}
        self._late: dict[str, list[Alert]] = {}
        self._past: deque[Report] = deque(maxlen=REMEMBERED)

    @property
    def reports(self) -> list[Report]:
        """All known episodes, the newest first."""
        return [*(episode.report for episode, _ in self._running.values()), *self._past]

    def reconfigure(self, config: Config) -> None:
        """Take a new configuration over. An episode whose cluster has changed is cancelled: disabled means now."""
        self._config = config
        self._clusters = {cluster.name: cluster for cluster in config.clusters}
        for name, (episode, task) in self._running.items():
            if self._clusters.get(name) != episode.cluster:
                task.cancel("the configuration of the cluster has changed")

    def take(self, alert: Alert) -> Action:
        """Act on one alert without waiting for anything; return what was done with it."""
        action = self._take(alert)
        self._metrics.alerts.labels(action).inc()
        if action.startswith("ignored") and action is not Action.IGNORED_RESOLVED:
            name, cluster = alert.labels.get("alertname", "")[:200], alert.labels.get("cluster", "")[:200]
            event(_log, logging.INFO, "alert ignored", action=f"{action}", alertname=name, cluster=cluster)
        return action

    async def close(self) -> None:
        """Cancel all episodes and wait until their connections are closed."""
        tasks = [task for _, task in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _take(self, alert: Alert) -> Action:
        if alert.labels.get(HEAL_LABEL) != HEAL_ACTION:
            return Action.IGNORED_NO_HEAL_LABEL
        cluster = self._clusters.get(alert.labels.get("cluster", ""))
        if cluster is None:
            return Action.IGNORED_UNKNOWN_CLUSTER
        if cluster.healer is None:
            return Action.IGNORED_NOT_CONFIGURED
        running = self._running.get(cluster.name)
        if not alert.firing:
            left = running is not None and running[0].leave(alert.fingerprint)
            return Action.RESOLVED if left else Action.IGNORED_RESOLVED
        node, slot_name = alert.labels.get("node", ""), alert.labels.get("slot_name", "")
        if not node or not slot_name:
            return Action.IGNORED_NO_SLOT
        if not cluster.healer.enabled:
            return Action.IGNORED_DISABLED
        subject = Subject(node, slot_name)
        if running is None:
            self._start(cluster, alert.fingerprint, subject)
            return Action.STARTED
        episode = running[0]
        if not episode.has_room(subject):
            return Action.REFUSED_FULL
        if episode.report.outcome is not None:
            # It has ended and is closing its connections: this one is for the next.
            self._late.setdefault(cluster.name, []).append(alert)
        else:
            episode.join(alert.fingerprint, subject)
        return Action.JOINED

    def _start(self, cluster: Cluster, fingerprint: str, subject: Subject) -> None:
        def called(call: Call) -> None:
            self._metrics.count_call(cluster.name, call)
            if call.capability is not None:
                self._monitor.note(cluster.name, call.capability)

        episode = Episode(cluster, self._config.healer, called)
        episode.join(fingerprint, subject)
        self._metrics.active.labels(cluster.name).set(1)
        self._running[cluster.name] = (episode, asyncio.create_task(self._run(episode)))
        event(_log, logging.INFO, "episode started", cluster=cluster.name, node=subject.node, slot=subject.slot_name)

    async def _run(self, episode: Episode) -> None:
        report = episode.report
        try:
            await episode.run()
        finally:
            del self._running[report.cluster]
            self._past.appendleft(report)
            self._metrics.active.labels(report.cluster).set(0)
            self._metrics.episodes.labels(report.cluster, report.outcome or Outcome.ERROR).inc()
            if report.heal_seconds is not None:
                self._metrics.seconds.observe(report.heal_seconds)
        for alert in self._late.pop(report.cluster, []):
            self._take(alert)
