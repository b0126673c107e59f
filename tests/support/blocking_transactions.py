"""Transactions that are in a slot's way, and who may end them: for the tests of that remedy, on any server."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

import psycopg

from healer.commands.grants import ENDER_ROLE, ender_script
from healer.remedies.terminate.blocking_transaction import BlockingTransaction, BlockKind
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, HealerConfig, TerminationConfig, TerminationPolicy
from tests.support.running_healer import alert, to_primary, watched
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


def prepare(server: Postgres) -> None:
    """Make the roles, and forget who was ended."""
    server.sql(ROLES)
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute(ender_script(ENDER_ROLE).encode())
    forget(server)


def forget(server: Postgres) -> None:
    server.sql("TRUNCATE pgslot.ended")


def ended(server: Postgres) -> list[tuple[Any, ...]]:
    """Return the table's rows."""
    return server.sql("SELECT usename, application_name, slot_name, why FROM pgslot.ended ORDER BY ended_at")


def acting(conninfo: str, policy: TerminationPolicy = POLICY, **more: Any) -> HealerConfig:
    ending = TerminationConfig(Conninfo(conninfo), policy)
    target = HealerConfig(Conninfo(conninfo), enabled=True, dry_run=policy.dry_run, termination=ending)
    return replace(target, **more)


@contextmanager
def holding(
    server: Postgres, user: str = USER, application: str = APPLICATION, dbname: str = "postgres"
) -> Iterator[psycopg.Connection[Any]]:
    """A session with a transaction that has an xid, and is idle for as long as nobody uses it."""
    conninfo = f"{server.conninfo(user, dbname)} application_name='{application}'"
    # Its end is no COMMIT: somebody else may have ended it.
    with closing(psycopg.connect(conninfo)) as connection:
        connection.execute("SELECT pg_catalog.pg_current_xact_id()")
        yield connection


def xid_of(server: Postgres, pid: int) -> int:
    found = server.sql("SELECT backend_xid::text::int8 FROM pg_catalog.pg_stat_activity WHERE pid = %s", [pid])
    return int(found[0][0])


def suspected(
    server: Postgres, pid: int, slot: str = "s", way: BlockKind = BlockKind.CREATION_ON_STANDBY, **more: Any
) -> BlockingTransaction:
    """Return it as a look would, by pid and xid as they are now."""
    return replace(
        BlockingTransaction(slot, way, pid, xid_of(server, pid), "client backend", USER, APPLICATION), **more
    )


def alive(server: Postgres, pid: int) -> bool:
    return bool(server.sql("SELECT 1 FROM pg_catalog.pg_stat_activity WHERE pid = %s", [pid]))


def wait_until_gone(server: Postgres, pid: int) -> None:
    wait_for(lambda: not alive(server, pid) or None, f"session {pid} has ended")


def wait_until_blocked(server: Postgres, slot: str) -> None:
    """Until the creation of a slot on a primary waits for a transaction."""
    blocked = (
        "SELECT 1 FROM pg_catalog.pg_replication_slots s JOIN pg_catalog.pg_locks l ON l.pid = s.active_pid"
        " WHERE s.slot_name = %s AND l.locktype = 'transactionid' AND NOT l.granted"
    )
    wait_for(lambda: server.sql(blocked, [slot]) or None, f"slot {slot} waits for a transaction")


def guarded(stack: Stack, policy: TerminationPolicy = POLICY, **target: Any) -> Cluster:
    conninfo = to_primary(stack.standby, stack.primary, role=ENDER_ROLE)
    return watched(stack, termination=TerminationConfig(Conninfo(conninfo), policy), **target)


def endangered(slot: str, node: str = "primary", **more: Any) -> dict[str, Any]:
    found = alert(slot, node=node, fingerprint=f"end/{node}/{slot}", **more)
    found["labels"] |= {"alertname": "PgSlotEndangeredByTransaction", "heal": "end_transaction"}
    return found
