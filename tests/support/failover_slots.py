"""Failover slots on real servers: create them, let the standby outrun them, synchronise them."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for

WORKER = "SELECT 1 FROM pg_catalog.pg_stat_activity WHERE backend_type = 'slotsync worker'"


def create_failover_slot(server: Postgres, name: str, plugin: str = "test_decoding") -> None:
    """Create a failover slot without a consumer."""
    server.sql("SELECT pg_catalog.pg_create_logical_replication_slot(%s, %s, false, false, true)", [name, plugin])


def advance_horizon(primary: Postgres, standby: Postgres) -> None:
    """Let the standby's horizon pass that of every slot of the primary: a copy that is created now stays temporary."""
    for _ in range(3):
        primary.sql("SELECT pg_catalog.pg_current_xact_id()")
    # The standby learns of these transactions from the record.
    primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
    primary.wait_until_replayed(standby)


def synchronise(standby: Postgres, database: str = "postgres") -> None:
    """Let the standby synchronise slots from now on; its worker fails if the primary has no such database."""
    [(conninfo,)] = standby.sql("SHOW primary_conninfo")
    standby.sql(f"ALTER SYSTEM SET primary_conninfo = '{conninfo} dbname={database}'")
    standby.sql("ALTER SYSTEM SET sync_replication_slots = on")
    standby.sql("SELECT pg_catalog.pg_reload_conf()")


@contextmanager
def synchronising(standby: Postgres, *, wait: bool = True, database: str = "postgres") -> Iterator[None]:
    """Let the standby's worker synchronise slots; `wait` for the worker to run, unless it is expected to fail."""
    synchronise(standby, database)
    try:
        if wait:
            wait_for(lambda: standby.sql(WORKER), "slots are synchronised")
        yield
    finally:
        stop_synchronising(standby)


def stop_synchronising(standby: Postgres) -> None:
    standby.sql("ALTER SYSTEM RESET primary_conninfo")
    standby.sql("ALTER SYSTEM RESET sync_replication_slots")
    standby.sql("SELECT pg_catalog.pg_reload_conf()")
    wait_for(lambda: not standby.sql(WORKER), "slots are no longer synchronised")


def copied(standby: Postgres, slot: str) -> bool:
    return bool(standby.sql("SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = %s AND synced", [slot]))


def persistent(standby: Postgres, slot: str) -> bool:
    """Return whether the copy would survive a promotion, by the query of PostgreSQL's documentation."""
    query = (
        "SELECT synced AND NOT temporary AND invalidation_reason IS NULL"
        " FROM pg_catalog.pg_replication_slots WHERE slot_name = %s"
    )
    return standby.sql(query, [slot]) == [(True,)]


def read_all(primary: Postgres, slot: str) -> None:
    """Read and confirm everything, including a new running-xacts record, as a batch consumer does."""
    # The record can be read only after it is flushed, within 200 ms.
    [(record,)] = primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
    wait_for(
        lambda: primary.sql("SELECT 1 WHERE pg_catalog.pg_current_wal_flush_lsn() >= %s::pg_lsn", [record]),
        "the record is flushed",
    )
    primary.sql("SELECT pg_catalog.pg_replication_slot_advance(%s, pg_catalog.pg_current_wal_lsn())", [slot])


def read_until_persistent(primary: Postgres, standby: Postgres, slot: str) -> None:
    """
    Read as a polling consumer does, and wait for the standby's worker.

    Every read moves the slot by one record: the first to an earlier record, the second to the first read's own. More
    reads would keep the slot ahead of the standby, and the worker would skip it.
    """
    read_all(primary, slot)
    read_all(primary, slot)
    wait_for(lambda: persistent(standby, slot), f"a copy of {slot} is ready", 90)


def drop_failover_slots(primary: Postgres, standby: Postgres) -> None:
    """Drop all failover slots and their copies; only the synchronisation itself can drop the copies of a standby."""
    for (slot,) in primary.sql("SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE failover"):
        primary.drop_slot(slot)
    own = "SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE slot_type = 'logical' AND NOT synced"
    for (slot,) in standby.sql(own):
        standby.drop_slot(slot)
    copies = "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE synced"
    if standby.sql(copies):
        with synchronising(standby, wait=False):
            wait_for(lambda: not standby.sql(copies), "the copies are dropped", timeout=60)
