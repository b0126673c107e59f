"""Snapshots of one node: one kept connection, whatever the number of callers, and a result in time whatever it does."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import psycopg

from pgslot.cli.errors import ConfigError
from pgslot.cli.logging import get_logger
from pgslot.config.model import Node
from pgslot.postgres.session import Session
from pgslot.snapshot.creation_times import CreationTimes, bound_waits
from pgslot.snapshot.deadlines import GRACE_SECONDS, MIN_COLLECT_SECONDS, RECENT_SECONDS
from pgslot.snapshot.failures import FailureLog, classify
from pgslot.snapshot.history import EMPTY_HISTORY, LoggedRecords, add_records, extend_history
from pgslot.snapshot.identity import IDENTITY, ClusterMembership, Identity
from pgslot.snapshot.model import NodeSnapshot, QueryStatus
from pgslot.snapshot.node_connection import NodeConnection
from pgslot.snapshot.privileges import grant, grant_listing
from pgslot.snapshot.queries import OLDEST_SUPPORTED, QUERIES, SERVICE_SIGNS, SLOT_USERS, WAL_QUERIES, Query, Scope
from pgslot.snapshot.questions import Questions, Rows, Statuses, remaining
from pgslot.snapshot.service_signs import ServiceSigns
from pgslot.snapshot.wal_usage import WalUsageCollector

log = get_logger(__name__)

_NOT_OF_A_SCRAPE = frozenset(query.name for query in (*WAL_QUERIES, SERVICE_SIGNS))


class NodeCollector:
    """
    One node and the one connection to it. Concurrent callers share the collection in flight.

    A caller that needs a larger scope than the collection in flight has, or has more time, waits for another round of
    it, which begins when the current one ends.
    """

    def __init__(
        self, node: Node, application_name: str, listing_interval: float | None = None, *, slot_users: bool = False
    ) -> None:
        """
        `listing_interval`: seconds between two listings of the WAL directory; None: it is never listed.

        `slot_users`: also ask who uses the slots, with each snapshot of everything.
        """
        self.node = node
        self.membership = ClusterMembership(node.cluster, node.name)
        self._in_flight: asyncio.Task[NodeSnapshot] | None = None
        self._deadline = 0.0
        """Of the collection in flight, monotonic: the latest of its callers'."""
        self._scope = Scope.CREATIONS
        """The largest scope that a caller of the collection in flight needs."""
        self._interim: NodeSnapshot | None = None
        """The last round of the collection in flight; None: the first one has not ended."""
        self._retired = False
        self._failures = FailureLog(node)
        self.connection = NodeConnection(node, application_name, self._failures)
        self._questions = Questions(self._failures)
        self._service_signs: ServiceSigns | None = None
        self._history = EMPTY_HISTORY
        self._creation_times = CreationTimes()
        self._wal = None if listing_interval is None else WalUsageCollector(listing_interval)
        self._slot_users = slot_users
        self._last_complete: tuple[float, NodeSnapshot] | None = None
        """The last snapshot of everything, and when it ended, monotonic."""

    async def collect(self, timeout: float, scope: Scope = Scope.EVERYTHING) -> NodeSnapshot:
        """
        Return what the node shows now, within `timeout` seconds; a failure is in the snapshot, never raised.

        The snapshot may hold more than the scope. Only complete snapshots are recorded in the history.
        """
        deadline = time.monotonic() + timeout
        if self._in_flight is None or self._in_flight.done():
            self._deadline, self._scope, self._interim = deadline, scope, None
            self._in_flight = asyncio.create_task(self._collect())
            self._in_flight.add_done_callback(self._landed)
        self._deadline = max(self._deadline, deadline)
        self._scope = max(self._scope, scope)
        in_flight, stale = self._in_flight, self._interim
        # A caller that joins has a deadline of its own; the collection itself goes on for the others.
        done, _ = await asyncio.wait({in_flight}, timeout=timeout + GRACE_SECONDS)
        if done and in_flight.cancelled():
            return self.empty_snapshot(QueryStatus.UNREACHABLE, timeout, scope)
        snapshot = in_flight.result() if done else self._interim
        if snapshot is None or (not done and snapshot is stale) or not scope.value <= snapshot.statuses.keys():
            return self.empty_snapshot(QueryStatus.TIMEOUT, timeout, scope)
        return snapshot

    @property
    def last(self) -> tuple[float, NodeSnapshot] | None:
        """The last snapshot of everything, also a failed one, and its age in seconds; None: the node was not asked."""
        if self._last_complete is None:
            return None
        at, snapshot = self._last_complete
        return time.monotonic() - at, snapshot

    @property
    def recent(self) -> NodeSnapshot | None:
        """The last complete snapshot; None: there was none in the last RECENT_SECONDS."""
        if self._last_complete is None or time.monotonic() - self._last_complete[0] > RECENT_SECONDS:
            return None
        return self._last_complete[1]

    def add_records(self, records: LoggedRecords) -> None:
        """Add running-xacts records that this node has certainly logged to its history."""
        self._history = add_records(self._history, records)

    async def close(self) -> None:
        """End the collection in flight, which its callers get as unreachable, and close the connection."""
        if self._in_flight is not None:
            self._in_flight.cancel()
        await self.retire()

    async def retire(self) -> None:
        """Close the connection once the collection in flight, if any, has ended by itself, and keep none after that."""
        self._retired = True
        while self._in_flight is not None:
            await asyncio.wait({self._in_flight})
        await self.connection.disconnect()

    def empty_snapshot(self, status: QueryStatus, duration: float, scope: Scope = Scope.EVERYTHING) -> NodeSnapshot:
        """Return a snapshot in which all queries of the scope ended with this status."""
        return self._snapshot(scope, {}, _same_status(scope, status), duration)

    def _landed(self, task: asyncio.Task[NodeSnapshot]) -> None:
        if self._in_flight is task:
            self._in_flight = None

    async def _collect(self) -> NodeSnapshot:
        """Take a snapshot; then another one if callers have joined since that need a larger scope or have more time."""
        while True:
            deadline, scope = self._deadline, self._scope
            self._interim = snapshot = await self._collect_once(deadline, scope)
            if QueryStatus.TIMEOUT in snapshot.statuses.values():
                finished = self._deadline - max(deadline, time.monotonic()) < MIN_COLLECT_SECONDS
            else:
                finished = self._scope is scope or self._deadline - time.monotonic() < MIN_COLLECT_SECONDS
            if finished:
                break
        if self._retired:
            # A caller from before the reload came to this node after it.
            await self.connection.disconnect()
        return snapshot

    async def _collect_once(self, deadline: float, scope: Scope) -> NodeSnapshot:
        started = time.monotonic()
        try:
            rows, statuses = await self._fetch(deadline, scope)
            self.membership.mark_answered()
            snapshot = self._snapshot(scope, rows, statuses, time.monotonic() - started)
            if self._wal is not None and scope is Scope.EVERYTHING and snapshot.up:
                # A caller whose time ends while the directory is listed has everything else.
                self._interim = replace(snapshot, wal=self._wal.usage)
                await self._list_wal(self._wal, snapshot, deadline)
                snapshot = replace(snapshot, wal=self._wal.usage, duration=time.monotonic() - started)
        except Exception as error:
            await self.connection.disconnect()
            status = classify(error, connected=False)
            if not isinstance(error, psycopg.Error | OSError | ConfigError) and self._failures.status() != f"{status}":
                log.exception("internal error while querying the node")
            self._failures.failed(status, str(error))
            snapshot = replace(
                self.empty_snapshot(status, time.monotonic() - started, scope), error=" ".join(str(error).split())
            )
        if scope is Scope.EVERYTHING:
            self._last_complete = (time.monotonic(), snapshot)
        return snapshot

    async def _fetch(self, deadline: float, scope: Scope) -> tuple[Rows, Statuses]:
        """
        Run the queries of the scope in one round trip; if one fails, each by itself, so that the others still answer.

        If the kept connection turns out to be dead, all of it is repeated on a new one.
        """
        while True:
            kept = self.connection.open
            session = await self.connection.connect(deadline)
            try:
                await self._identify(session, deadline)
                rows, answered = await self._questions.ask(session, self._supported_queries(session, scope), deadline)
            except psycopg.OperationalError:
                # Proxies and firewalls cut connections that are idle between two scrapes. The server knows nothing of
                # it, and the node is as well as before.
                if not (kept and session.closed):
                    raise
            else:
                return rows, _same_status(scope, QueryStatus.UNSUPPORTED) | answered

    async def _list_wal(self, wal: WalUsageCollector, snapshot: NodeSnapshot, deadline: float) -> None:
        """List the WAL directory if it is time to; whatever happens, the snapshot has its other answers."""
        session = self.connection.session
        if session is None or session.major < OLDEST_SUPPORTED or not wal.due(deadline):
            return

        async def ask(queries: Sequence[Query], until: float) -> tuple[Rows, Statuses]:
            try:
                return await self._questions.ask(session, queries, until)
            except (psycopg.Error, TimeoutError) as error:
                # The next scrape connects again.
                status = classify(error, connected=False)
                self._failures.failed(status, str(error), queries[0].name)
                return {}, dict.fromkeys((query.name for query in queries), status)

        statuses = await wal.refresh(ask, snapshot.slots, deadline)
        self._report_listing(statuses, snapshot.facts.role if snapshot.facts is not None else None)

    def _report_listing(self, statuses: Statuses, role: str | None) -> None:
        """Log what the role lacks, and what works again, once."""
        for name, status in statuses.items():
            if status is QueryStatus.PERMISSION_DENIED and role is not None:
                self._failures.failed(
                    status, f"what holds the WAL is not shown. As a superuser: {grant_listing(role)}", name
                )
            elif status is QueryStatus.OK:
                self._failures.works_again(name, "the probe works again")

    def _supported_queries(self, session: Session, scope: Scope) -> tuple[Query, ...]:
        """Return the queries of the scope; for a server that is too old for the others, node.sql alone."""
        if session.major >= OLDEST_SUPPORTED:
            more = (SLOT_USERS,) if self._slot_users and scope is Scope.EVERYTHING else ()
            return (*scope.queries, *more)
        self._failures.failed(QueryStatus.UNSUPPORTED, f"PostgreSQL {session.major} is older than {OLDEST_SUPPORTED}")
        return QUERIES[:1]

    async def _identify(self, session: Session, deadline: float) -> None:
        """Ask for the system identifier: once per connection; behind a pooler, which may switch servers, every time."""
        if self.membership.session is session and not session.pooled:
            return
        try:
            [[row]] = await session.fetch([(IDENTITY, Identity)], remaining(deadline))
            identifier = row.system_identifier
        except psycopg.Error:
            if session.closed:
                raise
            # It may not be read, or not now. What is unknown rules nothing out.
            identifier = None
        is_new = self.membership.session is not session
        if self.membership.server_changed(session, identifier):
            # What another server's slots did before explains nothing here.
            self._history = EMPTY_HISTORY
            self._creation_times = CreationTimes()
            self._questions.forget()
            if self._wal is not None:
                self._wal.forget()
        if is_new and session.major >= OLDEST_SUPPORTED:
            rows, _ = await self._questions.ask(session, (SERVICE_SIGNS,), deadline)
            self._service_signs = next(iter(rows.get(SERVICE_SIGNS.name, ())), None)

    def _snapshot(self, scope: Scope, rows: Rows, statuses: Statuses, duration: float) -> NodeSnapshot:
        facts = rows["node"][0] if "node" in rows else None
        if facts is not None and not facts.reads_all_stats:
            # pg_stat_activity would answer with everything that matters blanked out: no answer beats a wrong one.
            for query in QUERIES:
                if query.needs_all_stats and statuses.get(query.name) is QueryStatus.OK:
                    statuses[query.name] = QueryStatus.PERMISSION_DENIED
                    rows.pop(query.name, None)
            lacking = f"the role lacks pg_read_all_stats. As a superuser on the primary: {grant(facts.role)}"
            self._failures.failed(QueryStatus.PERMISSION_DENIED, lacking)

        if self._failures.failing and all(status is QueryStatus.OK for status in statuses.values()):
            recovered = [name for name in ("", *statuses) if self._failures.forget(name)]
            if recovered and not self._failures.failing - _NOT_OF_A_SCRAPE:
                log.info("the node answers again", cluster=self.node.cluster, node=self.node.name)

        def rows_of(name: str) -> tuple[Any, ...] | None:
            return tuple(rows[name]) if name in rows else None

        creations = rows_of("creations")
        if creations is not None:
            now = time.monotonic()
            self._creation_times, creations = bound_waits(self._creation_times, creations, now - duration, now)
        if facts is not None and scope is Scope.EVERYTHING:
            now = time.monotonic()
            self._history = extend_history(
                self._history, facts, rows_of("slots"), rows_of("transactions"), now, began=now - duration
            )
        return NodeSnapshot(
            cluster=self.node.cluster,
            node=self.node.name,
            duration=duration,
            statuses=statuses,
            facts=facts,
            slots=rows_of("slots"),
            creations=creations,
            transactions=rows_of("transactions"),
            standby=next(iter(rows.get("standby", ())), None),
            senders=rows_of("senders"),
            history=self._history,
            users=rows_of(SLOT_USERS.name),
            service_signs=self._service_signs,
            refused=self._questions.refused,
        )


def _same_status(scope: Scope, status: QueryStatus) -> Statuses:
    return dict.fromkeys((query.name for query in scope.queries), status)
