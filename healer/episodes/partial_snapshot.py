"""Looks for one episode: at the nodes of its slots and at the primary, and waits for no other node of the cluster."""

import asyncio
from collections.abc import Collection, Mapping

from healer.remedies.attempt import APPLICATION_NAME
from pgslot.config.model import Cluster
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot

COLLECT_TIMEOUT = 5.0


class PartialCollector:
    """One kept connection to each node that is looked at."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._observer = ClusterCollector([cluster], APPLICATION_NAME)
        self._flights: dict[str, asyncio.Task[NodeSnapshot]] = {}
        self._doubtful: set[str] = set()
        """Nodes that did not answer when last asked: nobody waits for them before the others."""
        self._primary: str | None = None

    async def collect(self, nodes: Collection[str]) -> ClusterSnapshot:
        """
        Look at these nodes and at the primary, within LOOK_TIMEOUT; a node that was not waited for is absent.

        Which one is the primary shows in the look before; when that is unknown all are asked, until one says so.
        """
        self._forget_what_is_old()
        names = [node.name for node in self._cluster.nodes]
        wanted = [name for name in names if name in nodes]
        asked = {*wanted, self._primary} if self._primary is not None else set(names)
        for name in names:
            if name in asked and name not in self._flights:
                look = self._observer.collect_node(self._cluster.name, name, COLLECT_TIMEOUT)
                self._flights[name] = asyncio.create_task(look)
        asked_flights = {name: flight for name, flight in self._flights.items() if name in asked}
        while late := self._worth_waiting_for(asked_flights, wanted):
            await asyncio.wait(late, return_when=asyncio.FIRST_COMPLETED)
        return self._observer.assemble(self._cluster.name, self._landed())

    def follow(self, cluster: Cluster) -> None:
        """Go by these nodes from now on; connections to those that stay are kept."""
        if cluster is self._cluster:
            return
        self._cluster = cluster
        self._observer.reconfigure([cluster])
        for name in self._flights.keys() - {node.name for node in cluster.nodes}:
            self._flights.pop(name).cancel()
            self._doubtful.discard(name)
        self._primary = None

    async def close(self) -> None:
        """End the looks in flight and the connections."""
        for flight in self._flights.values():
            flight.cancel()
        await asyncio.gather(*self._flights.values(), return_exceptions=True)
        await self._observer.close()

    def _worth_waiting_for(
        self, asked: Mapping[str, asyncio.Task[NodeSnapshot]], wanted: Collection[str]
    ) -> set[asyncio.Task[NodeSnapshot]]:
        """Return the flights that a look still has to wait for."""
        ready = [name for name in wanted if name not in self._doubtful] or wanted
        late = {asked[name] for name in ready if name in asked and not asked[name].done()}
        if any(flight.done() and flight.result().is_primary for flight in asked.values()):
            return late
        return late | {flight for name, flight in asked.items() if name not in self._doubtful and not flight.done()}

    def _forget_what_is_old(self) -> None:
        """What nobody waited for in the look before shows that moment, not this one; of the doubtful it is welcome."""
        for name, flight in list(self._flights.items()):
            if flight.done() and name not in self._doubtful:
                del self._flights[name]
                if not flight.result().up:
                    self._doubtful.add(name)

    def _landed(self) -> list[NodeSnapshot]:
        found = [flight.result() for flight in self._flights.values() if flight.done()]
        for snapshot in found:
            del self._flights[snapshot.node]
            (self._doubtful.discard if snapshot.up else self._doubtful.add)(snapshot.node)
        primaries = [snapshot.node for snapshot in found if snapshot.is_primary]
        self._primary = primaries[0] if len(primaries) == 1 else None
        return found
