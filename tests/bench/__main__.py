"""`make bench`: measures speed in comparison with the floor and the peer; prints a table and writes JSON lines."""

import argparse
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from tests.bench import alert_storm, end_to_end, endurance, fleet, heal, postgres_exporter, scrape, servers
from tests.bench.programs import observing, running
from tests.bench.results import Result, table, write_json
from tests.bench.scale import FULL, QUICK, Scale
from tests.support.servers.stack import EXPORTER_ROLE, Stack

NOTES = """\
All nodes are one server of this machine. On loopback they share its cores with the exporter, and the whole is the sum
of all work; at a distance each waits, and all wait at once. The floor of a scrape is the same queries in pgbench,
prepared and pipelined; the peer is postgres_exporter with queries of the same content. Times are medians, measured in
turn: on a busy machine the ratios still hold, the milliseconds do not.
"""


def main() -> int:
    """Measure everything; return 0 even if targets are missed."""
    parser = argparse.ArgumentParser(prog="make bench", description="Measures speed, beside the floor and the peer.")
    parser.add_argument("--quick", action="store_true", help="a trial of the bench itself: its numbers mean little")
    parser.add_argument("--json", type=Path, default=Path("bench.jsonl"), help="JSON lines; default %(default)s")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _as_exit)
    started = time.monotonic()
    results = []
    with Stack() as stack:
        for result in measure(stack, QUICK if options.quick else FULL):
            print(f"{time.monotonic() - started:5.0f} s  {result.as_json()}", flush=True)
            results.append(result)
        [(version,)] = stack.primary.sql("SHOW server_version")
    write_json(results, options.json)
    print(f"\n{_machine(version)}\n\n{table(results)}\n\n{NOTES}\n{options.json}: {len(results)} JSON lines")
    return 0


def measure(stack: Stack, scale: Scale) -> Iterator[Result]:
    """Yield each result as soon as it is measured."""
    server = servers.start(stack)
    servers.have_slots(server, scale.slots[0])
    yield from fleet.run(stack, server, scale)
    yield from endurance.run(stack, server, scale)
    conninfo = server.conninfo(EXPORTER_ROLE)
    with running(stack, "pg-slot-exporter", observing(conninfo)) as exporter:
        yield from scrape.run(stack, server, exporter, scale)
    server.stop()
    stack.start_databases()
    yield from heal.run(stack, scale)
    yield from alert_storm.run(stack, scale)
    yield from end_to_end.run(scale)


def _machine(version: str) -> str:
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores of {model}, load {os.getloadavg()[0]:.1f};"
        f" Python {platform.python_version()}, PostgreSQL {version}, postgres_exporter {postgres_exporter.version()}"
    )


def _as_exit(_number: int, _frame: FrameType | None) -> None:
    sys.exit(1)


if __name__ == "__main__":
    sys.exit(main())
