"""Looks at nodes: one kept connection each, however many ask, and an answer in time whatever the server does."""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any

import psycopg

from exporter.config import Cluster, Node
from exporter.connecting import LoginFailedError
from exporter.diagnosis import needs_primary
from exporter.failover import failover_slots
from exporter.history import NOTHING, remember
from exporter.log import event
from exporter.postgres import Session
from exporter.probes import OLDEST_SUPPORTED, PROBES, Probe
from exporter.snapshot import ClusterSnapshot, NodeSnapshot, Status
from exporter.yamlfile import ConfigError

GRACE = 0.1
"""Seconds that a look may take beyond its time, to end in order and say how it failed."""

OTHERS_LONGER = 0.2
"""Seconds that other nodes have after the primary has answered: long enough to notice that there are two."""

STANDBYS_LONGER = 1.0
"""Seconds that standbys have after a primary with failover slots: a new connection across an ocean takes less."""

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
        self._deadline = 0.0
        """Of the look in flight, monotonic: that of whoever joined it with the most time."""
        self._retired = False
        self._reported: dict[str, str] = {}
        self._history = NOTHING

    async def look(self, timeout: float) -> NodeSnapshot:
        """Return what the node looks like now, within `timeout` seconds; a failure is in the snapshot, never raised."""
        deadline = time.monotonic() + timeout
        if self._flight is None:
            self._deadline = deadline
            self._flight = asyncio.create_task(self._fly())
            self._flight.add_done_callback(self._landed)
        self._deadline = max(self._deadline, deadline)
        flight = self._flight
        # Whoever joins a look in flight has a deadline of his own; the flight itself goes on for the others.
        done, _ = await asyncio.wait({flight}, timeout=timeout + GRACE)
        if not done:
            return self.blank(Status.TIMEOUT, timeout)
        return self.blank(Status.UNREACHABLE, timeout) if flight.cancelled() else flight.result()

    async def close(self) -> None:
        """End the look in flight and the connection; whoever waits for the look gets it as unreachable."""
        if self._flight is not None:
            self._flight.cancel()
        await self.retire()

    async def retire(self) -> None:
        """Close the connection once the look in flight, if any, has ended by itself, and keep none from then on."""
        self._retired = True
        while self._flight is not None:
            await asyncio.wait({self._flight})
        await self._drop()

    def _landed(self, _flight: asyncio.Task[NodeSnapshot]) -> None:
        self._flight = None

    async def _fly(self) -> NodeSnapshot:
        """Look; and once more if time ran out for whoever began, and somebody with more of it has joined meanwhile."""
        while True:
            deadline = self._deadline
            snapshot = await self._look(deadline)
            more = self._deadline - max(deadline, time.monotonic())
            if Status.TIMEOUT not in snapshot.statuses.values() or more < SHORTEST_LOOK:
                break
        if self._retired:
            # By whoever had begun before the reload, and came to this node after it.
            await self._drop()
        return snapshot

    async def _look(self, deadline: float) -> NodeSnapshot:
        started = time.monotonic()
        statuses: dict[str, Status] = {}
        answers: dict[str, list[Any]] = {}
        try:
            answers, statuses = await self._ask_twice(deadline)
        except (psycopg.Error, OSError, ConfigError) as error:
            await self._drop()
            status = classify(error, connected=False)
            self._report(status, str(error))
            return self.blank(status, time.monotonic() - started)
        return self._snapshot(answers, statuses, time.monotonic() - started)

    async def _ask_twice(self, deadline: float) -> tuple[dict[str, list[Any]], dict[str, Status]]:
        """Ask on the kept connection; if that turns out to be dead, on a new one."""
        kept = self._session
        if kept is not None and not kept.closed:
            try:
                return await self._ask_session(kept, deadline)
            except psycopg.OperationalError:
                # Proxies and firewalls cut connections that are idle from one scrape to the next. The server knows
                # nothing of it, and the node is as well as before.
                if not kept.closed:
                    raise
        await self._drop()
        self._session = await Session.connect(
            self.node.conninfo.read(), application_name=self._application_name, timeout=_left(deadline)
        )
        event(_log, logging.DEBUG, "connected", cluster=self.node.cluster, node=self.node.name)
        return await self._ask_session(self._session, deadline)

    async def _ask_session(self, session: Session, deadline: float) -> tuple[dict[str, list[Any]], dict[str, Status]]:
        if session.major >= OLDEST_SUPPORTED:
            return await self._ask_all(session, deadline)
        self._report(Status.UNSUPPORTED, f"PostgreSQL {session.major} is older than {OLDEST_SUPPORTED}")
        statuses = dict.fromkeys((probe.name for probe in PROBES), Status.UNSUPPORTED)
        return await _ask(session, PROBES[:1], deadline), statuses | {"node": Status.OK}

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

    def blank(self, status: Status, duration: float) -> NodeSnapshot:
        """Return a look that showed nothing."""
        return self._snapshot({}, dict.fromkeys((probe.name for probe in PROBES), status), duration)

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
        self._clusters: dict[str, dict[str, NodeObserver]] = {}
        self._leaving: dict[NodeObserver, asyncio.Task[None]] = {}
        self.reconfigure(clusters)

    def knows(self, cluster: str, node: str) -> bool:
        return node in self._clusters.get(cluster, ())

    async def look(self, cluster: str, timeout: float) -> ClusterSnapshot:
        """Look at all nodes of one cluster at the same time. Raises KeyError for an unknown cluster."""
        nodes = self._clusters[cluster].values()
        return ClusterSnapshot(cluster, tuple(await asyncio.gather(*(node.look(timeout) for node in nodes))))

    async def look_at_node(self, cluster: str, node: str, timeout: float) -> NodeSnapshot:
        """Look at one node and at no other. Raises KeyError for an unknown one."""
        return await self._clusters[cluster][node].look(timeout)

    async def look_at(self, cluster: str, node: str, timeout: float) -> ClusterSnapshot:
        """
        Look at one node, and at the others only if this one cannot be diagnosed without them.

        Once the primary is found, no other is waited for that takes longer than OTHERS_LONGER: a node that hangs is no
        business of those that ask for another. Raises KeyError for an unknown node.
        """
        deadline = time.monotonic() + timeout
        observers = self._clusters[cluster]
        snapshot = await observers[node].look(timeout)
        others = [other for name, other in observers.items() if name != node]
        left = max(SHORTEST_LOOK, deadline - time.monotonic())
        if failover_slots(snapshot):
            standbys = await asyncio.gather(*(_in_short(other, left) for other in others))
            return ClusterSnapshot(cluster, (snapshot, *standbys))
        if not needs_primary(snapshot):
            return ClusterSnapshot(cluster, (snapshot,))
        looks = [asyncio.create_task(other.look(left)) for other in others]
        pending = set(looks)
        while pending:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            if any(look.result().is_primary for look in done):
                if pending:
                    _, pending = await asyncio.wait(pending, timeout=OTHERS_LONGER)
                break
        for look in pending:
            look.cancel()
        return ClusterSnapshot(cluster, (snapshot, *(look.result() for look in looks if look not in pending)))

    async def look_at_all(self, timeout: float) -> list[ClusterSnapshot]:
        return await asyncio.gather(*(self.look(cluster, timeout) for cluster in self._clusters))

    def reconfigure(self, clusters: Sequence[Cluster]) -> None:
        """Take a new configuration over; nodes that are in both keep their connections, looks in flight end first."""
        before = {observer.node: observer for nodes in self._clusters.values() for observer in nodes.values()}

        def observer_of(node: Node) -> NodeObserver:
            return before.pop(node) if node in before else NodeObserver(node, self._application_name)

        self._clusters = {
            cluster.name: {node.name: observer_of(node) for node in cluster.nodes} for cluster in clusters
        }
        for observer in before.values():
            task = self._leaving[observer] = asyncio.create_task(observer.retire())
            task.add_done_callback(lambda _, observer=observer: self._leaving.pop(observer))  # type: ignore[misc]

    async def close(self) -> None:
        observers = [observer for nodes in self._clusters.values() for observer in nodes.values()]
        await asyncio.gather(*(observer.close() for observer in (*self._leaving, *observers)))


def classify(error: Exception, *, connected: bool) -> Status:
    """Return what an error means for a probe; `connected`: the session outlived it."""
    if isinstance(error, TimeoutError | psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
        return Status.TIMEOUT
    if isinstance(error, LoginFailedError):
        return Status.LOGIN_FAILED
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return Status.PERMISSION_DENIED
    if isinstance(error, _UNDEFINED):
        return Status.UNSUPPORTED
    if isinstance(error, psycopg.OperationalError) and not connected:
        return Status.UNREACHABLE
    return Status.ERROR


async def _in_short(standby: NodeObserver, timeout: float) -> NodeSnapshot:
    """Look at a standby for its primary's sake, which waits STANDBYS_LONGER for it; the look itself may take longer."""
    look = asyncio.create_task(standby.look(timeout))
    done, _ = await asyncio.wait({look}, timeout=STANDBYS_LONGER)
    if done:
        return look.result()
    look.cancel()
    # That no standby keeps copies of a slot can only be told when all are known: one that is not has to be among them.
    return standby.blank(Status.TIMEOUT, STANDBYS_LONGER)


async def _ask(session: Session, probes: Sequence[Probe], deadline: float) -> dict[str, list[Any]]:
    queries = [(probe.sql(session.major), probe.row) for probe in probes]
    rows = await session.ask(queries, _left(deadline))
    return {probe.name: answer for probe, answer in zip(probes, rows, strict=True)}


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no time left")
    return left
