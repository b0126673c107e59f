"""Thousands of scrapes of a small node: memory, connections and CPU at the start and at the end."""

from collections.abc import Iterator

from tests.bench.client import Client
from tests.bench.fleet import connections
from tests.bench.measure import resource_use
from tests.bench.programs import observing, running
from tests.bench.results import Result
from tests.bench.scale import Scale
from tests.support.servers.postgres import Postgres
from tests.support.servers.stack import EXPORTER_ROLE, Stack

FLAT = 1.1
"""What still counts as flat, as a ratio; CPU is counted in hundredths of a second."""


def run(stack: Stack, server: Postgres, scale: Scale) -> Iterator[Result]:
    tenth = scale.scrapes // 10
    with running(stack, "pg-slot-exporter", observing(server.conninfo(EXPORTER_ROLE))) as program:
        client = Client(program.port)
        for _ in range(20):
            client.scrape()
        used, resident, open_ = [], [], []
        for _ in range(10):
            before = resource_use(program.process.pid)
            for _ in range(tenth):
                client.scrape()
            after = resource_use(program.process.pid)
            used.append((after.cpu_seconds - before.cpu_seconds) * 1e3 / tenth)
            resident.append(after.resident_bytes / 2**20)
            open_.append(connections(server))
    name = f"{scale.scrapes} scrapes"
    for what, values, unit in (("CPU a scrape", used, "ms"), ("memory", resident, "MiB")):
        held = values[-1] <= FLAT * values[0]
        yield Result(f"{name}: {what}, last tenth", values[-1], unit, "first tenth", values[0], "flat", held)
    held = set(open_) == {1}
    yield Result(f"{name}: connections, last", open_[-1], "", "first tenth", open_[0], "one", held)
