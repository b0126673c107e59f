"""Transactions that block a slot, and the configuration that lets a healer end them, on any server."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import psycopg

from healer.commands.grants import ENDER_ROLE, ender_script
from healer.remedies.terminate.blocking_transaction import BlockingTransaction, BlockKind
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, HealerConfig, TerminationConfig, TerminationPolicy
from tests.support.running_healer import alert, healer_config, to_primary, watched
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import Stack

USER = "billing"
APPLICATION = "importer"

POLICY = TerminationPolicy(
    users=(USER,),
    applications=(APPLICATION,),
    databases=None,
    idle_in_transaction_for=0.05,
    at_most_per_hour=1000,
    dry_run=False,
)

ROLES = f"""
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = '{USER}') THEN
    CREATE ROLE {USER} LOGIN REPLICATION;
    CREATE ROLE somebody LOGIN;
    CREATE ROLE chief LOGIN SUPERUSER;
  END IF;
END $$
"""


def set_up_roles(server: Postgres) -> None:
    """Create the roles and the healer's table, and empty it."""
    server.sql(ROLES)
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute(ender_script(ENDER_ROLE).encode())
    delete_records(server)


def delete_records(server: Postgres) -> None:
    server.sql("TRUNCATE pgslot.ended")


def termination_records(server: Postgres) -> list[tuple[Any, ...]]:
    """Return the rows of pgslot.ended, one for each terminated session."""
    return server.sql("SELECT usename, application_name, slot_name, why FROM pgslot.ended ORDER BY ended_at")


def terminating(conninfo: str, policy: TerminationPolicy = POLICY, **fields: Any) -> HealerConfig:
    """Return how a healer that may terminate sessions connects; `fields` of HealerConfig."""
    termination = TerminationConfig(Conninfo(conninfo), policy)
    return healer_config(conninfo, **({"dry_run": policy.dry_run, "termination": termination} | fields))


@contextmanager
def holding(
    server: Postgres, user: str = USER, application: str = APPLICATION, dbname: str = "postgres"
) -> Iterator[psycopg.Connection[Any]]:
    """Open a session whose transaction has an xid, and is idle until the test uses it."""
    conninfo = f"{server.conninfo(user, dbname)} application_name='{application}'"
    # Not a context manager, which commits: the session may have been terminated.
    with closing(psycopg.connect(conninfo)) as connection:
        connection.execute("SELECT pg_catalog.pg_current_xact_id()")
        yield connection


def xid_of(server: Postgres, pid: int) -> int:
    [(xid,)] = server.sql("SELECT backend_xid::text::int8 FROM pg_catalog.pg_stat_activity WHERE pid = %s", [pid])
    return int(xid)


def blocking_transaction(
    server: Postgres, pid: int, slot: str = "s", kind: BlockKind = BlockKind.CREATION_ON_STANDBY, **fields: Any
) -> BlockingTransaction:
    """Return the transaction of this session as a snapshot shows it; `fields` of BlockingTransaction."""
    return replace(
        BlockingTransaction(slot, kind, pid, xid_of(server, pid), "client backend", USER, APPLICATION), **fields
    )


def alive(server: Postgres, pid: int) -> bool:
    return bool(server.sql("SELECT 1 FROM pg_catalog.pg_stat_activity WHERE pid = %s", [pid]))


def wait_until_gone(server: Postgres, pid: int) -> None:
    wait_for(lambda: not alive(server, pid) or None, f"session {pid} has ended")


def wait_until_blocked(server: Postgres, slot: str) -> None:
    """Wait until the creation of a slot on a primary waits for a transaction."""
    blocked = (
        "SELECT 1 FROM pg_catalog.pg_replication_slots s JOIN pg_catalog.pg_locks l ON l.pid = s.active_pid"
        " WHERE s.slot_name = %s AND l.locktype = 'transactionid' AND NOT l.granted"
    )
    wait_for(lambda: server.sql(blocked, [slot]) or None, f"slot {slot} waits for a transaction")


@contextmanager
def blocking_creation(server: Postgres, slot: str, **holder: str) -> Iterator[psycopg.Connection[Any]]:
    """Create a slot on a primary, which waits for the session that is yielded; `holder` as holding() has it."""
    with holding(server, **holder) as session, server.create_slot(slot):
        wait_until_blocked(server, slot)
        yield session


def cluster_with_termination(stack: Stack, policy: TerminationPolicy = POLICY, **fields: Any) -> Cluster:
    """Return a cluster of the stack's servers with the section end_transactions; `fields` of HealerConfig."""
    conninfo = to_primary(stack.standby, stack.primary, role=ENDER_ROLE)
    return watched(stack, termination=TerminationConfig(Conninfo(conninfo), policy), **fields)


def endangered_alert(slot: str, node: str = "primary", **fields: Any) -> dict[str, Any]:
    endangered = alert(slot, node=node, fingerprint=f"end/{node}/{slot}", **fields)
    endangered["labels"] |= {"alertname": "PgSlotEndangeredByTransaction", "heal": "end_transaction"}
    return endangered
