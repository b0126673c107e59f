"""
What is in a node's WAL directory, and what keeps it there: asked at intervals, kept, and shown with every scrape.

Listing a directory costs as much as it has files, some microseconds each, and nothing in it changes within seconds that
the positions of the slots do not show at once.
"""

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from pgslot.snapshot.deadlines import LISTING_SECONDS, LISTING_SHARE, MIN_COLLECT_SECONDS
from pgslot.snapshot.model import QueryStatus, WalUsage
from pgslot.snapshot.queries import ARCHIVE_STATUS, CHECKPOINT, WAL_DIRECTORY, WAL_FACTS, WAL_QUERIES, Query
from pgslot.snapshot.rows import Slot
from pgslot.snapshot.wal_rows import WalFacts

KEPT_INTERVALS = 5
"""A result is kept for so many intervals if the server answers too late to replace it, at least for KEPT_SECONDS."""
KEPT_SECONDS = 300.0

Answers = tuple[dict[str, list[Any]], dict[str, QueryStatus]]
"""Rows and statuses, by the queries' names."""
Ask = Callable[[Sequence[Query], float], Awaitable[Answers]]
"""Asks the node these queries, until this monotonic time; a failure is a status."""


class WalUsageCollector:
    """The WAL directory of one node, listed at most once in an interval."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        """Seconds from the end of one listing to the next."""
        self._next = 0.0
        """No listing before this monotonic time."""
        self._listed_at = 0.0
        self._usage: WalUsage | None = None

    @property
    def usage(self) -> WalUsage | None:
        """The last result. None: there is none, or it is too old."""
        if time.monotonic() - self._listed_at > max(KEPT_SECONDS, KEPT_INTERVALS * self._interval):
            return None
        return self._usage

    def due(self, deadline: float) -> bool:
        """Return whether the directory has to be listed again, and there is time for it until this monotonic time."""
        now = time.monotonic()
        return now >= self._next and deadline - now >= MIN_COLLECT_SECONDS

    def forget(self) -> None:
        """Drop the result: another server answers now."""
        self._next, self._usage = 0.0, None

    async def refresh(self, ask: Ask, slots: tuple[Slot, ...] | None, deadline: float) -> dict[str, QueryStatus]:
        """
        List the directory in two round trips, for LISTING_SECONDS at most; return how the queries ended.

        A function that the role may not call is not called: that would be an error in the server's log every time.
        """
        began = time.monotonic()
        deadline = min(deadline, began + LISTING_SECONDS)
        rows, statuses = await ask([WAL_FACTS], deadline)
        facts = rows[WAL_FACTS.name][0] if WAL_FACTS.name in rows else None
        if facts is not None:
            refused = _refused(facts)
            statuses |= refused
            queries = [query for query in WAL_QUERIES[1:] if query.name not in refused]
            if not facts.archiving:
                queries = [query for query in queries if query is not ARCHIVE_STATUS]
                statuses.pop(ARCHIVE_STATUS.name, None)
            more_rows, more_statuses = await ask(queries, deadline) if queries else ({}, {})
            rows, statuses = rows | more_rows, statuses | more_statuses
        else:
            statuses |= dict.fromkeys((query.name for query in WAL_QUERIES), statuses[WAL_FACTS.name])
        now = time.monotonic()
        self._next = now + max(self._interval, (now - began) / LISTING_SHARE)
        if QueryStatus.TIMEOUT in statuses.values() and self._usage is not None:
            self._usage = replace(self._usage, statuses=statuses)
            return statuses

        def row(query: Query) -> Any:
            return rows[query.name][0] if query.name in rows else None

        self._listed_at = now
        self._usage = WalUsage(statuses, facts, row(WAL_DIRECTORY), row(ARCHIVE_STATUS), row(CHECKPOINT), slots)
        return statuses


def _refused(facts: WalFacts) -> dict[str, QueryStatus]:
    """Return the status of each query that the role cannot run."""
    may_run = {
        WAL_DIRECTORY.name: facts.lists_wal,
        ARCHIVE_STATUS.name: facts.lists_archive_status,
        CHECKPOINT.name: facts.reads_checkpoint,
    }
    return {
        name: QueryStatus.UNSUPPORTED if may is None else QueryStatus.PERMISSION_DENIED
        for name, may in may_run.items()
        if not may
    }
