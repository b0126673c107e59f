"""Connections to the model instead of pgslot.postgres.session.Session; the rest is the real program."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Self

import psycopg

from healer.remedies.force_snapshot.statements import WARM_UP, ActRow, PrimaryFacts
from healer.remedies.terminate.statements import TerminationRow
from pgslot.postgres.pipeline import Statement
from pgslot.postgres.session import SessionQuery
from tests.simulations.terminations.cluster import BlockedCluster
from tests.simulations.year.servers import Servers

CONNECT_SECONDS = 0.008
ASK_SECONDS = 0.002

ACTS = "true"
"""The only parameter of this value: it acts, and does not only check."""
UNANSWERED_ACTS, UNANSWERED_CHECKS = 0.05, 0.002
"""The shares of statements that are run, and whose answer is lost with the connection."""
LOCKED_SHARE = 0.1
"""The share of acts that wait for the lock of a table."""

HEALER = "any"


class Session:
    """A connection; its conninfo is `CLUSTER.NODE`, or `CLUSTER.any` for the current primary."""

    clusters: Mapping[str, Servers]
    closed = False
    stale = False
    pooled = False
    backend_pid = 1
    renew_at: float | None = None

    def __init__(self, servers: Servers, node: str) -> None:
        self._servers = servers
        self._node = node
        self._in_flight: asyncio.Future[TerminationRow] | None = None

    @classmethod
    async def connect(cls, conninfo: str, *, application_name: str, timeout: float) -> Self:
        """Connect. Raises psycopg.OperationalError if the server is down."""
        assert timeout > 0
        cluster, _, node = conninfo.partition(".")
        servers = cls.clusters[cluster]
        node = servers.primary if node == HEALER else node
        await asyncio.sleep(CONNECT_SECONDS)
        if node in servers.down:
            raise psycopg.OperationalError(f"connection to {node} as {application_name} failed: refused")
        return cls(servers, node)

    @property
    def major(self) -> int:
        return self._servers.major

    async def detect_pooler(self, timeout: float) -> bool:
        assert timeout > 0
        return False

    async def fetch(self, queries: Sequence[SessionQuery], timeout: float, *, bare: bool = False) -> list[list[Any]]:
        """Return the rows that the servers have at this moment."""
        assert timeout > 0
        assert not bare, "only a pooler is asked so"
        await asyncio.sleep(ASK_SECONDS)
        if self._node in self._servers.down:
            self.closed = True
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        self._servers.settle()
        return [
            await self._terminate(query)
            if isinstance(query, Statement) and query.row is TerminationRow
            else self._answer(query)
            for query in queries
        ]

    def _answer(self, query: SessionQuery) -> list[Any]:
        servers, sql, row = self._servers, query[0], query[1]
        if row is PrimaryFacts:
            has_function = servers.major >= 16
            recovery = self._node != servers.primary
            may_execute = has_function and servers.may_execute
            return [
                PrimaryFacts(
                    recovery, servers.major * 10000, "healer", "postgres", "logical", has_function, may_execute
                )
            ]
        if row is ActRow:
            return [self._act(rehearsed=sql == WARM_UP)]
        if row.__module__.startswith("pgslot."):
            return servers.rows(self._node, row)
        if isinstance(servers, BlockedCluster):
            return servers.answer(self._node, row, query.parameters if isinstance(query, Statement) else ()) or []
        return []

    async def cancel(self, timeout: float) -> None:
        """Cancel the act that waits on the server, if there is one."""
        assert timeout > 0
        await asyncio.sleep(ASK_SECONDS)
        if self._in_flight is not None and not self._in_flight.done():
            self._in_flight.set_exception(psycopg.errors.QueryCanceled("canceling statement due to user request"))

    @property
    def _blocked(self) -> BlockedCluster:
        assert isinstance(self._servers, BlockedCluster), "the remedy is off for all others"
        return self._servers

    async def _terminate(self, statement: Statement) -> list[TerminationRow]:
        """Run the act on the server, which does not notice that its client is gone: it waits for a lock at times."""
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[TerminationRow] = loop.create_future()
        self._in_flight = answer

        def run() -> None:
            if answer.done() and not answer.cancelled():
                # The server was asked to cancel it.
                return
            reachable = self._node not in servers.down and self._node == servers.primary
            row = servers.run_act(statement.sql, tuple(statement.parameters)) if reachable else None
            if answer.cancelled():
                # Nobody waits for it any more, which the server does not notice.
                return
            if row is None or servers.chance.random() < (UNANSWERED_ACTS if acts else UNANSWERED_CHECKS):
                self.closed = True
                answer.set_exception(psycopg.OperationalError("server closed the connection unexpectedly"))
            else:
                answer.set_result(row)

        servers = self._blocked
        acts = ACTS in statement.parameters
        waits_for_lock = acts and (servers.act_waits is not None or servers.chance.random() < LOCKED_SHARE)
        if waits_for_lock and servers.act_waits is not None:
            servers.act_waits()
        loop.call_later(servers.chance.uniform(0.5, 2.0) if waits_for_lock else ASK_SECONDS, run)
        return [await answer]

    def _act(self, *, rehearsed: bool) -> ActRow:
        if rehearsed:
            return ActRow("rehearsed", None, None, None, None)
        if self._node != self._servers.primary:
            return ActRow("recovery", None, None, None, None)
        before, end = self._servers.call()
        return ActRow("open", _lsn(before), _lsn(end), None, None)

    async def close(self) -> None:
        self.closed = True


def _lsn(position: int) -> str:
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"
