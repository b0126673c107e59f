"""Looks at clusters: at all nodes at once, at one of them, and at others only where they explain it."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from enum import Enum, auto
from typing import Any, TypeVar

from pgslot.config.model import Cluster, Node
from pgslot.snapshot.identity import expected_system_identifier
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot, QueryStatus
from pgslot.snapshot.node import MIN_COLLECT_SECONDS, NodeCollector
from pgslot.snapshot.queries import CREATIONS, EXPLANATION, QUERIES, Query

PEER_GRACE = 0.2
"""Seconds that other nodes have after the primary has answered: long enough to notice that there are two."""

STANDBY_GRACE = 1.0
"""Seconds that standbys have after a primary with failover slots: a new connection across an ocean takes less."""


_T = TypeVar("_T")


class Peers(Enum):
    """Which other nodes of its cluster explain what a node shows."""

    NONE = auto()
    PRIMARY = auto()
    STANDBYS = auto()
    RECENT_STANDBYS = auto()
    """Standbys, whose last snapshot is good enough while it is recent."""


class ClusterCollector:
    """All nodes of some clusters."""

    def __init__(self, clusters: Sequence[Cluster], application_name: str) -> None:
        self._application_name = application_name
        self._clusters: dict[str, dict[str, NodeCollector]] = {}
        self._told: dict[str, str | None] = {}
        """The system identifiers that Patroni told of clusters."""
        self._leaving: dict[NodeCollector, asyncio.Task[None]] = {}
        self.reconfigure(clusters)

    def knows(self, cluster: str, node: str) -> bool:
        return node in self._clusters.get(cluster, ())

    async def collect_cluster(self, cluster: str, timeout: float, probes: Sequence[Query] = QUERIES) -> ClusterSnapshot:
        """
        Look at all nodes of one cluster at the same time. Raises KeyError for an unknown cluster.

        For creations alone (CREATIONS) a second look asks what explains them, if there are any.
        """
        deadline = time.monotonic() + timeout
        # The same ones for both looks: a reload in between may have taken the cluster out.
        nodes = tuple(self._clusters[cluster].values())
        found = self.assemble(cluster, await _all([node.collect(timeout, probes) for node in nodes]))
        left = deadline - time.monotonic()
        if probes is CREATIONS and any(node.creations for node in found.nodes) and left >= MIN_COLLECT_SECONDS:
            return self.assemble(cluster, await _all([node.collect(left, EXPLANATION) for node in nodes]))
        return found

    async def collect_node(self, cluster: str, node: str, timeout: float) -> NodeSnapshot:
        """Look at one node and at no other. Raises KeyError for an unknown one."""
        [snapshot] = self._as_they_count(cluster, [await self._clusters[cluster][node].collect(timeout)])
        return snapshot

    def assemble(self, cluster: str, snapshots: Sequence[NodeSnapshot]) -> ClusterSnapshot:
        """Put looks at nodes together; what servers of another cluster show is left out of them."""
        return ClusterSnapshot(cluster, tuple(self._as_they_count(cluster, snapshots)))

    async def collect_node_with_peers(
        self,
        cluster: str,
        node: str,
        timeout: float,
        probes: Sequence[Query] = QUERIES,
        *,
        peers: Callable[[NodeSnapshot], Peers],
    ) -> ClusterSnapshot:
        """
        Look at one node, and at the others only if this one cannot be diagnosed without them.

        Once the primary is found, no other is waited for that takes longer than OTHERS_LONGER: a node that hangs is no
        business of those that ask for another. Raises KeyError for an unknown node.
        """
        deadline = time.monotonic() + timeout
        observers = self._clusters[cluster]
        [snapshot] = self._as_they_count(cluster, [await observers[node].collect(timeout, probes)])
        if probes is CREATIONS and snapshot.creations and deadline - time.monotonic() >= MIN_COLLECT_SECONDS:
            probes, left = EXPLANATION, deadline - time.monotonic()
            [snapshot] = self._as_they_count(cluster, [await observers[node].collect(left, probes)])
        others = [other for name, other in observers.items() if name != node]
        left = max(MIN_COLLECT_SECONDS, deadline - time.monotonic())
        needed = peers(snapshot)
        if needed is Peers.STANDBYS:
            standbys = await asyncio.gather(*(_in_short(other, left) for other in others))
            return self.assemble(cluster, (snapshot, *standbys))
        if needed is Peers.RECENT_STANDBYS:
            standbys = await asyncio.gather(*(_lately(other, left) for other in others))
            return self.assemble(cluster, (snapshot, *standbys))
        if needed is Peers.NONE:
            return ClusterSnapshot(cluster, (snapshot,))
        looks = [asyncio.create_task(other.collect(left, probes)) for other in others]
        pending = set(looks)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if any(look.result().is_primary for look in done):
                if pending:
                    _, pending = await asyncio.wait(pending, timeout=PEER_GRACE)
                break
        for look in pending:
            look.cancel()
        return self.assemble(cluster, (snapshot, *(look.result() for look in looks if look not in pending)))

    async def collect_all(self, timeout: float, probes: Sequence[Query] = QUERIES) -> list[ClusterSnapshot]:
        return await _all([self.collect_cluster(cluster, timeout, probes) for cluster in self._clusters])

    def _as_they_count(self, cluster: str, snapshots: Sequence[NodeSnapshot]) -> list[NodeSnapshot]:
        observers = self._clusters.get(cluster, {})
        identifiers = {name: observer.membership.identifier for name, observer in observers.items()}
        identifier = expected_system_identifier(identifiers, self._told.get(cluster))
        # Who has been taken out of the configuration meanwhile is told for this once as it was.
        return [
            observers[one.node].membership.mask_if_foreign(one, identifier) if one.node in observers else one
            for one in snapshots
        ]

    def reconfigure(self, clusters: Sequence[Cluster]) -> None:
        """Take a new configuration over; nodes that are in both keep their connections, looks in flight end first."""
        before = {observer.node: observer for nodes in self._clusters.values() for observer in nodes.values()}

        def observer_of(node: Node) -> NodeCollector:
            return before.pop(node) if node in before else NodeCollector(node, self._application_name)

        self._clusters = {
            cluster.name: {node.name: observer_of(node) for node in cluster.nodes} for cluster in clusters
        }
        self._told = {cluster.name: cluster.system_identifier for cluster in clusters}
        for observer in before.values():
            task = self._leaving[observer] = asyncio.create_task(observer.retire())
            task.add_done_callback(lambda _, observer=observer: self._leaving.pop(observer))  # type: ignore[misc]

    async def close(self) -> None:
        observers = [observer for nodes in self._clusters.values() for observer in nodes.values()]
        await asyncio.gather(*(observer.close() for observer in (*self._leaving, *observers)))


async def _in_short(standby: NodeCollector, timeout: float) -> NodeSnapshot:
    """Look at a standby for its primary's sake, which waits STANDBYS_LONGER for it; the look itself may take longer."""
    look = asyncio.create_task(standby.collect(timeout))
    done, _ = await asyncio.wait({look}, timeout=STANDBY_GRACE)
    if done:
        return look.result()
    look.cancel()
    # That no standby keeps copies of a slot can only be told when all are known: one that is not has to be among them.
    return standby.empty_snapshot(QueryStatus.TIMEOUT, STANDBY_GRACE)


async def _lately(standby: NodeCollector, timeout: float) -> NodeSnapshot:
    return standby.recent or await _in_short(standby, timeout)


async def _all(looks: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Wait for all at the same time; one alone needs no task of its own, and goes round the event loop less often."""
    return [await looks[0]] if len(looks) == 1 else await asyncio.gather(*looks)
