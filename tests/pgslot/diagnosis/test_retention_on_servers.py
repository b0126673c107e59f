"""What holds WAL back on busy servers, version by version: told right while it happens, before it and after it."""

import asyncio
import threading
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
from tests.support.servers.conditions import setting
from tests.support.servers.consumers import ChangeByChange
from tests.support.servers.postgres import Postgres
from tests.support.servers.stack import EXPORTER_ROLE, Stack
from tests.support.servers.workload import consumer

pytestmark = pytest.mark.timeout(300)

HEALTHY = {"none", "unknown", "inactive"}
SLOWEST_RECORD = 20.5
"""Seconds; see record_seconds(), with the test servers' bgwriter_delay."""
QUICK_CONSUMERS = 20.0
"""In place of 90 s: the consumers here confirm each second."""


class Watch:
    """Scrapes all the time, and keeps what each slot's cause was."""

    def __init__(self, nodes: dict[str, Postgres]) -> None:
        made = tuple(Node("c", name, Conninfo(server.conninfo(EXPORTER_ROLE))) for name, server in nodes.items())
        self._config = Config((Cluster("c", made, None),), HealerSettings())
        self.seen: dict[str, list[tuple[float, str]]] = {}
        self.latest = Metrics({})
        self._new = asyncio.Event()

    @asynccontextmanager
    async def running(self, each: float = 1.0) -> AsyncIterator["Watch"]:
        app = application(ConfigReloader(lambda: self._config, self._config))
        async with TestClient(TestServer(app)) as client:
            task = asyncio.create_task(self._run(client, each))
            try:
                yield self
            finally:
                task.cancel()
                await asyncio.wait({task})

    async def until(self, what: str, condition: Callable[[Metrics], object], seconds: float = 90) -> Metrics:
        """Wait for a scrape that shows it; return that scrape."""
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
        """Return when, in seconds, it was told for the first time, and then when it was told otherwise."""
        seen = self.seen[slot]
        return [
            (round(at - seen[0][0], 1), cause)
            for (at, cause), (_, before) in zip(seen, [(0.0, ""), *seen], strict=False)
            if cause != before
        ]

    async def _run(self, client: TestClient, each: float) -> None:  # type: ignore[type-arg]
        while True:
            self.latest = Metrics(await scrape(client))
            for own, _ in self.latest.found("pgslot_active"):
                slot = own["slot_name"]
                self.seen.setdefault(slot, []).append((time.monotonic(), cause_of(self.latest, slot)))
            self._new.set()
            await asyncio.sleep(each)


def cause_of(metrics: Metrics, slot: str) -> str:
    return metrics.state("pgslot_retention_cause", "cause", slot_name=slot) or "none"


@pytest.fixture(scope="module", params=SUPPORTED)
def busy(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A primary on which thousands of transactions go on, some MiB of WAL a second, and its standby."""
    with Stack(major=request.param) as stack:
        stack.start_databases()
        stack.primary.sql("CREATE TABLE written (line text)")
        stack.primary.sql("CREATE DATABASE elsewhere")
        with psycopg.connect(stack.primary.conninfo(dbname="elsewhere"), autocommit=True) as other:
            other.execute("CREATE TABLE written (line text)")
        with load(stack.primary):
            yield stack


@contextmanager
def load(server: Postgres, rows: int = 150) -> Iterator[None]:
    stop = threading.Event()

    def work() -> None:
        with psycopg.connect(server.conninfo(), autocommit=True) as connection:
            while not stop.wait(0.1):
                for _ in range(20):
                    connection.execute("INSERT INTO written VALUES ('a short transaction')")
                connection.execute(
                    f"INSERT INTO written SELECT repeat('x', 1000) FROM generate_series(1, {rows})".encode()
                )

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@pytest.fixture(autouse=True)
def _quick_consumers(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    quick = QUICK_CONSUMERS if "transactions" in request.node.name else QUICK_CONSUMERS / 2
    monkeypatch.setattr(retention, "CONFIRM_SECONDS", quick)


@contextmanager
def batch_reader(server: Postgres, slot: str, each: float = 10.0) -> Iterator[None]:
    """A consumer that comes now and then, and confirms all there is."""
    stop = threading.Event()
    server.sql("SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'test_decoding')", [slot])

    def work() -> None:
        while not stop.wait(each):
            server.sql("SELECT count(*) FROM pg_catalog.pg_logical_slot_get_changes(%s, NULL, NULL)", [slot])

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        server.drop_slot(slot)


def is_free(metrics: Metrics, slot: str) -> bool:
    return cause_of(metrics, slot) in ("none", "inactive")


async def test_transactions_on_a_busy_server(busy: Stack, tmp_path: Path) -> None:
    """The seed of this project: an open transaction in whatever shape pins all slots, and is named; nothing else is."""
    primary = busy.primary
    watch = Watch({"primary": primary, "standby": busy.standby})
    slots = ("first", "second", "batch")
    with ExitStack() as stack:
        for slot in slots[:2]:
            stack.enter_context(consumer(primary, slot, tmp_path))
        stack.enter_context(batch_reader(primary, slots[2]))
        async with watch.running():

            async def freed() -> None:
                await watch.until("it moves", lambda metrics: all(is_free(metrics, slot) for slot in slots))

            with psycopg.connect(primary.conninfo(), application_name="only_an_xid") as no_wal:
                no_wal.execute("SELECT pg_catalog.pg_current_xact_id()")
                await asyncio.sleep(SLOWEST_RECORD)
                # Records come, and nothing holds restart_lsn: whoever has an xid, and however much lies in between.
                assert {cause for slot in slots for cause in watch.causes(slot)} <= HEALTHY
                with psycopg.connect(primary.conninfo(dbname="elsewhere"), application_name="nightly") as writer:
                    writer.execute("SAVEPOINT inner_one")
                    writer.execute("INSERT INTO written VALUES ('in a subtransaction of another database')")
                    metrics = await watch.until_cause("transaction", *slots)
                    for slot in slots:
                        blocker = metrics.labels("pgslot_retention_blocker_age_seconds", slot_name=slot)
                        assert (blocker["application_name"], blocker["datname"]) == ("nightly", "elsewhere")
            await freed()
            primary.sql_in_one_transaction("INSERT INTO written VALUES ('prepared')", "PREPARE TRANSACTION 'forgotten'")
            metrics = await watch.until_cause("transaction", *slots)
            for slot in slots:
                blocker = metrics.labels("pgslot_retention_blocker_age_seconds", slot_name=slot)
                assert (blocker["backend_type"], blocker["application_name"]) == ("prepared", "forgotten")
            primary.sql("ROLLBACK PREPARED 'forgotten'")
            assert {cause for slot in slots for cause in watch.causes(slot)} <= HEALTHY | {"transaction"}


async def test_a_publication_that_nothing_concerns(busy: Stack) -> None:
    """Its consumer has all there is, and confirms nothing, as only other databases write. Then there is something."""
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
async def test_changes_that_are_not_published(busy: Stack, tells_receipt: bool) -> None:
    """Other tables of its own database are written. Up to 14 pgoutput sends what is left: then there is no trouble."""
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
            looks = len(watch.seen[slot])
            if busy.major >= SKIPS_EMPTY_TRANSACTIONS:
                await watch.until_cause("unknown", slot)
                looks = len(watch.seen[slot])
            await watch.until("some more looks", lambda _: len(watch.seen[slot]) > looks + 10)
            assert watch.causes(slot) <= HEALTHY, watch.turns(slot)
            if busy.major >= SKIPS_EMPTY_TRANSACTIONS:
                assert {cause for _, cause in watch.seen[slot][looks:]} == {"unknown"}
    primary.drop_slot(slot)


@pytest.mark.parametrize("listed", ["standby", "nosuch"])
async def test_a_standby_that_is_waited_for(busy: Stack, tmp_path: Path, listed: str) -> None:
    """synchronized_standby_slots names one that is down, or that does not exist: the consumer is innocent."""
    primary = busy.primary
    if busy.major < 17:
        assert primary.sql("SELECT 1 FROM pg_catalog.pg_settings WHERE name = 'synchronized_standby_slots'") == []
        return
    watch = Watch({"primary": primary})
    with consumer(primary, "fails_over", tmp_path, failover=True):
        async with watch.running():
            await watch.until_cause("none", "fails_over")
            busy.standby.stop()
            try:
                with setting(primary, "synchronized_standby_slots", f"'{listed}'"):
                    metrics = await watch.until_cause("standby", "fails_over")
                    awaited = metrics.labels("pgslot_retention_standby_info", slot_name="fails_over")
                    assert awaited["standby_slot"] == listed
                    looks = len(watch.seen["fails_over"])
                    await watch.until("some more looks", lambda _: len(watch.seen["fails_over"]) > looks + 5)
                    assert watch.causes("fails_over") <= HEALTHY | {"standby"}, watch.turns("fails_over")
                    assert {cause for _, cause in watch.seen["fails_over"][looks:]} == {"standby"}
                # While it catches up, it is the consumer indeed that is waited for.
                await watch.until_cause("none", "fails_over")
                assert watch.causes("fails_over") <= HEALTHY | {"standby", "consumer"}, watch.turns("fails_over")
            finally:
                busy.standby.start()
