"""
What outlives an episode: the primary's clock, and the history of clusters whose transactions may be ended.

Whether a transaction pins a slot is proven by what happened before. So the primaries of those clusters are observed
also while no episode runs, and an episode continues with that history.
"""

import asyncio
from collections.abc import Collection
from dataclasses import dataclass, field

from healer.episodes.partial_snapshot import PartialCollector
from healer.remedies.attempt import APPLICATION_NAME
from healer.remedies.server_clock import ServerClock
from healer.slot_history import SlotHistory
from pgslot.config.model import Cluster
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.task_supervisor import TaskSupervisor

OBSERVE_INTERVAL = 15.0
"""Seconds between two snapshots of a primary, as often as Prometheus scrapes the exporter."""


@dataclass(frozen=True, slots=True)
class EpisodeMemory:
    """What an episode knows from before."""

    clock: ServerClock = field(default_factory=ServerClock)
    collector: ClusterCollector | None = None
    """The collector of this cluster, with its history. None: the episode has one of its own, which starts without."""
    history: SlotHistory | None = None
    """Where the events of each slot are kept. None: nowhere."""


@dataclass(frozen=True, slots=True)
class _Observed:
    cluster: Cluster
    collector: ClusterCollector
    task: asyncio.Task[None]


class EpisodeMemories:
    """The memory of each cluster; it observes only those with the section end_transactions that are not disabled."""

    def __init__(self, history: SlotHistory | None = None) -> None:
        """`history`: where episodes keep the events of each slot; None: nowhere."""
        self._history = history
        self._clocks: dict[str, ServerClock] = {}
        self._observed: dict[str, _Observed] = {}
        self._retiring: set[ClusterCollector] = set()
        """Of clusters that are no longer observed, until their connections are closed."""
        self._tasks = TaskSupervisor()

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the tasks that ended by an internal error."""
        return self._tasks.failed

    def clock(self, cluster: str) -> ServerClock:
        """Return the clock of this cluster's primary."""
        return self._clocks.setdefault(cluster, ServerClock())

    def of(self, cluster: str) -> EpisodeMemory:
        """Return the memory for an episode of this cluster."""
        observed = self._observed.get(cluster)
        return EpisodeMemory(self.clock(cluster), None if observed is None else observed.collector, self._history)

    def observe(self, clusters: Collection[Cluster]) -> None:
        """Observe these clusters from now on, and no others; where only the members change, the history stays."""
        wanted = {cluster.name: cluster for cluster in clusters if _may_be_acted_on(cluster)}
        for name, before in list(self._observed.items()):
            cluster = wanted.get(name)
            if cluster == before.cluster:
                continue
            before.task.cancel()
            del self._observed[name]
            if cluster is not None and cluster.as_configured == before.cluster.as_configured:
                before.collector.reconfigure([cluster])
                self._start(cluster, before.collector)
            else:
                self._retiring.add(before.collector)
                self._tasks.start(self._retire(before.collector), f"end of the history of {name}")
        for name in wanted.keys() - self._observed.keys():
            self._start(wanted[name], ClusterCollector([wanted[name]], APPLICATION_NAME))
        for name in self._clocks.keys() - {cluster.name for cluster in clusters}:
            del self._clocks[name]

    async def close(self) -> None:
        """Stop observing, and close all connections."""
        await self._tasks.close()
        collectors = [*self._retiring, *(observed.collector for observed in self._observed.values())]
        self._observed.clear()
        await asyncio.gather(*(collector.close() for collector in collectors))

    def _start(self, cluster: Cluster, collector: ClusterCollector) -> None:
        task = self._tasks.start(_observe(cluster, collector), f"history of {cluster.name}")
        self._observed[cluster.name] = _Observed(cluster, collector, task)

    async def _retire(self, collector: ClusterCollector) -> None:
        await collector.close()
        self._retiring.discard(collector)


def _may_be_acted_on(cluster: Cluster) -> bool:
    return cluster.healer is not None and cluster.healer.enabled and cluster.healer.termination is not None


async def _observe(cluster: Cluster, collector: ClusterCollector) -> None:
    """Take a snapshot of the primary every OBSERVE_INTERVAL seconds; a failure is in the snapshot, and logged there."""
    observer = PartialCollector(cluster, collector)
    try:
        while True:
            await observer.collect(())
            await asyncio.sleep(OBSERVE_INTERVAL)
    finally:
        await observer.close()
