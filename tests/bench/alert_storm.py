"""A storm of webhooks: how fast they are acknowledged, and how few SQL calls they cause."""

import asyncio
import time
from collections.abc import Iterator
from statistics import median, quantiles

from pgslot.config.model import HealerSettings
from tests.bench.client import Client
from tests.bench.heal import alert, body, config, waiting
from tests.bench.measure import resource_use, seconds
from tests.bench.programs import running
from tests.bench.results import Result
from tests.bench.scale import Scale
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for
from tests.support.servers.programs import Program
from tests.support.servers.stack import Stack
from tests.support.servers.wal import RUNNING_XACTS

SLOTS = 500
"""Number of slots that the large body names; one of them exists."""
LARGE_BODIES = 5
CONNECTIONS = 20
DIFFERENT = 200
"""Number of different bodies, after which the same alerts are repeated, as Alertmanager does."""
LEAD = 1.0
"""Seconds of preparation before the first request is due."""
ACKNOWLEDGED = 0.05
"""Seconds, at the 99th percentile."""


def run(stack: Stack, scale: Scale) -> Iterator[Result]:
    """
    One slot waits on the standby while a transaction is open, so that the healer has a reason to call again.

    The primary's background writer is stopped: every running-xacts record in the WAL comes from a call.
    """
    primary = stack.primary
    with (
        primary.no_records_by_itself(),
        running(stack, "pg-slot-healer", config(stack)) as healer,
        primary.hold_transaction(),
        waiting(stack, "storm", event="%"),
    ):
        start_lsn, transactions = primary.lsn(), _transactions(primary)
        started = time.monotonic()
        yield from _large_bodies(healer, scale)
        yield from _many_requests(healer, scale)
        duration = time.monotonic() - started
        transactions = _transactions(primary) - transactions
        wait_for(lambda: primary.lsn("pg_catalog.pg_current_wal_lsn()") >= primary.lsn(), "all WAL is written")
        calls = primary.kinds_since(start_lsn).count(RUNNING_XACTS)
        counted_calls = healer.value("pgslot_heal_calls_total", cluster="bench", result="ok")
        if not calls or counted_calls != calls:
            raise RuntimeError(
                f"expected as many calls in the healer's metrics as in the WAL, found {counted_calls}, {calls}"
            )
    stack.standby.drop_slot("storm")
    settings = HealerSettings()
    max_calls = settings.burst_calls + int(duration / settings.interval) + 1
    target = f"at most {max_calls} in {duration:.0f} s"
    yield Result("storm: looks at the primary", transactions / duration, "/s")
    yield Result("storm: SQL calls that came of it", calls, "", target=target, held=calls <= max_calls)


def _transactions(server: Postgres) -> int:
    """Return the server's count of transactions: each query by the healer is one. Statistics lag by a second."""
    [(count,)] = server.sql("SELECT sum(xact_commit) FROM pg_catalog.pg_stat_database")
    return int(count)


def _large_bodies(healer: Program, scale: Scale) -> Iterator[Result]:
    alerts = [alert(f"none_{number % SLOTS}", f"{number:016x}") for number in range(scale.alerts - 1)]
    large = body([alert("storm"), *alerts])
    client = Client(healer.port)
    durations = [seconds(lambda: client.post("/alerts", large)) for _ in range(LARGE_BODIES)]
    name = f"storm: {scale.alerts} alerts in a body of {len(large) / 2**20:.1f} MiB"
    yield Result(f"{name}, acknowledged", median(durations) * 1e3, "ms")
    yield Result("storm: healer's memory after it", resource_use(healer.process.pid).resident_bytes / 2**20, "MiB")


def _many_requests(healer: Program, scale: Scale) -> Iterator[Result]:
    before = resource_use(healer.process.pid).cpu_seconds
    latencies = sorted(asyncio.run(_storm(healer.port, scale)))
    cpu_share = (resource_use(healer.process.pid).cpu_seconds - before) / scale.storm_seconds
    p99 = quantiles(latencies, n=100)[98]
    name = f"storm: {scale.storm_rate} requests/s for {scale.storm_seconds:.0f} s"
    target = f"under {ACKNOWLEDGED * 1e3:.0f} ms"
    yield Result(f"{name}, acknowledged, median", median(latencies) * 1e3, "ms")
    yield Result(f"{name}, 99th percentile", p99 * 1e3, "ms", target=target, held=p99 < ACKNOWLEDGED)
    yield Result(f"{name}: healer's CPU", cpu_share * 100, "%")


async def _storm(port: int, scale: Scale) -> list[float]:
    """
    Send requests at a steady rate, however slow the answers; return the seconds from due time to answer of each.

    As from Alertmanager, each request is one group of five alerts, and the same group comes again a second later.
    """
    idle_connections: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(CONNECTIONS):
        idle_connections.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    loop = asyncio.get_running_loop()

    async def request(content: bytes, due: float) -> float:
        await asyncio.sleep(due - loop.time())
        reader, writer = await idle_connections.get()
        writer.write(
            b"POST /alerts HTTP/1.1\r\nHost: healer\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(content), content)
        )
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in head.splitlines()[0]:
            raise RuntimeError(f"expected 200, found {head!r}")
        await reader.readexactly(int(head.partition(b"content-length:")[2].split()[0]))
        latency = loop.time() - due
        idle_connections.put_nowait((reader, writer))
        return latency

    bodies = [
        body([alert("storm", f"{number % DIFFERENT:08x}{index:08x}") for index in range(5)])
        for number in range(int(scale.storm_rate * scale.storm_seconds))
    ]
    start = loop.time() + LEAD
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(request(content, start + number / scale.storm_rate))
            for number, content in enumerate(bodies)
        ]
    while not idle_connections.empty():
        idle_connections.get_nowait()[1].close()
    return [task.result() for task in tasks]
