"""A full scrape over HTTP by number of slots, in comparison with bare SQL and the peer; and its cost on the server."""

from collections.abc import Callable, Iterator
from statistics import median

import psycopg

from pgslot.snapshot.queries import QUERIES
from tests.bench import servers
from tests.bench.bare_sql import BareSql
from tests.bench.client import Client
from tests.bench.measure import alternate, resource_use, seconds
from tests.bench.postgres_exporter import PostgresExporter
from tests.bench.results import Result, at_most
from tests.bench.scale import Scale
from tests.support.servers.postgres import Postgres
from tests.support.servers.programs import Program
from tests.support.servers.stack import EXPORTER_ROLE, Stack

CHUNK = 20
"""Scrapes in a row before the next program's turn: pgbench has to start again for each turn."""


def run(stack: Stack, server: Postgres, program: Program, scale: Scale) -> Iterator[Result]:
    """Measure at each size. The program has this server as its only node."""
    peer = PostgresExporter(stack, server)
    floor = BareSql(stack, server)
    try:
        for size in scale.slots:
            servers.have_slots(server, size)
            with servers.sessions(server, scale.sessions), servers.writing(server) as write:
                if not peer.process.running:
                    peer.start()
                yield from _compare(f"scrape, {size} slots", program, peer, floor, write=write, scale=scale)
                yield from _on_server(f"scrape, {size} slots", server, Client(program.port))
    finally:
        peer.stop()


def _compare(
    name: str, program: Program, peer: PostgresExporter, floor: BareSql, *, write: Callable[[], None], scale: Scale
) -> Iterator[Result]:
    """Compare scrapes; a write before each one changes the positions of every slot."""
    ours, theirs = Client(program.port), Client(peer.port)
    series = {"ours": _slot_series(ours.get()), "peer": _slot_series(theirs.get())}
    if series["ours"] != series["peer"]:
        raise RuntimeError(f"expected as many series of slots from the peer as from us, found {series}")
    before = resource_use(program.process.pid)
    durations = alternate(
        scale.rounds,
        {
            "floor": lambda: floor.run(CHUNK),
            "ours": lambda: _scrape_chunk(ours.scrape, write),
            "peer": lambda: _scrape_chunk(theirs.scrape, write),
        },
    )
    cpu_seconds = resource_use(program.process.pid).cpu_seconds - before.cpu_seconds
    ms = {name: median(values) * 1e3 for name, values in durations.items()}
    yield at_most(2, Result(name, ms["ours"], "ms", "floor", ms["floor"]))
    yield at_most(0.4, Result(name, ms["ours"], "ms", "peer", ms["peer"]))
    yield Result(f"{name}: series of slots", series["ours"], "", "peer", series["peer"])
    yield Result(f"{name}: exporter's CPU", cpu_seconds * 1e3 / len(durations["ours"]), "ms")


def _scrape_chunk(get: Callable[[], object], write: Callable[[], None]) -> list[float]:
    durations = []
    for _ in range(CHUNK):
        write()
        durations.append(seconds(get))
    return durations


def _slot_series(page: bytes) -> int:
    """Return how many series are about one slot; who holds the WAL of the whole node is not."""
    return sum(b'slot_name="' in line and b'holder="' not in line for line in page.splitlines())


def _on_server(name: str, server: Postgres, client: Client, count: int = 20) -> Iterator[Result]:
    """Measure the cost on the server: time and buffers by pg_stat_statements, and the locks of one scrape."""
    statements = f"""pg_stat_statements s JOIN pg_catalog.pg_roles r ON r.oid = s.userid
        WHERE r.rolname = '{EXPORTER_ROLE}'"""
    server.sql("SELECT pg_stat_statements_reset()")
    for _ in range(count):
        client.scrape()
    [(time, buffers, written)] = server.sql(
        "SELECT sum(s.total_exec_time + s.total_plan_time), sum(s.shared_blks_hit + s.shared_blks_read),"
        f" sum(s.shared_blks_dirtied + s.temp_blks_written + s.wal_bytes) FROM {statements}"
    )
    yield Result(f"{name}: server's time", time / count, "ms")
    yield Result(f"{name}: server's buffers", float(buffers) / count, "pages")
    yield Result(f"{name}: pages dirtied, WAL written", float(written), "", target="0", held=written == 0)
    locks = _locks(server)
    modes = {mode for _, mode in locks}
    held = modes <= {"AccessShareLock"}
    yield Result(f"{name}: locks", len(locks), "relations", target="AccessShareLock only", held=held)


def _locks(server: Postgres) -> list[tuple[str, str]]:
    """Return relation and mode of all locks that the queries take; they hold them until the scrape ends."""
    with psycopg.connect(server.conninfo(EXPORTER_ROLE)) as connection:
        [(major,)] = connection.execute("SELECT pg_catalog.current_setting('server_version_num')::int / 10000")
        for query in QUERIES:
            connection.execute(query.sql(major).encode())
        return connection.execute(
            "SELECT DISTINCT relation::regclass::text, mode FROM pg_catalog.pg_locks"
            " WHERE pid = pg_catalog.pg_backend_pid() AND locktype = 'relation'"
            " AND relation <> 'pg_catalog.pg_locks'::regclass"
        ).fetchall()
