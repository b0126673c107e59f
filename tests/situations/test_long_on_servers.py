"""Situations that take minutes on servers of their own: `make truth` runs them, CI does not."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from aiohttp.test_utils import TestClient, TestServer

from exporter.app import application
from pgslot.snapshot.queries import QUERIES
from tests.support.pinned_slots import INTERVALS, shown_after
from tests.support.scrapes import PRIMARY, Client, Metrics, config_reloader, probe_status, scrape
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import Process
from tests.support.servers.stack import EXPORTER_ROLE, Stack
from tests.support.servers.workload import streaming_consumer

pytestmark = [pytest.mark.truth, pytest.mark.servers, pytest.mark.timeout(900)]

MEBIBYTE = 1024 * 1024
CREATE = "SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'test_decoding')"


@asynccontextmanager
async def exporter(*servers: Postgres) -> AsyncIterator[Client]:
    reloader = config_reloader(*(server.conninfo(EXPORTER_ROLE) for server in servers))
    async with TestClient(TestServer(application(reloader))) as client:
        yield client


def with_role(server: Postgres) -> Postgres:
    server.sql(f"CREATE ROLE {EXPORTER_ROLE} LOGIN IN ROLE pg_monitor")
    return server


def write(server: Postgres, mebibytes: int) -> None:
    statement = "SELECT count(pg_catalog.pg_logical_emit_message(false, 'w', pg_catalog.repeat('x', 1000000)))"
    server.sql(f"{statement} FROM pg_catalog.generate_series(1, {mebibytes})")


def cause(metrics: Metrics, slot: str) -> str:
    return metrics.state("pgslot_retention_cause", "cause", slot_name=slot) or "none"


def safe_wal_size(server: Postgres, slot: str) -> int | None:
    """Return what the server says; None: the slot is lost."""
    of_slot = "slot_name = %s AND wal_status <> 'lost'"
    rows = server.sql(f"SELECT safe_wal_size FROM pg_catalog.pg_replication_slots WHERE {of_slot}", [slot])
    return int(rows[0][0]) if rows else None


@pytest.mark.parametrize("megabytes", [1, 64])
async def test_segments_of_another_size_blame_nobody_who_keeps_up(megabytes: int, tmp_path: Path) -> None:
    """pg_receivewal confirms a segment when it is complete; a standby and a logical consumer as they go."""
    with Stack() as stack, ExitStack() as running:
        server = with_role(stack.single(wal_segment_size=f"{megabytes}", max_wal_size="'2GB'", min_wal_size="'128MB'"))
        standby = server.standby("standby")
        running.callback(standby.stop)
        for slot in ("archive", "dead"):
            server.sql("SELECT pg_catalog.pg_create_physical_replication_slot(%s, true)", [slot])
        folder = tmp_path / "archive"
        folder.mkdir()
        program = server.binaries.tools / "pg_receivewal"
        archive = Process([program, "-D", folder, "-S", "archive", "-d", server.conninfo()], tmp_path / "archive.log")
        archive.start()
        running.callback(archive.stop)
        running.enter_context(streaming_consumer(server, "live", tmp_path))
        shown: dict[str, list[str]] = {slot: [] for slot in ("archive", "dead", "live", "standby")}
        async with exporter(server) as client:
            began = time.monotonic()
            while time.monotonic() - began < 150:
                write(server, 24)
                before = safe_wal_size(server, "dead")
                metrics = Metrics(await scrape(client))
                after = safe_wal_size(server, "dead")
                for slot, causes in shown.items():
                    causes.append(cause(metrics, slot))
                told = metrics.value("pgslot_safe_wal_size_bytes", slot_name="dead")
                if None not in (before, told, after):
                    assert after <= told <= before  # type: ignore[operator]
                await asyncio.sleep(4)
            for _ in range(30):
                server.sql("CHECKPOINT")
                if safe_wal_size(server, "dead") is None:
                    break
                write(server, 64)
            metrics = Metrics(await scrape(client))
    for slot in ("archive", "live", "standby"):
        assert set(shown[slot]) <= {"none", "unknown"}, (slot, shown[slot])
    assert set(shown["dead"]) <= {"inactive", "invalidated"}
    assert cause(metrics, "dead") == "invalidated", "1 GB is the limit, and more has been written"


async def test_two_thousand_sessions_beside_three_hundred_slots() -> None:
    with Stack() as stack, ExitStack() as sessions:
        server = with_role(stack.single(max_connections="2300", max_replication_slots="320", max_wal_senders="20"))
        server.sql("SELECT pg_catalog.pg_create_physical_replication_slot('p' || n) FROM generate_series(1, 200) AS n")
        for n in range(100):
            server.sql(CREATE, [f"l{n}"])
        async with exporter(server) as client:
            alone = await cpu_seconds(client)
            opened = [sessions.enter_context(psycopg.connect(server.conninfo())) for _ in range(2000)]
            for connection in opened[:100]:
                connection.execute("SELECT pg_catalog.pg_current_xact_id()")
            beside = await cpu_seconds(client)
            await asyncio.sleep(6)
            metrics = Metrics(await scrape(client))
            assert metrics.value("pgslot_transactions", node=PRIMARY, kind="xid") == 100
            assert metrics.value("pgslot_replication_slots", node=PRIMARY) == 300
            named = sum(len(metrics.found(name)) for name in metrics.series if "transaction" in name)
            assert named < 50, "sessions have no series of their own"
            assert beside < 2 * alone + 0.1, (alone, beside)
            statuses = {probe_status(metrics.series, PRIMARY, query.name) for query in QUERIES}
            assert statuses == {"ok"}
    print(f"a scrape takes {alone:.3f} s of CPU with 300 slots, {beside:.3f} s beside 2,000 sessions")


async def cpu_seconds(client: Client) -> float:
    """Return the median of five scrapes' CPU time in this process, the exporter's and the test's client's."""
    times = []
    for _ in range(5):
        began = time.process_time()
        await scrape(client)
        times.append(time.process_time() - began)
    return sorted(times)[2]


async def test_transaction_of_a_gigabyte_is_shown_until_it_is_decoded(tmp_path: Path) -> None:
    """Open: unknown, then transaction, with its session. Committed: decoding, or unknown. Confirmed: none."""
    with Stack() as stack:
        server = with_role(stack.single(max_slot_wal_keep_size="'20GB'", max_wal_size="'4GB'"))
        server.sql("CREATE TABLE bulk (n int, filler text)")
        with streaming_consumer(server, "cdc", tmp_path):
            async with exporter(server) as client:
                shown: list[tuple[float, str]] = []
                began = time.monotonic()

                async def until(condition: Callable[[Metrics], bool], limit: float) -> Metrics:
                    deadline = time.monotonic() + limit
                    while True:
                        metrics = Metrics(await scrape(client))
                        shown.append((round(time.monotonic() - began), cause(metrics, "cdc")))
                        if condition(metrics):
                            return metrics
                        assert time.monotonic() < deadline, shown
                        write(server, 2)
                        await asyncio.sleep(3)

                for _ in range(12):
                    await until(lambda _: True, 60)
                    write(server, 2)
                    await asyncio.sleep(3)
                with psycopg.connect(server.conninfo(), application_name="loader") as loader:
                    rows = "SELECT n, pg_catalog.repeat('x', 900) FROM generate_series(1, 1000000) AS n"
                    await asyncio.to_thread(loader.execute, f"INSERT INTO bulk {rows}".encode())
                    opened = len(shown)
                    metrics = await until(lambda now: cause(now, "cdc") == "transaction", 300)
                    names = ("pgslot_retention_blocker_age_seconds", "pgslot_retention_candidate_age_seconds")
                    applications = {labels["application_name"] for name in names for labels, _ in metrics.found(name)}
                    assert applications == {"loader"}
                    committed = len(shown)
                await until(lambda now: (now.value("pgslot_retained_wal_bytes", slot_name="cdc") or 0) < 2**27, 600)
                await until(lambda now: cause(now, "cdc") == "none", 300)
    print(shown)
    while_open = {shown_cause for _, shown_cause in shown[opened:committed]}
    assert while_open <= {"unknown", "transaction", "decoding"}, shown
    afterwards = {shown_cause for _, shown_cause in shown[committed:-1]}
    assert afterwards <= {"unknown", "transaction", "decoding", "none"}, shown


async def test_scrape_intervals_show_a_pin_when_the_page_says(tmp_path: Path) -> None:
    """Three exporters on one server, of which each is scraped at its own interval; the page's times are a model's."""
    with Stack() as stack:
        server = with_role(stack.single(max_slot_wal_keep_size="'20GB'", max_wal_size="'4GB'"))
        server.sql("CREATE TABLE written (n int)")
        found: dict[int, dict[str, float]] = {interval: {} for interval in INTERVALS}
        async with AsyncExitStack() as exporters:
            clients = {interval: await exporters.enter_async_context(exporter(server)) for interval in INTERVALS}
            exporters.enter_context(streaming_consumer(server, "cdc", tmp_path))
            next_scrape = dict.fromkeys(INTERVALS, 0.0)
            pinned_at: float | None = None
            began = time.monotonic()
            writer = exporters.enter_context(psycopg.connect(server.conninfo(), application_name="writer"))
            while time.monotonic() - began < 200 + 300:
                now = time.monotonic()
                if pinned_at is None and now - began > 200:
                    writer.execute("INSERT INTO written VALUES (1)")
                    pinned_at = time.monotonic()
                for interval, client in clients.items():
                    if now >= next_scrape[interval]:
                        next_scrape[interval] = now + interval
                        record(Metrics(await scrape(client)), pinned_at, found[interval])
                await asyncio.to_thread(write, server, 3)
                await asyncio.sleep(0.7)
    print(found)
    for interval in INTERVALS:
        for times, shown in zip(shown_after(interval), ("transaction", "named"), strict=True):
            latest = float(times.removesuffix(" s").split(" to ")[1])
            assert found[interval][shown] <= latest + 20, (interval, shown, found[interval], times)


def record(metrics: Metrics, pinned_at: float | None, found: dict[str, float]) -> None:
    if pinned_at is None:
        assert cause(metrics, "cdc") in {"none", "unknown"}
        return
    since = time.monotonic() - pinned_at
    if cause(metrics, "cdc") == "transaction":
        found.setdefault("transaction", since)
    if metrics.found("pgslot_retention_blocker_age_seconds", slot_name="cdc"):
        found.setdefault("named", since)
