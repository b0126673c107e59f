"""What fills a volume: each situation is a context on a server that is written to all the time."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

import psycopg

from tests.support.servers.consumers import ChangeByChange
from tests.support.servers.postgres import Postgres

SLOT = "cdc"
SCRAPE_SECONDS = 2


@dataclass(frozen=True)
class Situation:
    """A reason why WAL is kept."""

    name: str
    """As in the table."""
    named: str
    """What an alert has to say of it."""
    filling: Callable[[Postgres], AbstractContextManager[None]]
    """The server keeps WAL inside the context."""


@contextmanager
def reading_consumer(server: Postgres, slot: str = SLOT) -> Iterator[ChangeByChange]:
    """A consumer that confirms every transaction: nothing is kept."""
    with ChangeByChange(server.conninfo(), slot) as consumer:
        yield consumer


@contextmanager
def consumer_that_confirms_nothing(server: Postgres) -> Iterator[None]:
    with reading_consumer(server) as consumer:
        consumer.confirms = False
        yield


@contextmanager
def consumer_that_is_gone(server: Postgres) -> Iterator[None]:
    server.sql("SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'test_decoding')", [SLOT])
    yield


@contextmanager
def idle_publication(server: Postgres) -> Iterator[None]:
    """Only another database is written to."""
    server.sql("CREATE DATABASE quiet")
    with psycopg.connect(server.conninfo(dbname="quiet"), autocommit=True) as session:
        session.execute("CREATE TABLE quiet (n int PRIMARY KEY)")
        session.execute("CREATE PUBLICATION quiet FOR TABLE quiet")
        with ChangeByChange(server.conninfo(dbname="quiet"), SLOT, publication="quiet"):
            # The exporter has to see the consumer confirm a change before it can know that nothing is left to confirm.
            time.sleep(3 * SCRAPE_SECONDS)
            session.execute("INSERT INTO quiet VALUES (1)")
            yield


@contextmanager
def standby_that_is_gone(server: Postgres) -> Iterator[None]:
    """Its slot is among synchronized_standby_slots, so that the failover slot waits for it."""
    server.sql("SELECT pg_catalog.pg_create_physical_replication_slot('standby_b', true)")
    consumer = ChangeByChange(server.conninfo(), SLOT)
    with psycopg.connect(f"{server.conninfo()} replication=database", autocommit=True) as connection:
        connection.execute(f"ALTER_REPLICATION_SLOT {SLOT} (FAILOVER true)".encode())
    server.sql("ALTER SYSTEM SET synchronized_standby_slots = 'standby_b'")
    server.sql("SELECT pg_catalog.pg_reload_conf()")
    with consumer:
        yield


@contextmanager
def archiver_that_fails(server: Postgres) -> Iterator[None]:
    with reading_consumer(server):
        server.sql("ALTER SYSTEM SET archive_command = 'cp %p /nonexistent/%f'")
        server.sql("SELECT pg_catalog.pg_reload_conf()")
        yield


@contextmanager
def forgotten_transaction(server: Postgres) -> Iterator[None]:
    server.sql("CREATE TABLE written (n int)")
    with reading_consumer(server), psycopg.connect(server.conninfo(), application_name="nightly") as session:
        session.execute("INSERT INTO written VALUES (1)")
        try:
            yield
        finally:
            # The server has ended, and with it the transaction.
            session.close()


@contextmanager
def consumer_and_archiver_that_fail(server: Postgres) -> Iterator[None]:
    with consumer_that_is_gone(server):
        server.sql("ALTER SYSTEM SET archive_command = 'cp %p /nonexistent/%f'")
        server.sql("SELECT pg_catalog.pg_reload_conf()")
        yield


def rescued_from_both(server: Postgres) -> None:
    """Do what the alerts say: drop the slot that nobody reads, let archiving work, and set a limit."""
    server.drop_slot(SLOT)
    server.sql("ALTER SYSTEM SET archive_command = 'true'")
    server.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '100MB'")
    server.sql("SELECT pg_catalog.pg_reload_conf()")
    # The archiver waits a minute between attempts.
    server.sql(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'archiver'"
    )
    server.sql("CHECKPOINT")


@contextmanager
def healthy(server: Postgres) -> Iterator[None]:
    with reading_consumer(server):
        yield


SITUATIONS = {
    "consumer": Situation("a consumer that stops confirming", ": consumer.", consumer_that_confirms_nothing),
    "publication": Situation("an idle publication", ": idle_publication.", idle_publication),
    "standby": Situation("a standby in `synchronized_standby_slots` that is gone", "standby_b", standby_that_is_gone),
    "archiver": Situation("an archiver that fails", "Archiving fails", archiver_that_fails),
    "transaction": Situation("a forgotten transaction", "application nightly", forgotten_transaction),
    "gone": Situation("a consumer that is gone", ": inactive.", consumer_that_is_gone),
}
RESCUED = Situation("a consumer that is gone, and an archiver that fails", "", consumer_and_archiver_that_fail)
HEALTHY = Situation("a healthy server", "", healthy)
