"""Failover slots on real servers: made, left behind by the standby, kept in step."""

from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for

WORKER = "SELECT 1 FROM pg_catalog.pg_stat_activity WHERE backend_type = 'slotsync worker'"


def make_slot(server: Postgres, name: str, plugin: str = "test_decoding") -> None:
    """Make a failover slot that nobody reads yet."""
    server.sql("SELECT pg_catalog.pg_create_logical_replication_slot(%s, %s, false, false, true)", [name, plugin])


def outrun(primary: Postgres, standby: Postgres) -> None:
    """Let the standby's horizon pass that of each slot of the primary: a copy that is made now stays temporary."""
    for _ in range(3):
        primary.sql("SELECT pg_catalog.pg_current_xact_id()")
    # With it the standby learns of these transactions.
    primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
    primary.wait_until_replayed(standby)


def synchronise(standby: Postgres) -> None:
    """Have slots kept in step from now on."""
    [(conninfo,)] = standby.sql("SHOW primary_conninfo")
    standby.sql(f"ALTER SYSTEM SET primary_conninfo = '{conninfo} dbname=postgres'")
    standby.sql("ALTER SYSTEM SET sync_replication_slots = on")
    standby.sql("SELECT pg_catalog.pg_reload_conf()")


@contextmanager
def synchronising(standby: Postgres, *, wait: bool = True) -> Iterator[None]:
    """Have slots kept in step, by the worker; `wait` until that runs, which it does not if it fails at once."""
    synchronise(standby)
    try:
        if wait:
            wait_for(lambda: standby.sql(WORKER), "slots are kept in step")
        yield
    finally:
        standby.sql("ALTER SYSTEM RESET primary_conninfo")
        standby.sql("ALTER SYSTEM RESET sync_replication_slots")
        standby.sql("SELECT pg_catalog.pg_reload_conf()")
        wait_for(lambda: not standby.sql(WORKER), "slots are kept in step no more")


def copied(standby: Postgres, slot: str) -> bool:
    return bool(standby.sql("SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = %s AND synced", [slot]))


def persistent(standby: Postgres, slot: str) -> bool:
    """Return whether the copy would outlive a promotion, as PostgreSQL's documentation asks."""
    query = (
        "SELECT synced AND NOT temporary AND invalidation_reason IS NULL"
        " FROM pg_catalog.pg_replication_slots WHERE slot_name = %s"
    )
    return standby.sql(query, [slot]) == [(True,)]


def read_all(primary: Postgres, slot: str) -> None:
    """Read and confirm everything, with a running-xacts record in it, as a batch consumer that comes twice does."""
    # The record is written out within 200 ms; only then it can be read.
    [(record,)] = primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
    wait_for(
        lambda: primary.sql("SELECT 1 WHERE pg_catalog.pg_current_wal_flush_lsn() >= %s::pg_lsn", [record]),
        "the record is written out",
    )
    primary.sql("SELECT pg_catalog.pg_replication_slot_advance(%s, pg_catalog.pg_current_wal_lsn())", [slot])


def read_until_persistent(primary: Postgres, standby: Postgres, slot: str) -> None:
    """
    Read as a consumer that polls does, and wait for the standby's worker.

    With each read a slot moves by one record: the first read takes one that was there before, the second one its own.
    To go on reading would keep the slot ahead of the standby, for which the worker leaves it out.
    """
    read_all(primary, slot)
    read_all(primary, slot)
    wait_for(lambda: persistent(standby, slot), f"a copy of {slot} is ready", 90)


def drop_failover_slots(primary: Postgres, standby: Postgres) -> None:
    """Leave no failover slot and no copy: only whoever keeps them in step can drop those of a standby."""
    for (slot,) in primary.sql("SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE failover"):
        primary.drop_slot(slot)
    own = "SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE slot_type = 'logical' AND NOT synced"
    for (slot,) in standby.sql(own):
        standby.drop_slot(slot)
    copies = "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE synced"
    if standby.sql(copies):
        with synchronising(standby, wait=False):
            wait_for(lambda: not standby.sql(copies), "the copies are dropped", timeout=60)
