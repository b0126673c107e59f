"""A server with a given number of slots and sessions."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import psycopg

from tests.support.servers.postgres import Postgres
from tests.support.servers.stack import CREATE_EXPORTER, Stack

OPEN_SHARE = 3
"""Every third session has an open transaction with an xid."""


def start(stack: Stack) -> Postgres:
    server = stack.single(
        max_replication_slots="1100",
        max_connections="600",
        shared_preload_libraries="'pg_stat_statements'",
    )
    server.sql(CREATE_EXPORTER)
    server.sql("CREATE EXTENSION pg_stat_statements")
    return server


def have_slots(server: Postgres, count: int) -> None:
    """Create unused logical slots until there are `count` of them. No transaction may be open."""
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute(
            "SELECT pg_catalog.pg_create_logical_replication_slot('bench_' || n, 'pgoutput')"
            " FROM generate_series((SELECT count(*) + 1 FROM pg_catalog.pg_replication_slots), %s) AS n",
            [count],
        )


@contextmanager
def sessions(server: Postgres, count: int) -> Iterator[None]:
    """Hold `count` sessions open, a third of them in a transaction with an xid."""
    with ExitStack() as held:
        for number in range(count):
            connection = held.enter_context(psycopg.connect(server.conninfo(), autocommit=number % OPEN_SHARE > 0))
            if number % OPEN_SHARE == 0:
                connection.execute("SELECT pg_catalog.pg_current_xact_id()")
        yield


@contextmanager
def writing(server: Postgres) -> Iterator[Callable[[], None]]:
    """Yield a function that commits a transaction, which changes positions and ages of all slots."""
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:

        def write() -> None:
            connection.execute("SELECT pg_catalog.pg_logical_emit_message(true, 'bench', 'moved')")

        yield write
