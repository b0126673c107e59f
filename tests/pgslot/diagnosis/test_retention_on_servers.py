"""What holds WAL back on busy servers of each version: the cause is right before, during and after it."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from pathlib import Path

import psycopg
import pytest
from aiohttp.test_utils import TestClient, TestServer

from exporter.app import application
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerSettings, Node
from pgslot.config.reload import ConfigReloader
from pgslot.diagnosis import retention
from pgslot.diagnosis.retention import SKIPS_EMPTY_TRANSACTIONS
from pgslot.snapshot.queries import SUPPORTED
from tests.support.scrapes import Metrics, scrape
from tests.support.servers import binaries
from tests.support.servers.conditions import changed_setting
from tests.support.servers.consumers import ChangeByChange
from tests.support.servers.postgres import Postgres
from tests.support.servers.stack import EXPORTER_ROLE, Stack
from tests.support.servers.workload import repeating, streaming_consumer

pytestmark = pytest.mark.timeout(300)

HEALTHY = {"none", "unknown", "inactive"}
SLOWEST_RECORD = 20.5
"""Seconds; see record_seconds(), with the test servers' bgwriter_delay."""
QUICK_CONSUMERS = 20.0
"""Instead of 90 s: the consumers here confirm every second."""


class Watch:
    """Scrapes all the time, and records each slot's causes."""

    def __init__(self, nodes: dict[str, Postgres]) -> None:
        configured = tuple(Node("c", name, Conninfo(server.conninfo(EXPORTER_ROLE))) for name, server in nodes.items())
        self._config = Config((Cluster("c", configured, None),), HealerSettings())
        self.seen: dict[str, list[tuple[float, str]]] = {}
        self.latest = Metrics({})
        self._new = asyncio.Event()

    @asynccontextmanager
    async def running(self, interval: float = 1.0) -> AsyncIterator["Watch"]:
        app = application(ConfigReloader(lambda: self._config, self._config))
        async with TestClient(TestServer(app)) as client:
            task = asyncio.create_task(self._run(client, interval))
            try:
                yield self
            finally:
                task.cancel()
                await asyncio.wait({task})

    async def until(self, what: str, condition: Callable[[Metrics], object], seconds: float = 90) -> Metrics:
        """Wait for a scrape that meets the condition, and return it."""
        try:
            async with asyncio.timeout(seconds):
                while not condition(self.latest):
                    self._new.clear()
                    await self._new.wait()
        except TimeoutError:
            raise AssertionError(f"not within {seconds} s: {what}; {self.seen}") from None
        return self.latest

    async def until_cause(self, cause: str, *slots: str, seconds: float = 90) -> Metrics:
        def all_have_it(metrics: Metrics) -> bool:
            return all(cause_of(metrics, slot) == cause for slot in slots)

        return await self.until(f"{cause} of {slots}", all_have_it, seconds)

    def causes(self, slot: str) -> set[str]:
        return {cause for _, cause in self.seen[slot]}

    def turns(self, slot: str) -> list[tuple[float, str]]:
        """Return the changes of the cause, with seconds since the first scrape that showed the slot."""
        seen = self.seen[slot]
        return [
            (round(at - seen[0][0], 1), cause)
            for (at, cause), (_, before) in zip(seen, [(0.0, ""), *seen], strict=False)
            if cause != before
        ]

    async def _run(self, client: TestClient, interval: float) -> None:  # type: ignore[type-arg]
        while True:
            self.latest = Metrics(await scrape(client))
            for own, _ in self.latest.found("pgslot_active"):
                slot = own["slot_name"]
                self.seen.setdefault(slot, []).append((time.monotonic(), cause_of(self.latest, slot)))
            self._new.set()
            await asyncio.sleep(interval)


def cause_of(metrics: Metrics, slot: str) -> str:
    return metrics.state("pgslot_retention_cause", "cause", slot_name=slot) or "none"


@pytest.fixture(scope="module", params=SUPPORTED)
def busy(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A primary with thousands of transactions and some MiB of WAL a second, and its standby."""
    with Stack(major=request.param) as stack:
        stack.start_databases()
        stack.primary.sql("CREATE TABLE written (line text)")
        stack.primary.sql("CREATE DATABASE elsewhere")
        with psycopg.connect(stack.primary.conninfo(dbname="elsewhere"), autocommit=True) as elsewhere:
            elsewhere.execute("CREATE TABLE written (line text)")
        with load(stack.primary):
            yield stack


@contextmanager
def load(server: Postgres, rows: int = 150) -> Iterator[None]:
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:

        def work() -> None:
            for _ in range(20):
                connection.execute("INSERT INTO written VALUES ('a short transaction')")
            connection.execute(f"INSERT INTO written SELECT repeat('x', 1000) FROM generate_series(1, {rows})".encode())

        with repeating(work, 0.1):
            yield


@pytest.fixture(autouse=True)
def _quick_consumers(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    quick = QUICK_CONSUMERS if "transactions" in request.node.name else QUICK_CONSUMERS / 2
    monkeypatch.setattr(retention, "CONFIRM_SECONDS", quick)


@contextmanager
def batch_reader(server: Postgres, slot: str, interval: float = 10.0) -> Iterator[None]:
    """A consumer that connects now and then, and confirms everything."""
    server.sql("SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'test_decoding')", [slot])

    def work() -> None:
        server.sql("SELECT count(*) FROM pg_catalog.pg_logical_slot_get_changes(%s, NULL, NULL)", [slot])

    try:
        with repeating(work, interval):
            yield
    finally:
        server.drop_slot(slot)


def is_free(metrics: Metrics, slot: str) -> bool:
    return cause_of(metrics, slot) in ("none", "inactive")


def blockers(metrics: Metrics, slot: str) -> set[tuple[str, str]]:
    return whose(metrics, "pgslot_retention_blocker_age_seconds", slot)


def candidates(metrics: Metrics, slot: str) -> set[tuple[str, str]]:
    return whose(metrics, "pgslot_retention_candidate_age_seconds", slot)


def whose(metrics: Metrics, name: str, slot: str) -> set[tuple[str, str]]:
    """Return application, or gid, and database of each transaction."""
    shown = [labels for labels, _ in metrics.found(name, slot_name=slot)]
    return {(labels["application_name"], labels["datname"]) for labels in shown}


async def test_open_transactions_on_a_busy_server_are_named(busy: Stack, tmp_path: Path) -> None:
    """The seed of this project: an open transaction of any kind pins all slots, and is named; nothing else is."""
    primary = busy.primary
    watch = Watch({"primary": primary, "standby": busy.standby})
    slots = ("first", "second", "batch")
    with ExitStack() as stack:
        for slot in slots[:2]:
            stack.enter_context(streaming_consumer(primary, slot, tmp_path))
        stack.enter_context(batch_reader(primary, slots[2]))
        async with watch.running():

            async def freed() -> None:
                await watch.until("it moves", lambda metrics: all(is_free(metrics, slot) for slot in slots))

            with psycopg.connect(primary.conninfo(), application_name="only_an_xid") as no_wal:
                no_wal.execute("SELECT pg_catalog.pg_current_xact_id()")
                await asyncio.sleep(SLOWEST_RECORD)
                # Records come, and nothing holds restart_lsn back: neither an xid alone, nor much WAL in between.
                assert {cause for slot in slots for cause in watch.causes(slot)} <= HEALTHY
                with psycopg.connect(primary.conninfo(dbname="elsewhere"), application_name="nightly") as writer:
                    writer.execute("SAVEPOINT inner_one")
                    writer.execute("INSERT INTO written VALUES ('in a subtransaction of another database')")
                    metrics = await watch.until_cause("transaction", *slots)
                    for slot in slots:
                        assert blockers(metrics, slot) <= {("nightly", "elsewhere")}
                        assert ("nightly", "elsewhere") in candidates(metrics, slot)
                    if busy.major == binaries.NEWEST:
                        # Before it is named, later records have to be logged and confirmed: so on the other versions.
                        named = {("nightly", "elsewhere")}
                        metrics = await watch.until("it is named", lambda now: blockers(now, "first") == named, 150)
                        assert candidates(metrics, "first") == named
            if busy.major in (SUPPORTED[0], SUPPORTED[-1]):
                # Nothing of it differs by version, and it takes a minute.
                await freed()
                primary.sql_in_one_transaction(
                    "INSERT INTO written VALUES ('prepared')", "PREPARE TRANSACTION 'forgotten'"
                )
                metrics = await watch.until_cause("transaction", *slots, seconds=150)
                for slot in slots:
                    assert candidates(metrics, slot) == {("forgotten", "postgres")}
                primary.sql("ROLLBACK PREPARED 'forgotten'")
            assert {cause for slot in slots for cause in watch.causes(slot)} <= HEALTHY | {"transaction"}


async def test_consumer_without_changes_is_an_idle_publication(busy: Stack) -> None:
    """Only other databases write: the consumer has received everything, and confirms nothing. Then changes come."""
    primary = busy.primary
    watch = Watch({"primary": primary})
    quiet = ChangeByChange(primary.conninfo(dbname="elsewhere"), "quiet")
    async with watch.running():
        await watch.until_cause("inactive", "quiet")
        with psycopg.connect(primary.conninfo(dbname="elsewhere"), autocommit=True) as own, quiet:
            await watch.until_cause("none", "quiet")
            own.execute("INSERT INTO written VALUES ('the first change')")
            await watch.until("it is confirmed", lambda _: quiet.confirmed)
            await watch.until_cause("idle_publication", "quiet")
            assert watch.causes("quiet") <= HEALTHY | {"idle_publication"}, watch.turns("quiet")
            quiet.confirms = False
            own.execute("INSERT INTO written VALUES ('a change that is received and not confirmed')")
            await watch.until_cause("consumer", "quiet")
            quiet.confirms = True
            own.execute("INSERT INTO written VALUES ('another one')")
            # Not "none" at once: restart_lsn may only move with what is confirmed after the next running-xacts record.
            await watch.until_cause("idle_publication", "quiet")
    primary.drop_slot("quiet")


@pytest.mark.parametrize("tells_receipt", [False, True])
async def test_unpublished_changes_are_not_blamed_on_the_consumer(busy: Stack, tells_receipt: bool) -> None:
    """Other tables of its database are written. Up to 14 pgoutput sends empty transactions, which are confirmed."""
    primary = busy.primary
    slot = f"unpublished_{int(tells_receipt)}"
    watch = Watch({"primary": primary})
    unpublished = ChangeByChange(primary.conninfo(), slot, publication="shop", tells_receipt=tells_receipt)
    async with watch.running():
        await watch.until_cause("inactive", slot)
        with unpublished:
            await watch.until_cause("none", slot)
            primary.sql("INSERT INTO orders SELECT count(*) + 1, 'the first change' FROM orders")
            await watch.until("it is confirmed", lambda _: unpublished.confirmed)
            scrapes = len(watch.seen[slot])
            if busy.major >= SKIPS_EMPTY_TRANSACTIONS:
                await watch.until_cause("unknown", slot)
                scrapes = len(watch.seen[slot])
            await watch.until("some more scrapes", lambda _: len(watch.seen[slot]) > scrapes + 10)
            assert watch.causes(slot) <= HEALTHY, watch.turns(slot)
            if busy.major >= SKIPS_EMPTY_TRANSACTIONS:
                assert {cause for _, cause in watch.seen[slot][scrapes:]} == {"unknown"}
    primary.drop_slot(slot)


@pytest.mark.parametrize("listed", ["standby", "nosuch"])
async def test_standby_that_is_waited_for_is_the_cause(busy: Stack, tmp_path: Path, listed: str) -> None:
    """synchronized_standby_slots names a standby that is down, or does not exist: the consumer is not to blame."""
    primary = busy.primary
    if busy.major < 17:
        assert primary.sql("SELECT 1 FROM pg_catalog.pg_settings WHERE name = 'synchronized_standby_slots'") == []
        return
    watch = Watch({"primary": primary})
    with streaming_consumer(primary, "fails_over", tmp_path, failover=True):
        async with watch.running():
            await watch.until_cause("none", "fails_over")
            busy.standby.stop()
            try:
                with changed_setting(primary, "synchronized_standby_slots", f"'{listed}'"):
                    metrics = await watch.until_cause("standby", "fails_over")
                    awaited = metrics.labels("pgslot_retention_standby_info", slot_name="fails_over")
                    assert awaited["standby_slot"] == listed
                    scrapes = len(watch.seen["fails_over"])
                    await watch.until("some more scrapes", lambda _: len(watch.seen["fails_over"]) > scrapes + 5)
                    assert watch.causes("fails_over") <= HEALTHY | {"standby"}, watch.turns("fails_over")
                    assert {cause for _, cause in watch.seen["fails_over"][scrapes:]} == {"standby"}
                # While the standby catches up, the consumer may be the cause.
                await watch.until_cause("none", "fails_over")
                assert watch.causes("fails_over") <= HEALTHY | {"standby", "consumer"}, watch.turns("fails_over")
            finally:
                busy.standby.start()
