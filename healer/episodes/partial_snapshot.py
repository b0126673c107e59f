"""Snapshots for one episode: of the nodes of its slots and of the primary, without waiting for the cluster's others."""

import asyncio
from collections.abc import Collection, Mapping

from healer.episodes.deadlines import COLLECT_TIMEOUT
from healer.remedies.attempt import APPLICATION_NAME
from pgslot.config.model import Cluster
from pgslot.diagnosis.upstream import streams_from_standby
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.deadlines import STANDBY_GRACE_SECONDS
from pgslot.snapshot.history import LoggedRecords
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot


class PartialCollector:
    """Keeps one connection to each node that it queries."""

    def __init__(self, cluster: Cluster, collector: ClusterCollector | None = None) -> None:
        """`collector`: a collector of this cluster that outlives this one; None: one of its own."""
        self._cluster = cluster
        self._owns_collector = collector is None
        self._collector = collector or ClusterCollector([cluster], APPLICATION_NAME)
        self._in_flight: dict[str, asyncio.Task[NodeSnapshot]] = {}
        """The node's collection, by its name: it runs, or its result has not been used yet."""
        self._unresponsive: set[str] = set()
        """Nodes that did not answer the last time; no collection of another node waits for them."""
        self._primary: str | None = None
        """The primary in the last snapshot; None: it showed none, or several."""
        self._cascades = False
        """A node in the last snapshot streamed from another standby, without which its state cannot be explained."""

    async def collect(self, nodes: Collection[str]) -> ClusterSnapshot:
        """
        Query these nodes and the primary, within COLLECT_TIMEOUT; nodes that were not waited for are absent.

        The last snapshot shows which node is the primary. If it does not, all nodes are queried until one says that it
        is. The others of a standby that streams from another standby have STANDBY_GRACE_SECONDS.
        """
        self._discard_stale_results()
        names = [node.name for node in self._cluster.nodes]
        wanted = [name for name in names if name in nodes]
        queried = {*wanted, self._primary} if self._primary is not None and not self._cascades else set(names)
        for name in names:
            if name in queried and name not in self._in_flight:
                collection = self._collector.collect_node(self._cluster.name, name, COLLECT_TIMEOUT)
                self._in_flight[name] = asyncio.create_task(collection)
        tasks = {name: task for name, task in self._in_flight.items() if name in queried}
        while awaited := self._awaited(tasks, wanted):
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        answered = [task.result() for task in tasks.values() if task.done()]
        self._cascades = streams_from_standby(answered, wanted)
        others = {task for name, task in tasks.items() if name not in self._unresponsive and not task.done()}
        if self._cascades and others:
            await asyncio.wait(others, timeout=STANDBY_GRACE_SECONDS)
        return self._collector.assemble(self._cluster.name, self._take_completed())

    @property
    def system_identifier(self) -> str | None:
        """The system identifier that the cluster's servers have; None: it is not known."""
        return self._collector.system_identifier(self._cluster.name)

    def add_records(self, records: Collection[LoggedRecords]) -> None:
        """Add records that the primary has certainly logged to its history."""
        if self._primary is not None:
            for logged in records:
                self._collector.add_records(self._cluster.name, self._primary, logged)

    def follow(self, cluster: Cluster) -> None:
        """Query the nodes that the cluster has now; connections to nodes that stay are kept."""
        if cluster is self._cluster:
            return
        self._cluster = cluster
        self._collector.reconfigure([cluster])
        for name in self._in_flight.keys() - {node.name for node in cluster.nodes}:
            self._in_flight.pop(name).cancel()
            self._unresponsive.discard(name)
        self._primary = None

    async def close(self) -> None:
        """Cancel the collections in flight, and close the connections unless the collector outlives this one."""
        for task in self._in_flight.values():
            task.cancel()
        await asyncio.gather(*self._in_flight.values(), return_exceptions=True)
        if self._owns_collector:
            await self._collector.close()

    def _awaited(
        self, tasks: Mapping[str, asyncio.Task[NodeSnapshot]], wanted: Collection[str]
    ) -> set[asyncio.Task[NodeSnapshot]]:
        """Return the tasks that a snapshot of the wanted nodes still has to wait for."""
        responsive = [name for name in wanted if name not in self._unresponsive] or wanted
        awaited = {tasks[name] for name in responsive if name in tasks and not tasks[name].done()}
        if any(task.done() and task.result().is_primary for task in tasks.values()):
            return awaited
        return awaited | {task for name, task in tasks.items() if name not in self._unresponsive and not task.done()}

    def _discard_stale_results(self) -> None:
        """Discard results that came too late for the last snapshot, but keep those of unresponsive nodes."""
        for name, task in list(self._in_flight.items()):
            if task.done() and name not in self._unresponsive:
                del self._in_flight[name]
                if not task.result().up:
                    self._unresponsive.add(name)

    def _take_completed(self) -> list[NodeSnapshot]:
        completed = [task.result() for task in self._in_flight.values() if task.done()]
        for snapshot in completed:
            del self._in_flight[snapshot.node]
            (self._unresponsive.discard if snapshot.up else self._unresponsive.add)(snapshot.node)
        primaries = [snapshot.node for snapshot in completed if snapshot.is_primary]
        self._primary = primaries[0] if len(primaries) == 1 else None
        return completed
