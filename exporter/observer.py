"""Looks at nodes: one kept connection each, however many ask, and an answer in time whatever the server does."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

import psycopg

from exporter.config import Cluster, Node
from exporter.diagnosis import needs_primary
from exporter.history import NOTHING, remember
from exporter.log import event
from exporter.postgres import Session
from exporter.probes import OLDEST_SUPPORTED, PROBES, Probe
from exporter.snapshot import ClusterSnapshot, NodeSnapshot, Status
from exporter.yamlfile import ConfigError

GRACE = 0.1
"""Seconds that a look may take beyond its time, to end in order and say how it failed."""

SHORTEST_LOOK = 0.5
"""Seconds; less would only ever time out."""

_log = logging.getLogger(__name__)

_UNDEFINED = psycopg.errors.UndefinedFunction | psycopg.errors.UndefinedColumn | psycopg.errors.UndefinedTable


class NodeObserver:
    """One node and the one connection to it. Concurrent looks share the one in flight."""

    def __init__(self, node: Node, application_name: str) -> None:
        self.node = node
        self._application_name = application_name
        self._session: Session | None = None
        self._flight: asyncio.Task[NodeSnapshot] | None = None
        self._reported: dict[str, str] = {}
        self._history = NOTHING

    async def look(self, timeout: float) -> NodeSnapshot:
        """Return what the node looks like now, within `timeout` seconds; a failure is in the snapshot, never raised."""
        if self._flight is None:
            self._flight = asyncio.create_task(self._look(timeout))
            self._flight.add_done_callback(self._landed)
        flight = self._flight
        # Whoever joins a look in flight has a deadline of his own; the flight itself goes on for the others.
        done, _ = await asyncio.wait({flight}, timeout=timeout + GRACE)
        if not done:
            return self._snapshot({}, dict.fromkeys((probe.name for probe in PROBES), Status.TIMEOUT), timeout)
        return flight.result()

    async def close(self) -> None:
        """End the look in flight and the connection."""
        if self._flight is not None:
            if self._session is not None:
                self._session.hang_up()
            else:
                self._flight.cancel()
            await asyncio.wait({self._flight})
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _landed(self, _flight: asyncio.Task[NodeSnapshot]) -> None:
        self._flight = None

    async def _look(self, timeout: float) -> NodeSnapshot:
        started = time.monotonic()
        deadline = started + timeout
        statuses: dict[str, Status] = {}
        answers: dict[str, list[Any]] = {}
        try:
            session = await self._connected(timeout)
            if session.major < OLDEST_SUPPORTED:
                self._report(Status.UNSUPPORTED, f"PostgreSQL {session.major} is older than {OLDEST_SUPPORTED}")
                statuses = dict.fromkeys((probe.name for probe in PROBES), Status.UNSUPPORTED)
                answers = await _ask(session, PROBES[:1], deadline)
                statuses["node"] = Status.OK
            else:
                answers, statuses = await self._ask_all(session, deadline)
        except (psycopg.Error, OSError, ConfigError, UnicodeDecodeError) as error:
            await self._drop()
            status = classify(error, connected=False)
            self._report(status, str(error))
            statuses = {probe.name: statuses.get(probe.name, status) for probe in PROBES}
            answers = {}
        return self._snapshot(answers, statuses, time.monotonic() - started)

    async def _connected(self, timeout: float) -> Session:
        if self._session is None or self._session.closed:
            self._session = None
            self._session = await Session.connect(
                self.node.conninfo.read(), application_name=self._application_name, timeout=timeout
            )
            event(_log, logging.DEBUG, "connected", cluster=self.node.cluster, node=self.node.name)
        return self._session

    async def _ask_all(self, session: Session, deadline: float) -> tuple[dict[str, list[Any]], dict[str, Status]]:
        """All probes in one round trip; if one of them fails, each by itself, so that the others still answer."""
        try:
            answers = await _ask(session, PROBES, deadline)
        except psycopg.Error:
            if session.closed:
                raise
        else:
            return answers, dict.fromkeys((probe.name for probe in PROBES), Status.OK)
        answers = {}
        statuses = {}
        for probe in PROBES:
            try:
                answers |= await _ask(session, (probe,), deadline)
                statuses[probe.name] = Status.OK
            except psycopg.Error as error:
                if session.closed:
                    raise
                statuses[probe.name] = classify(error, connected=True)
                self._report(statuses[probe.name], str(error), probe.name)
        return answers, statuses

    async def _drop(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _snapshot(self, answers: dict[str, list[Any]], statuses: dict[str, Status], duration: float) -> NodeSnapshot:
        facts = answers["node"][0] if "node" in answers else None
        if facts is not None and not facts.reads_all_stats:
            # pg_stat_activity would answer, with everything that matters blanked out: no answer beats a wrong one.
            for probe in PROBES:
                if probe.needs_all_stats and statuses[probe.name] is Status.OK:
                    statuses[probe.name] = Status.PERMISSION_DENIED
                    answers.pop(probe.name, None)
            self._report(Status.PERMISSION_DENIED, "the role is not a member of pg_monitor: GRANT pg_monitor TO it")

        if self._reported and all(status is Status.OK for status in statuses.values()):
            self._reported.clear()
            event(_log, logging.INFO, "looking at the node works again", cluster=self.node.cluster, node=self.node.name)

        def rows(name: str) -> tuple[Any, ...] | None:
            return tuple(answers[name]) if name in answers else None

        if facts is not None:
            self._history = remember(self._history, facts, rows("slots"), rows("transactions"), time.monotonic())
        return NodeSnapshot(
            cluster=self.node.cluster,
            node=self.node.name,
            duration=duration,
            statuses=statuses,
            facts=facts,
            slots=rows("slots"),
            creations=rows("creations"),
            transactions=rows("transactions"),
            standby=next(iter(answers.get("standby", ())), None),
            history=self._history,
        )

    def _report(self, status: Status, message: str, probe: str = "") -> None:
        """Log a failure once per change, not once per scrape."""
        if self._reported.get(probe) != f"{status}":
            self._reported[probe] = f"{status}"
            event(
                _log,
                logging.WARNING,
                "cannot look at the node",
                cluster=self.node.cluster,
                node=self.node.name,
                probe=probe or None,
                status=f"{status}",
                error=" ".join(message.split()),
            )


class Observer:
    """All nodes of some clusters."""

    def __init__(self, clusters: Sequence[Cluster], application_name: str) -> None:
        self._application_name = application_name
        self._clusters = {cluster.name: cluster for cluster in clusters}
        self._observers = {node: NodeObserver(node, application_name) for node in self._nodes()}
        self._leaving: set[asyncio.Task[None]] = set()

    def knows(self, cluster: str, node: str) -> bool:
        return any((known.cluster, known.name) == (cluster, node) for known in self._observers)

    async def look(self, cluster: str, timeout: float) -> ClusterSnapshot:
        """Look at all nodes of one cluster at the same time. Raises KeyError for an unknown cluster."""
        nodes = self._clusters[cluster].nodes
        return ClusterSnapshot(
            cluster, tuple(await asyncio.gather(*(self._observers[node].look(timeout) for node in nodes)))
        )

    async def look_at_node(self, cluster: str, node: str, timeout: float) -> NodeSnapshot:
        """Look at one node and at no other. Raises KeyError for an unknown one."""
        known = next((known for known in self._clusters[cluster].nodes if known.name == node), None)
        if known is None:
            raise KeyError(node)
        return await self._observers[known].look(timeout)

    async def look_at(self, cluster: str, node: str, timeout: float) -> ClusterSnapshot:
        """
        Look at one node, and at the others only if this one cannot be diagnosed without its primary.

        Raises KeyError for an unknown node.
        """
        deadline = time.monotonic() + timeout
        observer = self._observers[next(known for known in self._clusters[cluster].nodes if known.name == node)]
        snapshot = await observer.look(timeout)
        if not needs_primary(snapshot):
            return ClusterSnapshot(cluster, (snapshot,))
        others = [self._observers[other] for other in self._clusters[cluster].nodes if other.name != node]
        left = max(SHORTEST_LOOK, deadline - time.monotonic())
        return ClusterSnapshot(cluster, (snapshot, *await asyncio.gather(*(other.look(left) for other in others))))

    async def look_at_all(self, timeout: float) -> list[ClusterSnapshot]:
        return await asyncio.gather(*(self.look(cluster, timeout) for cluster in self._clusters))

    def reconfigure(self, clusters: Sequence[Cluster]) -> None:
        """Take a new configuration over; nodes that are in both keep their connections."""
        self._clusters = {cluster.name: cluster for cluster in clusters}
        before = self._observers
        self._observers = {
            node: before.get(node) or NodeObserver(node, self._application_name) for node in self._nodes()
        }
        for node, observer in before.items():
            if node not in self._observers:
                task = asyncio.create_task(observer.close())
                self._leaving.add(task)
                task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        await asyncio.gather(*self._leaving, *(observer.close() for observer in self._observers.values()))

    def _nodes(self) -> list[Node]:
        return [node for cluster in self._clusters.values() for node in cluster.nodes]


def classify(error: Exception, *, connected: bool) -> Status:
    """Return what an error means for a probe; `connected`: the session outlived it."""
    if isinstance(error, TimeoutError | psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
        return Status.TIMEOUT
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return Status.PERMISSION_DENIED
    if isinstance(error, _UNDEFINED):
        return Status.UNSUPPORTED
    if isinstance(error, psycopg.OperationalError) and not connected:
        return Status.UNREACHABLE
    return Status.ERROR


async def _ask(session: Session, probes: Sequence[Probe], deadline: float) -> dict[str, list[Any]]:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no time left")
    queries = [(probe.sql(session.major), probe.row) for probe in probes]
    rows = await session.ask(queries, left)
    return {probe.name: answer for probe, answer in zip(probes, rows, strict=True)}
