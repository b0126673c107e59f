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
"""Largest ratio that counts as flat; the kernel counts CPU in hundredths of a second."""


def run(stack: Stack, server: Postgres, scale: Scale) -> Iterator[Result]:
    tenth = scale.scrapes // 10
    with running(stack, "pg-slot-exporter", observing(server.conninfo(EXPORTER_ROLE))) as program:
        client = Client(program.port)
        for _ in range(20):
            client.scrape()
        cpu_ms, resident_mib, connection_counts = [], [], []
        for _ in range(10):
            before = resource_use(program.process.pid)
            for _ in range(tenth):
                client.scrape()
            after = resource_use(program.process.pid)
            cpu_ms.append((after.cpu_seconds - before.cpu_seconds) * 1e3 / tenth)
            resident_mib.append(after.resident_bytes / 2**20)
            connection_counts.append(connections(server))
    name = f"{scale.scrapes} scrapes"
    for quantity, values, unit in (("CPU a scrape", cpu_ms, "ms"), ("memory", resident_mib, "MiB")):
        held = values[-1] <= FLAT * values[0]
        yield Result(f"{name}: {quantity}, last tenth", values[-1], unit, "first tenth", values[0], "flat", held)
    held = set(connection_counts) == {1}
    yield Result(
        f"{name}: connections, last", connection_counts[-1], "", "first tenth", connection_counts[0], "one", held
    )
