"""Connections to the model instead of pgslot.postgres.session.Session; the rest is the real program."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Self

import psycopg

from healer.remedies.force_snapshot.statements import WARM_UP, ActRow, PrimaryFacts
from pgslot.postgres.session import SessionQuery
from tests.simulations.year.servers import Servers

CONNECT_SECONDS = 0.008
ASK_SECONDS = 0.002

HEALER = "any"


class Session:
    """A connection; its conninfo is `CLUSTER.NODE`, or `CLUSTER.any` for the current primary."""

    clusters: Mapping[str, Servers]
    closed = False
    stale = False
    pooled = False
    backend_pid = 1

    def __init__(self, servers: Servers, node: str) -> None:
        self._servers = servers
        self._node = node

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
        return [self._answer(query[0], query[1]) for query in queries]

    def _answer(self, sql: str, row: type[Any]) -> list[Any]:
        servers = self._servers
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
        return []

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
