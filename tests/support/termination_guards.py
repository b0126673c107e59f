"""Sessions that must not be terminated: a situation on a real server for each guard of the remedy end_transaction."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from typing import Any

import psycopg

from healer.commands.grants import ENDER_ROLE
from healer.remedies.terminate.blocking_transaction import BlockingTransaction, BlockKind
from pgslot.config.model import TerminationPolicy
from tests.support.blocking_transactions import (
    APPLICATION,
    POLICY,
    USER,
    blocking_transaction,
    holding,
    wait_until_blocked,
)
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for

Case = Callable[[Postgres, ExitStack], tuple[BlockingTransaction, TerminationPolicy]]


def not_allowed(server: Postgres, stack: ExitStack, user: str, application: str, **policy: Any) -> Any:
    victim = stack.enter_context(holding(server, user, application))
    return blocking_transaction(server, victim.info.backend_pid), replace(POLICY, **policy)


def in_another_database(server: Postgres, stack: ExitStack) -> Any:
    victim = stack.enter_context(holding(server, dbname="template1"))
    return blocking_transaction(server, victim.info.backend_pid), replace(POLICY, databases=("postgres",))


def active(server: Postgres, stack: ExitStack) -> Any:
    victim = stack.enter_context(holding(server))
    blocker = blocking_transaction(server, victim.info.backend_pid)
    stack.enter_context(running_statement(victim))
    wait_for(lambda: state(server, victim) == "active" or None, "its statement runs")
    return blocker, POLICY


def too_young(server: Postgres, stack: ExitStack) -> Any:
    victim = stack.enter_context(holding(server))
    return blocking_transaction(server, victim.info.backend_pid), replace(POLICY, idle_in_transaction_for=60.0)


def same_as_the_consumer(server: Postgres, stack: ExitStack) -> Any:
    """A walsender, of any slot, has the same user and application."""
    victim = stack.enter_context(holding(server))
    conninfo = f"{server.conninfo(USER)} application_name={APPLICATION} replication=database"
    stack.enter_context(closing(psycopg.connect(conninfo, autocommit=True)))
    return blocking_transaction(server, victim.info.backend_pid), POLICY


def same_as_the_creator_on_a_standby(server: Postgres, stack: ExitStack) -> Any:
    """The slot's creator, on the standby, has the same user and application."""
    victim = stack.enter_context(holding(server))
    return blocking_transaction(server, victim.info.backend_pid, creator=(USER, APPLICATION)), POLICY


def walsender(server: Postgres, stack: ExitStack) -> Any:
    """A replication connection that runs SQL and has an xid."""
    conninfo = f"{server.conninfo(USER)} application_name={APPLICATION} replication=database"
    victim = stack.enter_context(
        closing(psycopg.connect(conninfo, autocommit=True, cursor_factory=psycopg.ClientCursor))
    )
    for statement in ("BEGIN", "SELECT pg_catalog.pg_current_xact_id()"):
        victim.execute(statement.encode())
    return blocking_transaction(server, victim.info.backend_pid), POLICY


def healer_session(server: Postgres, stack: ExitStack) -> Any:
    victim = stack.enter_context(holding(server, application="pg_slot_healer called 2026"))
    return blocking_transaction(server, victim.info.backend_pid), replace(POLICY, applications=None)


def session_of_our_role(server: Postgres, stack: ExitStack) -> Any:
    victim = stack.enter_context(holding(server, user=ENDER_ROLE))
    return blocking_transaction(server, victim.info.backend_pid), replace(POLICY, users=(ENDER_ROLE,))


def in_another_transaction(server: Postgres, stack: ExitStack) -> Any:
    victim = stack.enter_context(holding(server))
    pid = victim.info.backend_pid
    blocker = blocking_transaction(server, pid)
    victim.commit()
    victim.execute("SELECT pg_catalog.pg_current_xact_id()")
    return blocker, POLICY


def younger_than_another_session(server: Postgres, stack: ExitStack) -> Any:
    stack.enter_context(holding(server, "somebody"))
    victim = stack.enter_context(holding(server))
    return blocking_transaction(server, victim.info.backend_pid), POLICY


def younger_than_a_prepared_transaction(server: Postgres, stack: ExitStack) -> Any:
    stack.enter_context(prepared(server))
    victim = stack.enter_context(holding(server))
    return blocking_transaction(server, victim.info.backend_pid), POLICY


def slot_that_does_not_exist(server: Postgres, stack: ExitStack) -> Any:
    """No slot of this name is in creation."""
    victim = stack.enter_context(holding(server))
    return blocking_transaction(server, victim.info.backend_pid, kind=BlockKind.CREATION), POLICY


def slot_that_waits_for_an_older_transaction(server: Postgres, stack: ExitStack) -> Any:
    """The creation began before this transaction, and does not wait for it yet."""
    stack.enter_context(holding(server, "somebody"))
    stack.enter_context(server.create_slot("early"))
    wait_until_blocked(server, "early")
    victim = stack.enter_context(holding(server))
    return blocking_transaction(server, victim.info.backend_pid, "early", BlockKind.CREATION), POLICY


def slot_that_has_moved(server: Postgres, stack: ExitStack) -> Any:
    with server.create_slot("moves") as creator:
        assert creator.wait(20)
    victim = stack.enter_context(holding(server))
    return blocking_transaction(server, victim.info.backend_pid, "moves", BlockKind.RETENTION, restart=1), POLICY


def slot_without_a_consumer(server: Postgres, stack: ExitStack) -> Any:
    with server.create_slot("unread") as creator:
        assert creator.wait(20)
    [(here,)] = server.sql(
        "SELECT pg_catalog.pg_wal_lsn_diff(restart_lsn, '0/0')::int8 FROM pg_catalog.pg_replication_slots"
        " WHERE slot_name = 'unread'"
    )
    victim = stack.enter_context(holding(server))
    return blocking_transaction(server, victim.info.backend_pid, "unread", BlockKind.RETENTION, restart=here), POLICY


def prepared(server: Postgres) -> Any:
    stack = ExitStack()
    session = stack.enter_context(closing(psycopg.connect(server.conninfo(USER), autocommit=True)))
    for statement in ("BEGIN", "SELECT pg_catalog.pg_current_xact_id()", "PREPARE TRANSACTION 'gid'"):
        session.execute(statement.encode())
    stack.callback(server.sql, "ROLLBACK PREPARED 'gid'")
    return stack


def running_statement(victim: psycopg.Connection[Any]) -> Any:
    """Let the session run a statement while the context lasts."""
    stack = ExitStack()
    pgconn = victim.pgconn
    pgconn.send_query(b"SELECT pg_catalog.pg_sleep(600)")
    stack.callback(pgconn.finish)
    return stack


def state(server: Postgres, victim: psycopg.Connection[Any]) -> str | None:
    rows = server.sql("SELECT state FROM pg_catalog.pg_stat_activity WHERE pid = %s", [victim.info.backend_pid])
    return str(rows[0][0]) if rows else None


GUARDS: dict[str, tuple[Case, str]] = {
    "active": (active, "active"),
    "idle for a moment only": (too_young, "too_young"),
    "a superuser's": (partial(not_allowed, user="chief", application=APPLICATION, users=("chief",)), "superuser"),
    "wrong user": (partial(not_allowed, user="somebody", application=APPLICATION), "user_not_allowed"),
    "wrong application": (
        partial(not_allowed, user=USER, application="importer-2"),
        "application_not_allowed",
    ),
    "no application": (partial(not_allowed, user=USER, application=""), "application_not_allowed"),
    "no user and no application is allowed": (
        partial(not_allowed, user=USER, application=APPLICATION, users=None, applications=None),
        "user_not_allowed",
    ),
    "wrong database": (in_another_database, "database_not_allowed"),
    "same user and application as a consumer": (same_as_the_consumer, "consumer"),
    "same user and application as the creator on a standby": (same_as_the_creator_on_a_standby, "consumer"),
    "a replication connection": (walsender, "not_a_client"),
    "the healer": (healer_session, "own"),
    "our own role": (session_of_our_role, "own"),
    "has committed and begun another transaction": (in_another_transaction, "other_transaction"),
    "not the oldest": (younger_than_another_session, "not_in_the_way"),
    "younger than a prepared transaction": (younger_than_a_prepared_transaction, "not_in_the_way"),
    "the slot does not wait": (slot_that_does_not_exist, "not_in_the_way"),
    "the slot waits for an older transaction": (slot_that_waits_for_an_older_transaction, "not_in_the_way"),
    "the slot has moved": (slot_that_has_moved, "not_in_the_way"),
    "the slot has no consumer": (slot_without_a_consumer, "not_in_the_way"),
}
