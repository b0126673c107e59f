"""
What the pages show: the snapshots of the last scrape, so that readers cost the servers nothing.

Only while nobody scrapes, the exporter queries the servers for the pages, and then at most once in LOOK_SECONDS however
many people read them.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import pairwise

from exporter.held_wal import HeldWalMemory, NodeKey
from pgslot.config.model import Cluster, Config
from pgslot.diagnosis.short_lived import is_reportable
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.status.assessment import slot_statuses
from pgslot.status.growth import WINDOW_SECONDS, HeldSample
from pgslot.status.slot_status import SlotKey, SlotStatus

LOOK_SECONDS = 5.0
"""A snapshot is recent for this long while nobody scrapes."""
LOOK_TIMEOUT_SECONDS = 3.0
"""A page waits this long for a server."""
MAX_INTERVAL_SECONDS = 120.0
"""Scrapes that are further apart are not taken as regular."""
LATE = 1.5
"""A scrape is missing when this many intervals have passed since the last one."""


@dataclass(frozen=True, slots=True)
class ClusterLook:
    """A cluster as the pages show it."""

    snapshot: ClusterSnapshot
    """Of the nodes that were queried at all."""
    ages: dict[str, float]
    """Seconds since each node's snapshot, by node; a node without one was not queried yet."""
    slots: tuple[SlotStatus, ...]
    """Worst first."""


class ScrapeRhythm:
    """How often each node is scraped."""

    def __init__(self) -> None:
        self._scrapes: dict[NodeKey, tuple[float, ...]] = {}
        """When the last three scrapes were, monotonic: two scrapers make a short interval and a long one in turn."""

    def note(self, node: NodeKey, now: float) -> None:
        self._scrapes[node] = (*self._scrapes.get(node, ())[-2:], now)

    def goes_on(self, node: NodeKey, now: float) -> bool:
        """Return whether the next scrape is still to be expected."""
        times = self._scrapes.get(node, ())
        if len(times) < 2:
            return False
        interval = max(after - before for before, after in pairwise(times))
        return interval <= MAX_INTERVAL_SECONDS and now - times[-1] <= LATE * interval

    def keep_only(self, nodes: set[NodeKey]) -> None:
        """Forget all other nodes."""
        self._scrapes = {node: scrapes for node, scrapes in self._scrapes.items() if node in nodes}


class LatestLook:
    """The last snapshots, with what they say of each slot, which is worked out once for each of them."""

    def __init__(self, collector: ClusterCollector) -> None:
        self._collector = collector
        self._memory = HeldWalMemory()
        self._rhythm = ScrapeRhythm()
        self._statuses: dict[str, tuple[tuple[NodeSnapshot, ...], tuple[SlotStatus, ...]]] = {}
        """By cluster, with the snapshots from which they were made."""

    def scraped(self, nodes: Iterable[NodeSnapshot]) -> None:
        """Take note of a scrape that asked these nodes for everything."""
        now = time.monotonic()
        for node in nodes:
            self._rhythm.note(NodeKey(node.cluster, node.node), now)
            self._memory.record(node, now)

    def reconfigure(self, config: Config) -> None:
        """Forget what is no longer configured."""
        nodes = {NodeKey(node.cluster, node.name) for cluster in config.clusters for node in cluster.nodes}
        self._memory.keep_only(nodes)
        self._rhythm.keep_only(nodes)
        self._statuses = {name: kept for name, kept in self._statuses.items() if name in {key.cluster for key in nodes}}

    async def cluster(self, cluster: Cluster) -> ClusterLook:
        """Return the cluster as it was at the last scrape, or as it is if nobody scrapes it."""
        if self._due(cluster):
            # Readers who come at the same time share the collection.
            snapshot = await self._collector.collect_cluster(cluster.name, LOOK_TIMEOUT_SECONDS)
            for node in snapshot.nodes:
                self._memory.record(node)
        found = {node.name: last for node in cluster.nodes if (last := self._collector.last(cluster.name, node.name))}
        snapshot = ClusterSnapshot(cluster.name, tuple(node for _, node in found.values()))
        ages = {name: age for name, (age, _) in found.items()}
        return ClusterLook(snapshot, ages, self._slots(cluster, snapshot, ages))

    def samples(self, look: ClusterLook, slot: SlotStatus) -> tuple[HeldSample, ...]:
        """Return what the slot retained in the last hour, oldest first."""
        node = look.snapshot.node(slot.node)
        if node is None:
            return ()
        at = time.monotonic() - look.ages[slot.node]
        return self._memory.samples(node, at, only=slot.slot_name).get(slot.slot_name, ())

    def _due(self, cluster: Cluster) -> bool:
        now = time.monotonic()
        for node in cluster.nodes:
            if self._rhythm.goes_on(NodeKey(cluster.name, node.name), now):
                continue
            last = self._collector.last(cluster.name, node.name)
            if last is None or last[0] > LOOK_SECONDS:
                return True
        return False

    def _slots(self, cluster: Cluster, snapshot: ClusterSnapshot, ages: dict[str, float]) -> tuple[SlotStatus, ...]:
        known = self._statuses.get(cluster.name)
        if known is not None and len(known[0]) == len(snapshot.nodes) and all(map(_same, known[0], snapshot.nodes)):
            return known[1]
        now = time.monotonic()
        held = {
            SlotKey(node.node, name): samples
            for node in snapshot.nodes
            for name, samples in self._memory.samples(node, now - ages[node.node], WINDOW_SECONDS).items()
        }
        volumes = {node.name: node.wal_volume for node in cluster.nodes}
        statuses = tuple(map(without_unnamed_sessions, slot_statuses(snapshot, held=held, volumes=volumes)))
        self._statuses[cluster.name] = (snapshot.nodes, statuses)
        return statuses


def without_unnamed_sessions(status: SlotStatus) -> SlotStatus:
    """Return the status without blockers of a creation that no series names: young ones, and others than the first."""
    wait = status.creation
    if wait is None:
        return status
    blocker = wait.blocker if wait.blocker is not None and is_reportable(wait.blocker) else None
    named = (0, None if blocker is None else blocker.pid)
    creation = replace(wait.creation, blocking_pids=[pid for pid in wait.creation.blocking_pids if pid in named])
    return replace(status, creation=replace(wait, blocker=blocker, creation=creation))


def _same(first: NodeSnapshot, second: NodeSnapshot) -> bool:
    return first is second
