"""A node's queries in one round trip; what the server refuses to answer costs its own columns or its own query."""

import time
from collections.abc import Sequence
from typing import Any

import psycopg

from pgslot.postgres.session import Session
from pgslot.snapshot.deadlines import REFUSAL_SECONDS
from pgslot.snapshot.failures import FailureLog, classify
from pgslot.snapshot.model import QueryStatus
from pgslot.snapshot.queries import OLDEST_SUPPORTED, Query
from pgslot.snapshot.refused_functions import REPLACEABLE, Answers, ReplaceableFunction, called_functions

Rows = dict[str, list[Any]]
"""By the queries' names."""
Statuses = dict[str, QueryStatus]
"""By the queries' names, or by those of functions."""

_SUSPECT = frozenset({QueryStatus.UNSUPPORTED, QueryStatus.PERMISSION_DENIED, QueryStatus.ERROR})
"""How a query ends that calls a refused function."""


class Questions:
    """
    What one node is asked: it remembers which functions the server refuses, and leaves them out.

    A server that refuses nothing gets one round trip with the queries as they are. One that does is asked each function
    by itself once, and again after REFUSAL_SECONDS or on a new connection, as each is an error in the server's log.
    """

    def __init__(self, failures: FailureLog) -> None:
        self._failures = failures
        self._refused: dict[str, QueryStatus] = {}
        self._answering: set[str] = set()
        """Functions that have answered by themselves on this connection."""
        self._session: Session | None = None
        self._tested_at = 0.0
        """Monotonic."""

    @property
    def refused(self) -> Statuses:
        """The functions that the server refuses, and how."""
        return dict(self._refused)

    def forget(self) -> None:
        """Forget what was refused: another server answers now."""
        self._refused, self._session = {}, None

    async def ask(self, session: Session, queries: Sequence[Query], deadline: float) -> tuple[Rows, Statuses]:
        """
        Run the queries in one round trip; if one fails, each by itself, so that the others still answer.

        Raises psycopg.Error if the connection is lost, and TimeoutError.
        """
        await self._test_again(session, deadline)
        rows: Rows = {}
        statuses: Statuses = {}
        batches = [queries]
        while batches:
            batch = batches.pop(0)
            try:
                answers = await self._run(session, batch, deadline)
            except psycopg.Error as error:
                if session.closed or session.major < OLDEST_SUPPORTED:
                    raise
                if len(batch) > 1:
                    batches = [(query,) for query in batch]
                    continue
                [query] = batch
                status = classify(error, connected=True)
                if status in _SUSPECT and await self._learn(session, query, deadline):
                    batches.insert(0, batch)
                else:
                    statuses[query.name] = status
                    self._failures.failed(status, str(error), query.name)
            else:
                rows |= answers
                statuses |= dict.fromkeys(answers, QueryStatus.OK)
        return rows, statuses

    async def _run(self, session: Session, queries: Sequence[Query], deadline: float) -> Rows:
        """Run these queries in one round trip, and return the rows of each by its name."""
        refused = frozenset(self._refused)
        statements = [(query.sql(session.major, refused), query.row) for query in queries]
        answers = await session.fetch(statements, remaining(deadline))
        return {query.name: rows for query, rows in zip(queries, answers, strict=True)}

    async def _learn(self, session: Session, query: Query, deadline: float) -> bool:
        """Call each function of a failed query by itself; return whether the server refuses one, as was not known."""
        before = len(self._refused)
        for function in called_functions(query.sql(session.major, frozenset(self._refused))):
            if function.name not in self._answering:
                await self._test(session, function, deadline)
        return len(self._refused) > before

    async def _test_again(self, session: Session, deadline: float) -> None:
        """Call what was refused again, if the connection is new or the last time is REFUSAL_SECONDS ago."""
        if session is self._session and time.monotonic() - self._tested_at < REFUSAL_SECONDS:
            return
        self._session, self._tested_at = session, time.monotonic()
        self._answering.clear()
        for function in REPLACEABLE:
            if function.name in self._refused:
                await self._test(session, function, deadline)

    async def _test(self, session: Session, function: ReplaceableFunction, deadline: float) -> None:
        try:
            await session.fetch([(function.test, Answers)], remaining(deadline))
        except psycopg.Error as error:
            if session.closed:
                raise
            status = classify(error, connected=True)
            if isinstance(error, psycopg.errors.ObjectNotInPrerequisiteState):
                # Aurora answers so for a position while wal_level is not logical (mackerel-agent-plugins#804).
                status = QueryStatus.UNSUPPORTED
            if status in (QueryStatus.UNSUPPORTED, QueryStatus.PERMISSION_DENIED):
                self._refused[function.name] = status
                self._failures.refused(function.name, status, str(error))
        else:
            self._answering.add(function.name)
            self._refused.pop(function.name, None)
            self._failures.accepted(function.name)


def remaining(deadline: float) -> float:
    """Return the seconds until this monotonic time. Raises TimeoutError if there are none."""
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("no time left")
    return seconds
