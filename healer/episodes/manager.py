"""
One episode at a time for each cluster and remedy: alerts start it or join it; and the reports of past episodes.

An episode is stopped by a reason, which it checks before every attempt. The end of its task removes it, whatever ended
the task.
"""

import asyncio
import time
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial

from healer.capability import CapabilityMonitor, Key
from healer.episodes.budget import CallBudget
from healer.episodes.deadlines import CLOSE_TIMEOUT
from healer.episodes.loop import MAX_ALERTS, Episode, EpisodeCallbacks
from healer.episodes.memory import EpisodeMemories
from healer.episodes.report import Report, SlotResult
from healer.episodes.watch import HealedSlots
from healer.metrics import HealerMetrics
from healer.remedies.attempt import Attempt, Capability
from healer.remedies.base import AnyRemedy
from healer.remedies.progress import Outcome
from healer.remedies.registry import REMEDIES
from healer.remedies.slot_state import SlotKey
from healer.slot_history import EventKind, SlotEvent, SlotHistory
from healer.webhook.alert_filter import AcceptedAlert, classify
from healer.webhook.deduplication import SeenAlerts
from healer.webhook.payload import HEAL_LABEL, REFUSED, Action, Alert
from healer.webhook.reasons import reason
from pgslot.cli.logging import get_logger
from pgslot.config.model import Cluster, Config
from pgslot.task_supervisor import TaskSupervisor

MAX_PAST_EPISODES = 100

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Running:
    """An episode and the task that it runs in."""

    episode: Episode
    task: asyncio.Task[Report]


class EpisodeManager:
    """The episodes of all clusters, running and past, and their budgets."""

    def __init__(self, config: Config, metrics: HealerMetrics, monitor: CapabilityMonitor) -> None:
        self._config = config
        self._clusters: Mapping[str, Cluster] = {}
        self.metrics = metrics
        self.monitor = monitor
        monitor.listener = self._learn
        self.history = SlotHistory()
        self.memories = EpisodeMemories(self.history)
        self._budgets: dict[Key, CallBudget] = {}
        self._running: dict[Key, Running] = {}
        self._tasks = TaskSupervisor()
        self._watches = TaskSupervisor()
        self._healed: dict[Key, tuple[HealedSlots, asyncio.Task[None]]] = {}
        """The slots that are watched after their heal, and the task that watches them; it may have ended."""
        self._acting: set[Key] = set()
        """Episodes that need an attempt, or have no snapshot yet; clusters_at_once limits their clusters."""
        self._late: dict[Key, dict[str, Alert]] = {}
        """Firing alerts, by fingerprint, that arrived while the episode was about to end: for the next one."""
        self._past: deque[Report] = deque(maxlen=MAX_PAST_EPISODES)
        self.closing = False
        """The healer shuts down, and takes no more alerts."""
        self.seen = SeenAlerts()
        metrics.clusters_remaining.set_function(self._clusters_left)
        self.reconfigure(config)

    @property
    def reports(self) -> list[Report]:
        """The reports of running and past episodes, the newest first."""
        running = sorted((episode.report for episode in self.running), key=lambda report: report.started_at)
        return [*reversed(running), *self._past]

    @property
    def running(self) -> tuple[Episode, ...]:
        """The episodes whose tasks have not ended."""
        return tuple(running.episode for running in self._running.values())

    @property
    def active(self) -> dict[str, str]:
        """The cluster of every alert, by fingerprint, that has joined an episode or waits for the next one."""
        active = {
            fingerprint: cluster
            for (cluster, _), running in self._running.items()
            for fingerprint in running.episode.fingerprints
        }
        return active | {fingerprint: cluster for (cluster, _), late in self._late.items() for fingerprint in late}

    def reconfigure(self, config: Config) -> None:
        """Apply a configuration. Stop the episodes of changed clusters: `enabled: false` has to work at once."""
        self._config = config
        self._clusters = {cluster.name: cluster for cluster in config.clusters}
        self.seen.clear()
        self._set_budgets()
        for (name, _), running in self._running.items():
            cluster = self._clusters.get(name)
            if cluster is not None and cluster.as_configured == running.episode.cluster.as_configured:
                # A failover changes the members, and the episode continues.
                if cluster.patroni is not None:
                    running.episode.follow(cluster)
                continue
            target = cluster.healer if cluster is not None else None
            if target is not None and not target.enabled:
                _stop(running, f"switched off{f': {target.disabled_reason}' if target.disabled_reason else ''}")
            else:
                _stop(running, "the configuration of the cluster has changed")

    def submit(self, alert: Alert) -> Action:
        """Start or join an episode for the alert, or end its part in one; return which. Never waits."""
        action = self._handle(alert)
        self.metrics.alerts.labels(action).inc()
        self._remember(alert, action)
        if action in (Action.STARTED, Action.JOINED):
            self.seen.add(alert)
        return action

    def _remember(self, alert: Alert, action: Action) -> None:
        labels = alert.labels
        if not labels.get("slot_name") or action in (Action.HEARTBEAT, Action.IGNORED_TEST):
            return
        cluster = self._clusters.get(labels.get("cluster", ""))
        event = SlotEvent(
            EventKind.ALERT,
            f"{action}",
            reason(action, alert, cluster, self._config.healer),
            node=labels.get("node", ""),
            remedy=labels.get(HEAL_LABEL, ""),
            alertname=labels.get("alertname", ""),
        )
        self.history.record(labels.get("cluster", ""), labels["slot_name"], event)

    def cluster(self, name: str) -> Cluster | None:
        """Return the cluster of this name in the configuration; None: there is none."""
        return self._clusters.get(name)

    def in_episode(self, key: Key, fingerprint: str) -> bool:
        """Return whether the alert takes part in the episode of the cluster and remedy, or waits for the next one."""
        running = self._running.get(key)
        return (running is not None and running.episode.has_joined(fingerprint)) or fingerprint in self._late.get(
            key, {}
        )

    def _learn(self, cluster: str, remedy: str, capability: Capability) -> None:
        """Remember the primary's time, and what it showed of the acts of all healers."""
        if capability.clock is not None:
            self.memories.clock(cluster).observe(capability.clock)
        if (cluster, remedy) in self._budgets:
            self._budgets[cluster, remedy].learn(capability.recent_acts)

    def calls_left(self, cluster: str, remedy: str) -> int:
        """Return how many calls the budget of the cluster and remedy has left."""
        return self._budgets[cluster, remedy].left(time.monotonic())

    def withdraw(self, fingerprint: str, cluster: str, why: str = "resolved") -> bool:
        """Remove an alert from the cluster's episodes, running and next; return whether it was in one."""
        late = [alerts.pop(fingerprint, None) for (name, _), alerts in self._late.items() if name == cluster]
        left = [
            running.episode.leave(fingerprint, why) for (name, _), running in self._running.items() if name == cluster
        ]
        return any(late) or any(left)

    async def close(self) -> None:
        """Stop all episodes, and wait until their connections are closed."""
        self.closing = True
        for running in self._running.values():
            _stop(running, "the healer stops")
        self._watches.cancel()
        for name in (*await self._tasks.wait(CLOSE_TIMEOUT), *await self._watches.close(CLOSE_TIMEOUT)):
            log.error("an episode did not end in time and was abandoned", task=name)

    def _handle(self, alert: Alert) -> Action:
        accepted = classify(alert, self._clusters)
        if not isinstance(accepted, AcceptedAlert):
            return accepted
        name = accepted.cluster.name
        if not alert.firing:
            return self._resolve(alert, name)
        key = (name, accepted.remedy.name)
        running = self._running.get(key)
        if running is None:
            if self._clusters_left(name) <= 0:
                return Action.REFUSED_BUDGET
            self._start(accepted, alert)
            return Action.STARTED
        if running.episode.over or running.task.done():
            # It is closing its connections: the alert is for the next episode.
            return self._keep_for_next(key, alert)
        if not running.episode.has_room(accepted.slot):
            return Action.REFUSED_FULL
        running.episode.join(alert.fingerprint, accepted.slot, alert.labels.get("alertname", ""), alert.runbook_url)
        return Action.JOINED

    def _resolve(self, alert: Alert, cluster: str) -> Action:
        # Of two Alertmanagers the second waits for the first: its webhook may come after the alert has fired again.
        if self.seen.is_superseded(alert):
            return Action.IGNORED_RESOLVED
        self.seen.forget(alert.fingerprint)
        return Action.RESOLVED if self.withdraw(alert.fingerprint, cluster) else Action.IGNORED_RESOLVED

    def _keep_for_next(self, key: Key, alert: Alert) -> Action:
        late = self._late.setdefault(key, {})
        if len(late) >= MAX_ALERTS and alert.fingerprint not in late:
            return Action.REFUSED_FULL
        late[alert.fingerprint] = alert
        return Action.JOINED

    def _start(self, accepted: AcceptedAlert, alert: Alert) -> None:
        cluster, remedy, slot = accepted.cluster, accepted.remedy, accepted.slot
        key = (cluster.name, remedy.name)

        callbacks = _Callbacks(self, cluster, remedy)
        memory = self.memories.of(cluster.name)
        episode = Episode(remedy, cluster, self._config.healer, self._budgets[key], callbacks, memory=memory)
        episode.join(alert.fingerprint, slot, alert.labels.get("alertname", ""), alert.runbook_url)
        self.metrics.episode_began(*key, lambda: episode.calls_left, lambda: episode.deadline)
        self._acting.add(key)
        name = f"episode of {cluster.name}, {remedy.name}"
        task = self._tasks.start(episode.run(), name, partial(self._ended, episode))
        self._running[key] = Running(episode, task)
        log.info("episode started", cluster=cluster.name, heal=remedy.name, node=slot.node, slot=slot.slot_name)

    def _ended(self, episode: Episode, task: asyncio.Task[Report]) -> None:
        """Remove an episode whose task has ended, or was cancelled before it ran; start the next for late alerts."""
        key = (episode.cluster.name, episode.remedy.name)
        del self._running[key]
        self._acting.discard(key)
        if not task.cancelled() and task.exception() is not None:
            episode.finish(Outcome.ERROR, "an internal error of the healer: see its log")
        episode.finish()
        self._past.appendleft(episode.report)
        self.metrics.episode_ended(*key)
        for alert in self._late.pop(key, {}).values():
            if not self.closing and self._handle(alert) in REFUSED:
                # Its sender was answered that it had joined; when it is sent again, it has to be taken.
                self.seen.forget(alert.fingerprint)
        self._watch(key, episode)

    def _watch(self, key: Key, episode: Episode) -> None:
        """Watch the slots that the episode has healed, as long as their alerts fire."""
        healed = episode.healed
        if not (episode.remedy.watches_healed and healed) or self.closing:
            return
        slots, task = self._healed.get(key, (None, None))
        if slots is None or task is None or task.done():
            slots = HealedSlots(episode.remedy, _WatchOwner(self, key[0], episode.remedy))
            slots.add(healed)
            task = self._watches.start(slots.run(), f"watch of {key[0]}, {key[1]}")
            self._healed[key] = slots, task
        else:
            slots.add(healed)

    def may_act(self, key: Key, *, wanted: bool) -> bool:
        """Reserve a place within clusters_at_once (`wanted`), or release it; return whether the episode has one."""
        if not wanted:
            self._acting.discard(key)
        elif key not in self._acting and self._clusters_left(key[0]) > 0:
            self._acting.add(key)
        return key in self._acting

    def _clusters_left(self, except_for: str | None = None) -> int:
        """Return how many more clusters may be acted on, if the cluster `except_for` is not counted."""
        acting = {cluster for cluster, _ in self._acting} - {except_for}
        return max(0, self._config.healer.clusters_at_once - len(acting))

    def _set_budgets(self) -> None:
        """Create missing budgets, and resize existing ones: a reload gives no cluster a new budget."""
        settings = self._config.healer
        now = time.monotonic()
        for cluster in self._config.clusters:
            for remedy in REMEDIES.values():
                target = remedy.target(cluster)
                if target is None:
                    continue
                key, limit = (cluster.name, remedy.name), remedy.budget_limit(target, settings)
                if key in self._budgets:
                    self._budgets[key].resize(limit.per_hour)
                else:
                    self._budgets[key] = CallBudget(limit.per_hour, now, at_start=limit.at_start)
                self.metrics.budget(*key, partial(self.calls_left, *key))


class _Callbacks(EpisodeCallbacks):
    """Passes what one episode reports to metrics, capability monitor and deduplication."""

    def __init__(self, manager: EpisodeManager, cluster: Cluster, remedy: AnyRemedy) -> None:
        self._manager = manager
        self._cluster = cluster
        self._remedy = remedy
        self._key = (cluster.name, remedy.name)

    def attempted(self, attempt: Attempt) -> None:
        self._manager.metrics.count_attempt(*self._key, attempt)
        if attempt.capability is not None:
            self._manager.monitor.note(self._cluster, self._remedy, attempt.capability)

    def slot_ended(self, result: SlotResult, firing: Collection[str]) -> None:
        slot = SlotKey(result.node, result.slot_name)
        self._manager.metrics.slot_ended(*self._key, slot, result.outcome, result.heal_seconds)
        for fingerprint in firing:
            self._manager.seen.retry_later(fingerprint)

    def may_act(self, *, wanted: bool) -> bool:
        return self._manager.may_act(self._key, wanted=wanted)


class _WatchOwner:
    """Gives the watch of healed slots what it needs of the manager (`healer.episodes.watch.WatchOwner`)."""

    def __init__(self, manager: EpisodeManager, cluster: str, remedy: AnyRemedy) -> None:
        self._manager = manager
        self._cluster = cluster
        self._remedy = remedy

    def cluster(self) -> Cluster | None:
        cluster = self._manager.cluster(self._cluster)
        target = None if cluster is None else self._remedy.target(cluster)
        return None if target is None or not target.enabled else cluster

    def fires(self, fingerprint: str) -> bool:
        key = (self._cluster, self._remedy.name)
        return fingerprint in self._manager.seen and not self._manager.in_episode(key, fingerprint)

    def heal_again(self, slot: SlotKey, fingerprint: str, alertname: str) -> None:
        labels = {"alertname": alertname, HEAL_LABEL: self._remedy.name, "cluster": self._cluster}
        labels |= {"node": slot.node, "slot_name": slot.slot_name}
        if self._manager.submit(Alert(firing=True, labels=labels, fingerprint=fingerprint)) in REFUSED:
            # The next listing submits it again.
            self._manager.seen.forget(fingerprint)


def _stop(running: Running, reason: str) -> None:
    """Set the reason, which the episode checks before every attempt, and interrupt its wait."""
    if not running.episode.over:
        # Only once: after that it is closing its connections.
        running.episode.stop(reason)
        running.task.cancel()
