"""
Many nodes in one process: the time of a scrape of all, in comparison with the slowest node alone.

All nodes are the same server on this machine, each over its own connection. On loopback an answer takes a millisecond
or two, and all nodes compete with the exporter for the same few cores: the total is the sum of the work and cannot be
near the time of the slowest node. A second run therefore puts the nodes behind a delay: there a scrape mostly waits,
and must wait for all nodes at the same time.
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median

from psycopg.conninfo import make_conninfo

from tests.bench.client import Client
from tests.bench.measure import resource_use, seconds
from tests.bench.programs import observing, running
from tests.bench.results import Result, at_most
from tests.bench.scale import Scale
from tests.support.paths import ROOT
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import Process, free_port, wait_for
from tests.support.servers.programs import Program
from tests.support.servers.stack import EXPORTER_ROLE, Stack

ROUND_TRIP = 0.08
"""Seconds, as between two continents."""
PART = "/metrics?collect%5B%5D=creations"
PARTS = 5
"""Scrapes of that part for each scrape of everything."""
SAMPLED = 5
"""Nodes that are also scraped alone; the slowest counts."""


def run(stack: Stack, server: Postgres, scale: Scale) -> Iterator[Result]:
    for count in scale.nodes:
        yield from _measure(
            _title(count, "on loopback"), stack, server, [server.conninfo(EXPORTER_ROLE)] * count, scale
        )
    count = scale.nodes[-1]
    with _distant_port(stack, server) as port:
        conninfo = make_conninfo(server.conninfo(EXPORTER_ROLE), port=port)
        yield from _measure(_title(count, f"{ROUND_TRIP * 1e3:.0f} ms away"), stack, server, [conninfo] * count, scale)


def _title(count: int, where: str) -> str:
    return f"{count} node{'s' if count > 1 else ''} {where}"


def _measure(name: str, stack: Stack, server: Postgres, conninfos: list[str], scale: Scale) -> Iterator[Result]:
    with running(stack, "pg-slot-exporter", observing(*conninfos)) as program:
        client = Client(program.port)
        pages = [f"/probe?cluster=bench&node=n{node}" for node in range(min(SAMPLED, len(conninfos)))]
        client.scrape()
        alone: dict[str, list[float]] = {page: [] for page in pages}
        durations = []
        cpu_seconds = 0.0
        for _ in range(scale.fleet_scrapes):
            for page in pages:
                alone[page].append(seconds(partial(client.get, page)))
            before = resource_use(program.process.pid).cpu_seconds
            durations.append(seconds(client.scrape))
            cpu_seconds += resource_use(program.process.pid).cpu_seconds - before
        slowest = max(median(values) for values in alone.values())
        yield at_most(3, Result(name, median(durations) * 1e3, "ms", "slowest alone", slowest * 1e3))
        yield Result(f"{name}: exporter's CPU a node", cpu_seconds * 1e3 / scale.fleet_scrapes / len(conninfos), "ms")
        yield from _creations_alone(
            name, client, program, server, nodes=len(conninfos), count=PARTS * scale.fleet_scrapes
        )
        connection_count = connections(server)
        yield Result(
            f"{name}: connections",
            connection_count,
            "",
            "nodes",
            len(conninfos),
            "one a node",
            connection_count == len(conninfos),
        )


def _creations_alone(
    name: str, client: Client, program: Program, server: Postgres, *, nodes: int, count: int
) -> Iterator[Result]:
    """Measure the cost per node of the second job of prometheus.yml, which runs every 2 s, with nothing in creation."""
    name = f"{name}: creations alone"
    client.get(PART)
    server.sql("SELECT pg_stat_statements_reset()")
    before = resource_use(program.process.pid).cpu_seconds
    durations = [seconds(partial(client.get, PART)) for _ in range(count)]
    cpu_seconds = resource_use(program.process.pid).cpu_seconds - before
    [(time,)] = server.sql(
        "SELECT sum(s.total_exec_time + s.total_plan_time) FROM pg_stat_statements s"
        " JOIN pg_catalog.pg_roles r ON r.oid = s.userid WHERE r.rolname = %s",
        [EXPORTER_ROLE],
    )
    yield Result(name, median(durations) * 1e3, "ms")
    yield Result(f"{name}, exporter's CPU a node", cpu_seconds * 1e3 / count / nodes, "ms")
    yield Result(f"{name}, server's time a node", time / count / nodes, "ms")


def connections(server: Postgres) -> int:
    """Return how many connections the exporter has open."""
    [(count,)] = server.sql(
        "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE usename = %s AND application_name = 'pg_slot_exporter'",
        [EXPORTER_ROLE],
    )
    return int(count)


@contextmanager
def _distant_port(stack: Stack, server: Postgres) -> Iterator[int]:
    port = free_port()
    arguments = ["-m", "tests.bench.latency_relay", str(port), str(server.port), str(ROUND_TRIP)]
    root = ROOT
    relay = Process(["env", f"PYTHONPATH={root}", sys.executable, *arguments], stack.folder / "distance.log")
    relay.start()
    try:
        wait_for(lambda: _is_listening(port), "the relay listens", log=relay.log)
        yield port
    finally:
        relay.stop()


def _is_listening(port: int) -> bool:
    return f":{port:04X} 00000000:0000 0A" in Path("/proc/net/tcp").read_text("ascii")
