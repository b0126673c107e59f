"""When the WAL directory is listed, what is kept of the last listing, and for how long."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pgslot.snapshot import wal_usage
from pgslot.snapshot.deadlines import LISTING_SECONDS, LISTING_SHARE
from pgslot.snapshot.model import QueryStatus
from pgslot.snapshot.queries import ARCHIVE_STATUS, CHECKPOINT, WAL_DIRECTORY, WAL_FACTS, Query
from pgslot.snapshot.wal_rows import ArchiveStatus, Checkpoint, WalDirectory
from pgslot.snapshot.wal_usage import Answers, WalUsageCollector
from tests.support.builders.snapshots import SLOT
from tests.support.builders.wal_usage import ARCHIVING as FACTS

DIRECTORY = WalDirectory(16, [1], [1], 1)
ROWS = {"wal_directory": DIRECTORY, "archive_status": ArchiveStatus(0, None), "checkpoint": Checkpoint(1, 2.0)}
OK, DENIED, TIMEOUT = QueryStatus.OK, QueryStatus.PERMISSION_DENIED, QueryStatus.TIMEOUT


class Clock:
    """A monotonic clock that the test moves."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Server:
    """Answers the queries, each with its row or a status, and notes what it was asked."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.facts = FACTS
        self.failing: dict[str, QueryStatus] = {}
        self.takes = 0.0
        self.asked: list[list[str]] = []
        self.deadlines: list[float] = []

    async def ask(self, queries: Sequence[Query], deadline: float) -> Answers:
        self.asked.append([query.name for query in queries])
        self.deadlines.append(deadline)
        self.clock.now += self.takes
        rows = {"wal_facts": self.facts} | ROWS
        answered: dict[str, list[Any]] = {q.name: [rows[q.name]] for q in queries if q.name not in self.failing}
        return answered, {query.name: self.failing.get(query.name, OK) for query in queries}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    result = Clock()
    monkeypatch.setattr(wal_usage, "time", result)
    return result


@pytest.fixture
def server(clock: Clock) -> Server:
    return Server(clock)


@pytest.fixture
def collector() -> WalUsageCollector:
    return WalUsageCollector(60.0)


async def refresh(collector: WalUsageCollector, server: Server) -> dict[str, QueryStatus]:
    return await collector.refresh(server.ask, (SLOT,), server.clock.now + 9.5)


async def test_everything_takes_two_round_trips(collector: WalUsageCollector, server: Server) -> None:
    statuses = await refresh(collector, server)
    assert server.asked == [["wal_facts"], ["wal_directory", "archive_status", "checkpoint"]]
    assert statuses == dict.fromkeys((WAL_FACTS.name, WAL_DIRECTORY.name, ARCHIVE_STATUS.name, CHECKPOINT.name), OK)
    usage = collector.usage
    assert usage is not None
    assert (usage.facts, usage.directory, usage.slots) == (FACTS, DIRECTORY, (SLOT,))
    assert (usage.archive_status, usage.checkpoint) == (ArchiveStatus(0, None), Checkpoint(1, 2.0))


async def test_the_next_listing_is_due_after_the_interval(
    collector: WalUsageCollector, server: Server, clock: Clock
) -> None:
    assert collector.due(clock.now + 10)
    await refresh(collector, server)
    assert not collector.due(clock.now + 10)
    clock.now += 59.9
    assert not collector.due(clock.now + 10)
    clock.now += 0.1
    assert collector.due(clock.now + 10)


def test_none_is_due_without_the_time_for_it(collector: WalUsageCollector, clock: Clock) -> None:
    assert not collector.due(clock.now + 0.4)


async def test_a_listing_takes_no_longer_than_its_share_of_a_scrape(
    collector: WalUsageCollector, server: Server, clock: Clock
) -> None:
    began = clock.now
    await collector.refresh(server.ask, None, began + 60)
    await collector.refresh(server.ask, None, began + 1)
    assert server.deadlines == [began + LISTING_SECONDS] * 2 + [began + 1] * 2


async def test_a_slow_listing_is_repeated_later(collector: WalUsageCollector, server: Server, clock: Clock) -> None:
    server.takes = 3.0
    await refresh(collector, server)
    clock.now += 6.0 / LISTING_SHARE - 0.1
    assert not collector.due(clock.now + 10)
    clock.now += 0.2
    assert collector.due(clock.now + 10)


@pytest.mark.parametrize(
    ("changes", "asked", "denied"),
    [
        ({"lists_wal": False}, ["archive_status", "checkpoint"], {"wal_directory": DENIED}),
        ({"lists_archive_status": False}, ["wal_directory", "checkpoint"], {"archive_status": DENIED}),
        ({"reads_checkpoint": False}, ["wal_directory", "archive_status"], {"checkpoint": DENIED}),
        ({"lists_wal": None}, ["archive_status", "checkpoint"], {"wal_directory": QueryStatus.UNSUPPORTED}),
        ({"archiving": False}, ["wal_directory", "checkpoint"], {}),
        ({"archiving": False, "lists_archive_status": False}, ["wal_directory", "checkpoint"], {}),
    ],
)
async def test_what_the_role_may_not_do_is_not_tried(
    collector: WalUsageCollector,
    server: Server,
    changes: dict[str, Any],
    asked: list[str],
    denied: dict[str, QueryStatus],
) -> None:
    """Each refused call would be an error in the server's log, every minute."""
    server.facts = replace(FACTS, **changes)
    statuses = await refresh(collector, server)
    assert server.asked[1:] == [asked]
    assert statuses == {"wal_facts": OK} | dict.fromkeys(asked, OK) | denied
    assert collector.usage is not None
    assert (collector.usage.directory is None) == ("wal_directory" not in asked)


async def test_nothing_is_tried_without_any_privilege(collector: WalUsageCollector, server: Server) -> None:
    server.facts = replace(FACTS, lists_wal=False, lists_archive_status=False, reads_checkpoint=False)
    await refresh(collector, server)
    assert server.asked == [["wal_facts"]]
    assert collector.usage is not None
    assert collector.usage.facts == server.facts


async def test_failed_facts_are_the_status_of_all(collector: WalUsageCollector, server: Server) -> None:
    server.failing = {"wal_facts": QueryStatus.UNREACHABLE}
    statuses = await refresh(collector, server)
    assert server.asked == [["wal_facts"]]
    assert set(statuses) == {"wal_facts", "wal_directory", "archive_status", "checkpoint"}
    assert set(statuses.values()) == {QueryStatus.UNREACHABLE}
    assert collector.usage is not None
    assert (collector.usage.facts, collector.usage.directory) == (None, None)


async def test_a_listing_that_is_too_late_keeps_the_last_one_for_a_while(
    collector: WalUsageCollector, server: Server, clock: Clock
) -> None:
    await refresh(collector, server)
    listed_at = clock.now
    server.failing = {"wal_directory": TIMEOUT}
    clock.now += 60
    await refresh(collector, server)
    assert collector.usage is not None
    assert collector.usage.directory == DIRECTORY
    assert collector.usage.statuses["wal_directory"] is TIMEOUT
    clock.now = listed_at + 5 * 60 + 1
    assert collector.usage is None


async def test_a_revoked_privilege_removes_the_last_result(collector: WalUsageCollector, server: Server) -> None:
    await refresh(collector, server)
    server.facts = replace(FACTS, lists_wal=False)
    await refresh(collector, server)
    assert collector.usage is not None
    assert collector.usage.directory is None


async def test_another_server_begins_without_a_result(
    collector: WalUsageCollector, server: Server, clock: Clock
) -> None:
    await refresh(collector, server)
    collector.forget()
    assert collector.usage is None
    assert collector.due(clock.now + 10)
