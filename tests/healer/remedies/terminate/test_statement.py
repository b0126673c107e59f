"""The statement that checks and terminates, on every version: which session ends, and the guards that refuse."""

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import psycopg
import pytest

from healer.commands.grants import ENDER_ROLE
from healer.remedies.attempt import AttemptResult, Unavailable
from healer.remedies.registry import END_TRANSACTION
from healer.remedies.terminate.blocking_transaction import BlockingTransaction, BlockKind
from healer.remedies.terminate.connection import Terminate, TerminationAttempt, TerminationConnection
from healer.remedies.terminate.progress import TerminationTarget
from pgslot.config.model import TerminationPolicy
from pgslot.snapshot.queries import SUPPORTED
from tests.support.blocking_transactions import (
    APPLICATION,
    POLICY,
    USER,
    alive,
    blocking_transaction,
    delete_records,
    holding,
    set_up_roles,
    terminating,
    termination_records,
    wait_until_blocked,
    wait_until_gone,
)
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import Stack
from tests.support.termination_guards import GUARDS, Case, running_statement, state


@pytest.fixture(scope="module", params=SUPPORTED)
def server(request: pytest.FixtureRequest) -> Iterator[Postgres]:
    with Stack(major=request.param) as stack:
        single = stack.single()
        set_up_roles(single)
        yield single


@pytest.fixture(autouse=True)
def _no_records(request: pytest.FixtureRequest) -> None:
    if "server" in request.fixturenames:
        server: Postgres = request.getfixturevalue("server")
        server.reset()
        delete_records(server)


def connection_of(
    server: Postgres, policy: TerminationPolicy = POLICY, role: str = ENDER_ROLE
) -> TerminationConnection:
    return TerminationConnection(terminating(server.conninfo(role), policy), idle_timeout=60)


def step(blocker: BlockingTransaction, seen: TerminationAttempt | None = None) -> Terminate:
    """Return the step that checks, or with the result of a check the step that ends it."""
    target = TerminationTarget(blocker, 0.0, session=None if seen is None else seen.session)
    return Terminate(1.0, target, act=seen is not None)


async def check(
    server: Postgres, blocker: BlockingTransaction, policy: TerminationPolicy = POLICY
) -> TerminationAttempt:
    """Check without acting, until the session has been idle for long enough."""
    async with connection_of(server, policy) as primary:
        call = await primary.act(step(blocker))
        while call.refusal == "too_young" and policy is POLICY:
            call = await primary.act(step(blocker))
        return call


async def check_and_end(
    server: Postgres,
    blocker: BlockingTransaction,
    policy: TerminationPolicy = POLICY,
    between: Callable[[], object] = int,
) -> TerminationAttempt:
    """Check it, call `between`, and end it."""
    seen = await check(server, blocker)
    assert seen.result is AttemptResult.SEEN, (seen.error, seen)
    between()
    async with connection_of(server, policy) as primary:
        return await primary.act(step(blocker, seen))


async def test_checked_session_is_terminated_and_recorded(server: Postgres) -> None:
    with holding(server) as victim:
        pid = victim.info.backend_pid
        with server.create_slot("waits") as creator:
            wait_until_blocked(server, "waits")
            call = await check_and_end(server, blocking_transaction(server, pid, "waits", BlockKind.CREATION))
            assert (call.result, call.refusal) == (AttemptResult.ENDED, None)
            assert call.session is not None
            assert (call.session.pid, call.session.usename) == (pid, USER)
            assert call.rule == "users: [billing], applications: [importer], idle_in_transaction_for: 0.05s"
            wait_until_gone(server, pid)
            assert creator.wait(20)
        assert creator.error is None
    assert termination_records(server) == [(USER, APPLICATION, "waits", "slot waits waits for it in its creation")]
    assert not server.sql("SELECT 1 FROM pg_catalog.pg_locks WHERE locktype = 'advisory'")
    server.drop_slot("waits")


async def test_aborted_transaction_that_holds_an_xid_is_ended(server: Postgres) -> None:
    """The session's state is `idle in transaction (aborted)`."""
    with holding(server) as victim:
        victim.execute("SAVEPOINT here")
        with pytest.raises(psycopg.errors.DivisionByZero):
            victim.execute("SELECT 1 / 0")
        call = await check_and_end(server, blocking_transaction(server, victim.info.backend_pid))
        assert call.result is AttemptResult.ENDED
        assert call.session is not None
        assert call.session.state == "idle in transaction (aborted)"


@pytest.mark.parametrize(("case", "refusal"), GUARDS.values(), ids=GUARDS.keys())
async def test_guard_refuses_and_the_session_survives(server: Postgres, case: Case, refusal: str) -> None:
    """It refuses to check, and to act as if an earlier check had passed."""
    with ExitStack() as stack:
        blocker, policy = case(server, stack)
        assert blocker.pid is not None
        async with connection_of(server, policy) as primary:
            call = await primary.act(step(blocker))
            while call.refusal == "too_young" != refusal:
                call = await primary.act(step(blocker))
            assert (call.result, call.refusal) == (AttemptResult.REFUSED, refusal)
            if call.session is not None:
                blind = await primary.act(step(blocker, call))
                assert (blind.result, blind.refusal) == (AttemptResult.REFUSED, refusal)
        assert alive(server, blocker.pid)
        assert termination_records(server) == []
    for slot in ("early", "moves", "unread"):
        server.drop_slot(slot)


SLOWLY = """
CREATE FUNCTION slowly(n int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$
BEGIN
  IF EXISTS (
    SELECT FROM pg_catalog.pg_stat_activity
    WHERE pid = pg_catalog.pg_backend_pid() AND backend_type = 'autovacuum worker'
  ) THEN
    PERFORM pg_catalog.pg_current_xact_id(), pg_catalog.pg_sleep(60);
  END IF;
  RETURN n;
END $$
"""
SETTINGS = ("autovacuum = on", "autovacuum_naptime = '1s'")


async def test_autovacuum_worker_survives(server: Postgres) -> None:
    """A worker that analyzes a table and has an xid survives, also if it was taken for a client."""
    server.sql(SLOWLY)
    server.sql("CREATE TABLE worked (n int) WITH (autovacuum_analyze_threshold = 1)")
    server.sql("CREATE INDEX ON worked (slowly(n))")
    server.sql("INSERT INTO worked SELECT generate_series(1, 100)")
    for setting in SETTINGS:
        server.sql(f"ALTER SYSTEM SET {setting}")
    server.sql("SELECT pg_catalog.pg_reload_conf()")
    worker = (
        "SELECT pid FROM pg_catalog.pg_stat_activity"
        " WHERE backend_type = 'autovacuum worker' AND backend_xid IS NOT NULL AND query LIKE '%worked%'"
    )
    try:
        [(pid,)] = await asyncio.to_thread(wait_for, lambda: server.sql(worker) or None, "it analyzes", 60.0)
        async with connection_of(server) as primary:
            call = await primary.act(step(blocking_transaction(server, pid)))
            assert (call.result, call.refusal) == (AttemptResult.REFUSED, "not_a_client")
            blind = await primary.act(step(blocking_transaction(server, pid), call))
            assert blind.refusal == "not_a_client"
        assert alive(server, pid)
    finally:
        for setting in SETTINGS:
            server.sql(f"ALTER SYSTEM RESET {setting.partition(' ')[0]}")
        server.sql("SELECT pg_catalog.pg_reload_conf()")
        server.sql(worker.replace("SELECT pid", "SELECT pg_catalog.pg_terminate_backend(pid)"))
        server.sql("DROP TABLE worked")
        server.sql("DROP FUNCTION slowly")


CHANGES = {
    "just became active": "active",
    "was used meanwhile": "changed",
    "just committed": "changed",
    "the pid belongs to another session": "changed",
}


@pytest.mark.parametrize("change", CHANGES)
async def test_session_that_changed_between_two_checks_survives(server: Postgres, change: str) -> None:
    with ExitStack() as stack:
        victim = stack.enter_context(holding(server))
        pid = victim.info.backend_pid
        blocker = blocking_transaction(server, pid)
        seen = await check(server, blocker)
        assert seen.session is not None
        match change:
            case "just became active":
                stack.enter_context(running_statement(victim))
                wait_for(lambda: state(server, victim) == "active" or None, "its statement runs")
            case "was used meanwhile":
                victim.execute("SELECT 1")
            case "just committed":
                victim.commit()
            case _:
                # The server gives out a pid again only after some ten thousand others.
                started = replace(seen.session, backend_start=f"{float(seen.session.backend_start) - 60:.6f}")
                seen = replace(seen, session=started)
        async with connection_of(server) as primary:
            call = await primary.act(step(blocker, seen))
        assert (call.result, call.refusal) == (AttemptResult.REFUSED, "changed")
        assert alive(server, pid)
        assert termination_records(server) == []


async def test_session_that_is_gone_is_refused(server: Postgres) -> None:
    with holding(server) as victim:
        pid = victim.info.backend_pid
        blocker = blocking_transaction(server, pid)
        seen = await check(server, blocker)
    wait_until_gone(server, pid)
    async with connection_of(server) as primary:
        call = await primary.act(step(blocker, seen))
    assert (call.result, call.refusal) == (AttemptResult.REFUSED, "gone")


@pytest.mark.parametrize("held_by", ["prepared", "autovacuum worker", "walsender", "logical replication apply worker"])
async def test_backend_that_is_not_a_client_is_refused_without_a_connection(held_by: str) -> None:
    blocker = BlockingTransaction(
        "s", BlockKind.CREATION, None if held_by == "prepared" else 1, 7, held_by, USER, APPLICATION
    )
    nowhere = terminating("host=203.0.113.1")
    async with TerminationConnection(nowhere, idle_timeout=60) as primary:
        call = await primary.act(step(blocker))
    assert (call.result, call.refusal) == (
        AttemptResult.REFUSED,
        "prepared" if held_by == "prepared" else "not_a_client",
    )


async def test_second_session_within_the_hour_survives(server: Postgres) -> None:
    """The rows count, also for another healer or after a restart."""
    once = replace(POLICY, at_most_per_hour=1)
    with holding(server) as first:
        assert (
            await check_and_end(server, blocking_transaction(server, first.info.backend_pid), once)
        ).result is AttemptResult.ENDED
        first.close()
    with holding(server) as second:
        blocker = blocking_transaction(server, second.info.backend_pid)
        seen = await check(server, blocker)
        async with connection_of(server, once) as primary:
            call = await primary.act(step(blocker, seen))
        assert (call.result, call.refusal) == (AttemptResult.REFUSED, "hour_spent")
        server.sql("UPDATE pgslot.ended SET ended_at = ended_at - interval '1 hour'")
        async with connection_of(server, once) as primary:
            assert (await primary.act(step(blocker, seen))).result is AttemptResult.ENDED


async def test_session_survives_while_another_healer_holds_the_lock(server: Postgres) -> None:
    with holding(server) as victim, psycopg.connect(server.conninfo(), autocommit=True) as other:
        other.execute("SELECT pg_catalog.pg_advisory_lock(x'706773656e64'::int8)")
        call = await check_and_end(server, blocking_transaction(server, victim.info.backend_pid))
        assert call.result is AttemptResult.LOCKED
        assert alive(server, victim.info.backend_pid)


async def test_dry_run_reports_the_session_which_survives(server: Postgres) -> None:
    dry = replace(POLICY, dry_run=True)
    with holding(server) as victim:
        call = await check_and_end(server, blocking_transaction(server, victim.info.backend_pid), dry)
        assert call.result is AttemptResult.DRY_RUN
        assert alive(server, victim.info.backend_pid)
    assert termination_records(server) == []


async def test_session_survives_if_its_row_cannot_be_written(server: Postgres) -> None:
    with holding(server) as victim:
        blocker = blocking_transaction(server, victim.info.backend_pid)
        seen = await check(server, blocker)
        server.sql("ALTER TABLE pgslot.ended ADD CONSTRAINT full_up CHECK (false) NOT VALID")
        try:
            async with connection_of(server) as primary:
                call = await primary.act(step(blocker, seen))
        finally:
            server.sql("ALTER TABLE pgslot.ended DROP CONSTRAINT full_up")
        assert call.result is AttemptResult.ERROR
        assert alive(server, victim.info.backend_pid)


async def test_capability_names_the_missing_privilege(server: Postgres) -> None:
    assert (await END_TRANSACTION.check(terminating(server.conninfo(ENDER_ROLE)))).reason is None
    for membership in ("pg_signal_backend", "pg_read_all_stats"):
        server.sql(f"REVOKE {membership} FROM {ENDER_ROLE}")
        capability = await END_TRANSACTION.check(terminating(server.conninfo(ENDER_ROLE)))
        assert capability.reason is Unavailable.MISSING_PRIVILEGE
        server.sql(capability.advice)
        assert (await END_TRANSACTION.check(terminating(server.conninfo(ENDER_ROLE)))).reason is None
    missing = await END_TRANSACTION.check(terminating(server.conninfo(ENDER_ROLE, "template1")))
    assert missing.reason is Unavailable.MISSING_PRIVILEGE
    assert "pg-slot-healer grants --end-transactions" in missing.advice


async def test_session_hidden_from_the_role_survives(server: Postgres) -> None:
    with holding(server) as victim:
        blocker = blocking_transaction(server, victim.info.backend_pid)
        seen = await check(server, blocker)
        async with connection_of(server) as primary:
            assert await primary.prepare() is None
            server.sql(f"REVOKE pg_read_all_stats FROM {ENDER_ROLE}")
            try:
                checked = await primary.act(step(blocker))
                acted = await primary.act(step(blocker, seen))
            finally:
                server.sql(f"GRANT pg_read_all_stats TO {ENDER_ROLE}")
        assert (checked.result, checked.refusal) == (AttemptResult.REFUSED, "hidden")
        assert (acted.result, acted.unavailable) == (AttemptResult.UNAVAILABLE, Unavailable.MISSING_PRIVILEGE)
        assert alive(server, victim.info.backend_pid)


async def test_role_can_only_insert_rows(server: Postgres) -> None:
    with psycopg.connect(server.conninfo(ENDER_ROLE), autocommit=True) as role:
        for statement in (
            "DELETE FROM pgslot.ended",
            "UPDATE pgslot.ended SET pid = 0",
            "INSERT INTO pgslot.ended (ended_at) VALUES ('-infinity')",
            "CREATE TABLE pgslot.more (n int)",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                role.execute(statement.encode())
