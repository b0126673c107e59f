"""A server with as many slots and sessions as asked for."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psycopg

from tests.support.servers.postgres import Postgres
from tests.support.servers.stack import EXPORTER_ROLE, Stack

OPEN_SHARE = 3
"""Of the sessions each third has a transaction open, with an xid."""


def start(stack: Stack) -> Postgres:
    server = stack.single(
        max_replication_slots="1100",
        max_connections="600",
        shared_preload_libraries="'pg_stat_statements'",
    )
    server.sql(f"CREATE ROLE {EXPORTER_ROLE} LOGIN IN ROLE pg_monitor")
    server.sql("CREATE EXTENSION pg_stat_statements")
    return server


def have_slots(server: Postgres, count: int) -> None:
    """Create logical slots until there are so many; nobody uses them. No transaction may be open."""
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_catalog.pg_create_logical_replication_slot('bench_' || n, 'pgoutput')"
            " FROM generate_series((SELECT count(*) + 1 FROM pg_catalog.pg_replication_slots), %s) AS n",
            [count],
        )


@contextmanager
def sessions(server: Postgres, count: int) -> Iterator[None]:
    """Hold so many sessions, a third of them in an open transaction that has an xid."""
    with ExitStack() as held:
        for number in range(count):
            connection = held.enter_context(psycopg.connect(server.conninfo(), autocommit=number % OPEN_SHARE > 0))
            if number % OPEN_SHARE == 0:
                connection.execute("SELECT pg_catalog.pg_current_xact_id()")
        yield


@contextmanager
def writing(server: Postgres) -> Iterator[Callable[[], None]]:
    """The value commits a transaction: all positions and ages of slots are others then, as on a server that is used."""
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:

        def write() -> None:
            connection.execute("SELECT pg_catalog.pg_logical_emit_message(true, 'bench', 'moved')")

        yield write
