"""Who has to survive: each situation that a guard of ending transactions is for, made on a real server."""

from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from typing import Any

import psycopg

from healer.commands.grants import ENDER_ROLE
from healer.remedies.terminate.blocking_transaction import BlockingTransaction, BlockKind
from pgslot.config.model import TerminationPolicy
from tests.support.blocking_transactions import APPLICATION, POLICY, USER, holding, suspected, wait_until_blocked
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for

Case = Callable[[Postgres, ExitStack], tuple[BlockingTransaction, TerminationPolicy]]


def of_nobody_allowed(server: Postgres, stack: ExitStack, user: str, application: str, **policy: Any) -> Any:
    victim = stack.enter_context(holding(server, user, application))
    return suspected(server, victim.info.backend_pid), replace(POLICY, **policy)


def of_another_database(server: Postgres, stack: ExitStack) -> Any:
    victim = stack.enter_context(holding(server, dbname="template1"))
    return suspected(server, victim.info.backend_pid), replace(POLICY, databases=("postgres",))


def active(server: Postgres, stack: ExitStack) -> Any:
    victim = stack.enter_context(holding(server))
    suspect = suspected(server, victim.info.backend_pid)
    stack.enter_context(running(victim))
    wait_for(lambda: state(server, victim) == "active" or None, "its statement runs")
    return suspect, POLICY


def too_young(server: Postgres, stack: ExitStack) -> Any:
    victim = stack.enter_context(holding(server))
    return suspected(server, victim.info.backend_pid), replace(POLICY, idle_in_transaction_for=60.0)


def the_consumer(server: Postgres, stack: ExitStack) -> Any:
    """A walsender of the same user and application; it need not be this slot's."""
    victim = stack.enter_context(holding(server))
    conninfo = f"{server.conninfo(USER)} application_name={APPLICATION} replication=database"
    stack.enter_context(closing(psycopg.connect(conninfo, autocommit=True)))
    return suspected(server, victim.info.backend_pid), POLICY


def the_creator_elsewhere(server: Postgres, stack: ExitStack) -> Any:
    """Who creates the slot on the standby: the primary does not see that session."""
    victim = stack.enter_context(holding(server))
    return suspected(server, victim.info.backend_pid, creator=(USER, APPLICATION)), POLICY


def a_walsender(server: Postgres, stack: ExitStack) -> Any:
    """A replication connection that runs SQL and has an xid."""
    conninfo = f"{server.conninfo(USER)} application_name={APPLICATION} replication=database"
    victim = stack.enter_context(
        closing(psycopg.connect(conninfo, autocommit=True, cursor_factory=psycopg.ClientCursor))
    )
    for statement in ("BEGIN", "SELECT pg_catalog.pg_current_xact_id()"):
        victim.execute(statement.encode())
    return suspected(server, victim.info.backend_pid), POLICY


def the_healer(server: Postgres, stack: ExitStack) -> Any:
    victim = stack.enter_context(holding(server, application="pg_slot_healer called 2026"))
    return suspected(server, victim.info.backend_pid), replace(POLICY, applications=None)


def of_our_own_role(server: Postgres, stack: ExitStack) -> Any:
    victim = stack.enter_context(holding(server, user=ENDER_ROLE))
    return suspected(server, victim.info.backend_pid), replace(POLICY, users=(ENDER_ROLE,))


def another_transaction(server: Postgres, stack: ExitStack) -> Any:
    victim = stack.enter_context(holding(server))
    pid = victim.info.backend_pid
    suspect = suspected(server, pid)
    victim.commit()
    victim.execute("SELECT pg_catalog.pg_current_xact_id()")
    return suspect, POLICY


def not_the_oldest(server: Postgres, stack: ExitStack) -> Any:
    stack.enter_context(holding(server, "somebody"))
    victim = stack.enter_context(holding(server))
    return suspected(server, victim.info.backend_pid), POLICY


def younger_than_a_prepared_one(server: Postgres, stack: ExitStack) -> Any:
    stack.enter_context(prepared(server))
    victim = stack.enter_context(holding(server))
    return suspected(server, victim.info.backend_pid), POLICY


def waits_for_no_transaction(server: Postgres, stack: ExitStack) -> Any:
    """No slot of this name is in creation."""
    victim = stack.enter_context(holding(server))
    return suspected(server, victim.info.backend_pid, way=BlockKind.CREATION), POLICY


def waits_for_an_older_one(server: Postgres, stack: ExitStack) -> Any:
    """The creation began before this transaction: it does not wait for it so far."""
    stack.enter_context(holding(server, "somebody"))
    stack.enter_context(server.create_slot("early"))
    wait_until_blocked(server, "early")
    victim = stack.enter_context(holding(server))
    return suspected(server, victim.info.backend_pid, "early", BlockKind.CREATION), POLICY


def a_slot_that_has_moved(server: Postgres, stack: ExitStack) -> Any:
    with server.create_slot("moves") as creator:
        assert creator.wait(20)
    victim = stack.enter_context(holding(server))
    return suspected(server, victim.info.backend_pid, "moves", BlockKind.RETENTION, restart=1), POLICY


def a_slot_that_nobody_reads(server: Postgres, stack: ExitStack) -> Any:
    with server.create_slot("unread") as creator:
        assert creator.wait(20)
    [(here,)] = server.sql(
        "SELECT pg_catalog.pg_wal_lsn_diff(restart_lsn, '0/0')::int8 FROM pg_catalog.pg_replication_slots"
        " WHERE slot_name = 'unread'"
    )
    victim = stack.enter_context(holding(server))
    return suspected(server, victim.info.backend_pid, "unread", BlockKind.RETENTION, restart=here), POLICY


def prepared(server: Postgres) -> Any:
    stack = ExitStack()
    session = stack.enter_context(closing(psycopg.connect(server.conninfo(USER), autocommit=True)))
    for statement in ("BEGIN", "SELECT pg_catalog.pg_current_xact_id()", "PREPARE TRANSACTION 'gid'"):
        session.execute(statement.encode())
    stack.callback(server.sql, "ROLLBACK PREPARED 'gid'")
    return stack


def running(victim: psycopg.Connection[Any]) -> Any:
    """Have the session run a statement for as long as the context lasts."""
    stack = ExitStack()
    pgconn = victim.pgconn
    pgconn.send_query(b"SELECT pg_catalog.pg_sleep(600)")
    stack.callback(pgconn.finish)
    return stack


def state(server: Postgres, victim: psycopg.Connection[Any]) -> str | None:
    found = server.sql("SELECT state FROM pg_catalog.pg_stat_activity WHERE pid = %s", [victim.info.backend_pid])
    return str(found[0][0]) if found else None


GUARDS: dict[str, tuple[Case, str]] = {
    "active": (active, "active"),
    "idle for a moment only": (too_young, "too_young"),
    "a superuser's": (partial(of_nobody_allowed, user="chief", application=APPLICATION, users=("chief",)), "superuser"),
    "wrong user": (partial(of_nobody_allowed, user="somebody", application=APPLICATION), "user_not_allowed"),
    "wrong application": (
        partial(of_nobody_allowed, user=USER, application="importer-2"),
        "application_not_allowed",
    ),
    "no application": (partial(of_nobody_allowed, user=USER, application=""), "application_not_allowed"),
    "nobody is allowed": (
        partial(of_nobody_allowed, user=USER, application=APPLICATION, users=None, applications=None),
        "user_not_allowed",
    ),
    "wrong database": (of_another_database, "database_not_allowed"),
    "the consumer's own": (the_consumer, "consumer"),
    "the creator's own, on a standby": (the_creator_elsewhere, "consumer"),
    "a replication connection": (a_walsender, "not_a_client"),
    "the healer": (the_healer, "own"),
    "our own role": (of_our_own_role, "own"),
    "just committed, and began another": (another_transaction, "other_transaction"),
    "not the oldest": (not_the_oldest, "not_in_the_way"),
    "younger than a prepared one": (younger_than_a_prepared_one, "not_in_the_way"),
    "the slot waits for nobody": (waits_for_no_transaction, "not_in_the_way"),
    "the slot waits for an older one": (waits_for_an_older_one, "not_in_the_way"),
    "the slot has moved": (a_slot_that_has_moved, "not_in_the_way"),
    "the slot has no consumer": (a_slot_that_nobody_reads, "not_in_the_way"),
}
