"""Snapshots of clusters: of all nodes at once, or of one node and only those others that explain it."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from enum import Enum, auto
from typing import Any, TypeVar

from pgslot.config.model import Cluster, Node
from pgslot.snapshot.deadlines import MIN_COLLECT_SECONDS, PEER_GRACE_SECONDS, STANDBY_GRACE_SECONDS
from pgslot.snapshot.history import LoggedRecords
from pgslot.snapshot.identity import expected_system_identifier
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot, QueryStatus
from pgslot.snapshot.node import NodeCollector
from pgslot.snapshot.queries import Scope
from pgslot.task_supervisor import TaskSupervisor

_T = TypeVar("_T")


class Peers(Enum):
    """Which other nodes of its cluster explain what a node shows."""

    NONE = auto()
    PRIMARY = auto()
    STANDBYS = auto()
    RECENT_STANDBYS = auto()
    """Standbys, whose last snapshot is good enough while it is recent."""


class ClusterCollector:
    """All nodes of some clusters, one NodeCollector each."""

    def __init__(
        self,
        clusters: Sequence[Cluster],
        application_name: str,
        listing_interval: float | None = None,
        *,
        slot_users: bool = False,
    ) -> None:
        """
        `listing_interval`: seconds between two listings of a node's WAL directory; None: it is never listed.

        `slot_users`: snapshots of everything also show who uses the slots.
        """
        self._slot_users = slot_users
        self._application_name = application_name
        self._listing_interval = listing_interval
        self._clusters: dict[str, dict[str, NodeCollector]] = {}
        self._declared_identifiers: dict[str, str | None] = {}
        """The system identifiers that Patroni reports, by cluster; None: not known."""
        self._retiring: set[NodeCollector] = set()
        """Of nodes that are no longer configured, until their collection in flight has ended."""
        self._retirements = TaskSupervisor()
        self.reconfigure(clusters)

    def knows(self, cluster: str, node: str) -> bool:
        """Return whether the node is configured."""
        return node in self._clusters.get(cluster, ())

    def last(self, cluster: str, node: str) -> tuple[float, NodeSnapshot] | None:
        """
        Return the last snapshot of everything of a node, also a failed one, and its age in seconds; asks no server.

        None: the node was not asked yet, or is not configured. What a server of another cluster shows is left out.
        """
        collector = self._clusters.get(cluster, {}).get(node)
        if collector is None or collector.last is None:
            return None
        age, snapshot = collector.last
        [masked] = self._exclude_foreign(cluster, [snapshot])
        return age, masked

    async def collect_all(self, timeout: float, scope: Scope = Scope.EVERYTHING) -> list[ClusterSnapshot]:
        """Query all nodes of all clusters at the same time."""
        # A reload may remove a cluster before its coroutine first runs.
        return await _gather(
            [
                self._collect_cluster(cluster, tuple(collectors.values()), timeout, scope)
                for cluster, collectors in self._clusters.items()
            ]
        )

    async def collect_cluster(self, cluster: str, timeout: float, scope: Scope = Scope.EVERYTHING) -> ClusterSnapshot:
        """
        Query all nodes of one cluster at the same time. Raises KeyError for an unknown cluster.

        A scope that shows creations without what explains them is widened, in a second collection, if there are any.
        """
        return await self._collect_cluster(cluster, tuple(self._clusters[cluster].values()), timeout, scope)

    async def _collect_cluster(
        self, cluster: str, collectors: Sequence[NodeCollector], timeout: float, scope: Scope
    ) -> ClusterSnapshot:
        """Query these nodes, in both collections the same: a reload in between may have removed the cluster."""
        deadline = time.monotonic() + timeout
        snapshots = await _gather([collector.collect(timeout, scope) for collector in collectors])
        snapshot = self.assemble(cluster, snapshots)
        remaining = deadline - time.monotonic()
        if any(_lacks_explanation(node, scope) for node in snapshot.nodes) and remaining >= MIN_COLLECT_SECONDS:
            explained = [collector.collect(remaining, Scope.EXPLANATION) for collector in collectors]
            return self.assemble(cluster, await _gather(explained))
        return snapshot

    async def collect_node(self, cluster: str, node: str, timeout: float) -> NodeSnapshot:
        """Query one node and no other. Raises KeyError for an unknown node."""
        [snapshot] = self._exclude_foreign(cluster, [await self._clusters[cluster][node].collect(timeout)])
        return snapshot

    async def collect_node_with_peers(
        self,
        cluster: str,
        node: str,
        timeout: float,
        scope: Scope = Scope.EVERYTHING,
        *,
        peers: Callable[[NodeSnapshot], Peers],
    ) -> ClusterSnapshot:
        """
        Query one node, and those others without which it cannot be diagnosed. Raises KeyError for an unknown node.

        Once the primary has answered, the others have PEER_GRACE_SECONDS left: a node that hangs must not delay the
        result for another one.
        """
        deadline = time.monotonic() + timeout
        collectors = self._clusters[cluster]
        [snapshot] = self._exclude_foreign(cluster, [await collectors[node].collect(timeout, scope)])
        remaining = deadline - time.monotonic()
        if _lacks_explanation(snapshot, scope) and remaining >= MIN_COLLECT_SECONDS:
            scope = Scope.EXPLANATION
            [snapshot] = self._exclude_foreign(cluster, [await collectors[node].collect(remaining, scope)])
        others = [collector for name, collector in collectors.items() if name != node]
        remaining = max(MIN_COLLECT_SECONDS, deadline - time.monotonic())
        needed = peers(snapshot)
        if needed is Peers.NONE:
            return ClusterSnapshot(cluster, (snapshot,))
        if needed is Peers.PRIMARY:
            return self.assemble(cluster, (snapshot, *await _until_primary(others, remaining, scope)))
        collect_standby = _recent_or_brief if needed is Peers.RECENT_STANDBYS else _brief
        standbys = await asyncio.gather(*(collect_standby(collector, remaining) for collector in others))
        return self.assemble(cluster, (snapshot, *standbys))

    def add_records(self, cluster: str, node: str, records: LoggedRecords) -> None:
        """Add running-xacts records that this node has certainly logged to its history, if it is still configured."""
        collector = self._clusters.get(cluster, {}).get(node)
        if collector is not None:
            collector.add_records(records)

    def assemble(self, cluster: str, snapshots: Sequence[NodeSnapshot]) -> ClusterSnapshot:
        """Return a cluster's snapshot of these; what servers of another cluster show is left out."""
        return ClusterSnapshot(cluster, tuple(self._exclude_foreign(cluster, snapshots)))

    def reconfigure(self, clusters: Sequence[Cluster]) -> None:
        """Take a new configuration over; nodes in both keep their connections, collections in flight end first."""
        before = {collector.node: collector for nodes in self._clusters.values() for collector in nodes.values()}

        def collector_of(node: Node) -> NodeCollector:
            if node in before:
                return before.pop(node)
            return NodeCollector(node, self._application_name, self._listing_interval, slot_users=self._slot_users)

        self._clusters = {
            cluster.name: {node.name: collector_of(node) for node in cluster.nodes} for cluster in clusters
        }
        self._declared_identifiers = {cluster.name: cluster.system_identifier for cluster in clusters}
        for collector in before.values():
            self._retiring.add(collector)
            self._retirements.start(self._retire(collector), f"retire {collector.node.cluster}/{collector.node.name}")

    async def close(self) -> None:
        """End all collections in flight and close all connections."""
        collectors = [collector for nodes in self._clusters.values() for collector in nodes.values()]
        await asyncio.gather(*(collector.close() for collector in (*self._retiring, *collectors)))
        await self._retirements.close()

    async def _retire(self, collector: NodeCollector) -> None:
        try:
            await collector.retire()
        finally:
            self._retiring.discard(collector)

    def system_identifier(self, cluster: str) -> str | None:
        """Return the system identifier that the cluster's servers have; None: it is not known."""
        return expected_system_identifier(self.system_identifiers(cluster), self._declared_identifiers.get(cluster))

    def system_identifiers(self, cluster: str) -> dict[str, str | None]:
        """Return the system identifier of each node's server; None: it did not answer, or it may not be read."""
        collectors = self._clusters.get(cluster, {})
        return {name: collector.membership.identifier for name, collector in collectors.items()}

    def _exclude_foreign(self, cluster: str, snapshots: Sequence[NodeSnapshot]) -> list[NodeSnapshot]:
        collectors = self._clusters.get(cluster, {})
        expected = self.system_identifier(cluster)
        # A node that has been removed from the configuration meanwhile is shown this last time as it is.
        return [
            collectors[snapshot.node].membership.mask_if_foreign(snapshot, expected)
            if snapshot.node in collectors
            else snapshot
            for snapshot in snapshots
        ]


def _lacks_explanation(snapshot: NodeSnapshot, scope: Scope) -> bool:
    """Return whether slots are being created and the scope does not show what they wait for."""
    return scope < Scope.EXPLANATION and bool(snapshot.creations)


async def _until_primary(collectors: Sequence[NodeCollector], timeout: float, scope: Scope) -> list[NodeSnapshot]:
    """Return the snapshots of these nodes, without those that take PEER_GRACE_SECONDS longer than the primary."""
    tasks = [asyncio.create_task(collector.collect(timeout, scope)) for collector in collectors]
    pending = set(tasks)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        if any(task.result().is_primary for task in done):
            if pending:
                _, pending = await asyncio.wait(pending, timeout=PEER_GRACE_SECONDS)
            break
    for task in pending:
        task.cancel()
    return [task.result() for task in tasks if task not in pending]


async def _brief(standby: NodeCollector, timeout: float) -> NodeSnapshot:
    """Wait STANDBY_GRACE_SECONDS for a standby, for its primary's sake; the collection itself may take longer."""
    task = asyncio.create_task(standby.collect(timeout))
    done, _ = await asyncio.wait({task}, timeout=STANDBY_GRACE_SECONDS)
    if done:
        return task.result()
    task.cancel()
    # Whether no standby keeps copies of a slot can only be said when all are known: this one must be among them.
    return standby.empty_snapshot(QueryStatus.TIMEOUT, STANDBY_GRACE_SECONDS)


async def _recent_or_brief(standby: NodeCollector, timeout: float) -> NodeSnapshot:
    return standby.recent or await _brief(standby, timeout)


async def _gather(coroutines: Sequence[Coroutine[Any, Any, _T]]) -> list[_T]:
    """Run all at the same time; a single one needs no task of its own, and fewer turns of the event loop."""
    return [await coroutines[0]] if len(coroutines) == 1 else await asyncio.gather(*coroutines)
