"""Looks at a node: one kept connection, however many ask, and an answer in time whatever the server does."""

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import psycopg

from pgslot.cli.errors import ConfigError
from pgslot.cli.logging import get_logger
from pgslot.config.model import Node
from pgslot.postgres.connect import LoginFailedError
from pgslot.postgres.session import Session
from pgslot.snapshot.history import EMPTY_HISTORY, extend_history
from pgslot.snapshot.identity import IDENTITY, RECENT_SECONDS, ClusterMembership, Identity
from pgslot.snapshot.model import NodeSnapshot, QueryStatus
from pgslot.snapshot.queries import OLDEST_SUPPORTED, QUERIES, Query

GRACE = 0.1
"""Seconds that a look may take beyond its time, to end in order and say how it failed."""

MIN_COLLECT_SECONDS = 0.5
"""Seconds; less would only ever time out."""

log = get_logger(__name__)

_Answered = tuple[dict[str, list[Any]], dict[str, QueryStatus]]

_UNDEFINED = psycopg.errors.UndefinedFunction | psycopg.errors.UndefinedColumn | psycopg.errors.UndefinedTable


class NodeCollector:
    """
    One node and the one connection to it. Concurrent looks share the one in flight.

    Whoever joins a look that asks for less than he wants waits for another one, which begins when that one ends.
    """

    def __init__(self, node: Node, application_name: str) -> None:
        self.node = node
        self._application_name = application_name
        self._session: Session | None = None
        self._flight: asyncio.Task[NodeSnapshot] | None = None
        self._deadline = 0.0
        """Of the look in flight, monotonic: that of whoever joined it with the most time."""
        self._asked: Sequence[Query] = ()
        """The most that any of those who wait for the look in flight wants: of PROBES' parts each holds the next."""
        self._answer: NodeSnapshot | None = None
        """To less than that, from the same flight."""
        self._retired = False
        self._reported: dict[str, str] = {}
        self._history = EMPTY_HISTORY
        self._last: tuple[float, NodeSnapshot] | None = None
        """The last whole look, and when it ended, monotonic."""
        self.membership = ClusterMembership(node.cluster, node.name)

    async def collect(self, timeout: float, probes: Sequence[Query] = QUERIES) -> NodeSnapshot:
        """
        Return what the node looks like now, within `timeout` seconds; a failure is in the snapshot, never raised.

        `probes` are PROBES or one of its parts, CREATIONS and EXPLANATION; the answer may hold more than that. Only
        whole looks are remembered in the history.
        """
        deadline = time.monotonic() + timeout
        if self._flight is None or self._flight.done():
            self._deadline, self._asked, self._answer = deadline, probes, None
            self._flight = asyncio.create_task(self._fly())
            self._flight.add_done_callback(self._landed)
        self._deadline = max(self._deadline, deadline)
        self._asked = max(self._asked, probes, key=len)
        flight, seen_before = self._flight, self._answer
        # Whoever joins a look in flight has a deadline of his own; the flight itself goes on for the others.
        done, _ = await asyncio.wait({flight}, timeout=timeout + GRACE)
        if done and flight.cancelled():
            return self.empty_snapshot(QueryStatus.UNREACHABLE, timeout, probes)
        answer = flight.result() if done else self._answer
        if answer is None or (not done and answer is seen_before) or len(answer.statuses) < len(probes):
            return self.empty_snapshot(QueryStatus.TIMEOUT, timeout, probes)
        return answer

    @property
    def recent(self) -> NodeSnapshot | None:
        """What the last whole look showed; None if that is longer ago than LATELY."""
        if self._last is None or time.monotonic() - self._last[0] > RECENT_SECONDS:
            return None
        return self._last[1]

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

    def _landed(self, flight: asyncio.Task[NodeSnapshot]) -> None:
        if self._flight is flight:
            self._flight = None

    async def _fly(self) -> NodeSnapshot:
        """Look; and once more for whoever has joined meanwhile and asks for more, or has more time than there was."""
        while True:
            deadline, probes = self._deadline, self._asked
            self._answer = snapshot = await self._look(deadline, probes)
            if QueryStatus.TIMEOUT in snapshot.statuses.values():
                enough = self._deadline - max(deadline, time.monotonic()) < MIN_COLLECT_SECONDS
            else:
                enough = len(self._asked) == len(probes) or self._deadline - time.monotonic() < MIN_COLLECT_SECONDS
            if enough:
                break
        if self._retired:
            # By whoever had begun before the reload, and came to this node after it.
            await self._drop()
        return snapshot

    async def _look(self, deadline: float, probes: Sequence[Query]) -> NodeSnapshot:
        started = time.monotonic()
        try:
            answers, statuses = await self._ask_twice(deadline, probes)
            self.membership.mark_answered()
            snapshot = self._snapshot(answers, statuses, time.monotonic() - started)
        except Exception as error:
            await self._drop()
            status = classify(error, connected=False)
            if not isinstance(error, psycopg.Error | OSError | ConfigError) and self._reported.get("") != f"{status}":
                log.exception("a defect in looking at the node")
            self._report(status, str(error))
            snapshot = self.empty_snapshot(status, time.monotonic() - started, probes)
        if len(probes) == len(QUERIES):
            self._last = (time.monotonic(), snapshot)
        return snapshot

    async def _ask_twice(self, deadline: float, probes: Sequence[Query]) -> _Answered:
        """Ask on the kept connection; if that turns out to be dead, on a new one."""
        kept = self._session
        if kept is not None and not kept.closed:
            try:
                return await self._ask_session(kept, deadline, probes)
            except psycopg.OperationalError:
                # Proxies and firewalls cut connections that are idle from one scrape to the next. The server knows
                # nothing of it, and the node is as well as before.
                if not kept.closed:
                    raise
        await self._drop()
        self._session = await Session.connect(
            self.node.conninfo.read(), application_name=self._application_name, timeout=_left(deadline)
        )
        log.debug("connected", cluster=self.node.cluster, node=self.node.name)
        return await self._ask_session(self._session, deadline, probes)

    async def _ask_session(self, session: Session, deadline: float, probes: Sequence[Query]) -> _Answered:
        if self.membership.session is not session or session.pooled:
            await self._identify(session, deadline)
        if session.major >= OLDEST_SUPPORTED:
            return await self._ask_all(session, deadline, probes)
        self._report(QueryStatus.UNSUPPORTED, f"PostgreSQL {session.major} is older than {OLDEST_SUPPORTED}")
        statuses = dict.fromkeys((probe.name for probe in probes), QueryStatus.UNSUPPORTED)
        return await _ask(session, QUERIES[:1], deadline), statuses | {"node": QueryStatus.OK}

    async def _identify(self, session: Session, deadline: float) -> None:
        """Find out whose server it is: once for a connection, which leads to another later only by way of a pooler."""
        try:
            [[found]] = await session.fetch([(IDENTITY, Identity)], _left(deadline))
            identifier = found.system_identifier
        except psycopg.Error:
            if session.closed:
                raise
            # It may not be read, or not now: what is not known rules nothing out.
            identifier = None
        if self.membership.server_changed(session, identifier):
            # What another server's slots did before explains nothing here.
            self._history = EMPTY_HISTORY

    async def _ask_all(self, session: Session, deadline: float, probes: Sequence[Query]) -> _Answered:
        """All probes in one round trip; if one of them fails, each by itself, so that the others still answer."""
        try:
            answers = await _ask(session, probes, deadline)
        except psycopg.Error:
            if session.closed:
                raise
        else:
            return answers, dict.fromkeys((probe.name for probe in probes), QueryStatus.OK)
        answers = {}
        statuses = {}
        for probe in probes:
            try:
                answers |= await _ask(session, (probe,), deadline)
                statuses[probe.name] = QueryStatus.OK
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

    def empty_snapshot(self, status: QueryStatus, duration: float, probes: Sequence[Query] = QUERIES) -> NodeSnapshot:
        """Return a look that showed nothing."""
        return self._snapshot({}, dict.fromkeys((probe.name for probe in probes), status), duration)

    def _snapshot(
        self, answers: dict[str, list[Any]], statuses: dict[str, QueryStatus], duration: float
    ) -> NodeSnapshot:
        facts = answers["node"][0] if "node" in answers else None
        if facts is not None and not facts.reads_all_stats:
            # pg_stat_activity would answer, with everything that matters blanked out: no answer beats a wrong one.
            for probe in QUERIES:
                if probe.needs_all_stats and statuses.get(probe.name) is QueryStatus.OK:
                    statuses[probe.name] = QueryStatus.PERMISSION_DENIED
                    answers.pop(probe.name, None)
            self._report(
                QueryStatus.PERMISSION_DENIED, "the role is not a member of pg_monitor: GRANT pg_monitor TO it"
            )

        if self._reported and all(status is QueryStatus.OK for status in statuses.values()):
            for name in ("", *statuses):
                self._reported.pop(name, None)
            if not self._reported:
                text = "looking at the node works again"
                log.info(text, cluster=self.node.cluster, node=self.node.name)

        def rows(name: str) -> tuple[Any, ...] | None:
            return tuple(answers[name]) if name in answers else None

        if facts is not None and len(statuses) == len(QUERIES):
            self._history = extend_history(self._history, facts, rows("slots"), rows("transactions"), time.monotonic())
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
            senders=rows("senders"),
            history=self._history,
        )

    def _report(self, status: QueryStatus, message: str, probe: str = "") -> None:
        """Log a failure once per change, not once per scrape."""
        if self._reported.get(probe) != f"{status}":
            self._reported[probe] = f"{status}"
            log.warning(
                "cannot look at the node",
                cluster=self.node.cluster,
                node=self.node.name,
                probe=probe or None,
                status=f"{status}",
                error=" ".join(message.split()),
            )


def classify(error: Exception, *, connected: bool) -> QueryStatus:
    """Return what an error means for a probe; `connected`: the session outlived it."""
    if isinstance(error, TimeoutError | psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable):
        return QueryStatus.TIMEOUT
    if isinstance(error, LoginFailedError):
        return QueryStatus.LOGIN_FAILED
    if isinstance(error, psycopg.errors.InsufficientPrivilege):
        return QueryStatus.PERMISSION_DENIED
    if isinstance(error, _UNDEFINED):
        return QueryStatus.UNSUPPORTED
    if isinstance(error, psycopg.OperationalError) and not connected:
        return QueryStatus.UNREACHABLE
    return QueryStatus.ERROR


async def _ask(session: Session, probes: Sequence[Query], deadline: float) -> dict[str, list[Any]]:
    queries = [(probe.sql(session.major), probe.row) for probe in probes]
    rows = await session.fetch(queries, _left(deadline))
    return {probe.name: answer for probe, answer in zip(probes, rows, strict=True)}


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("no time left")
    return left
