"""No session is ended where the healers' table is unsafe, or the primary's clock was set forward."""

import asyncio
import time
from dataclasses import replace

import psycopg
import pytest

from healer.commands.grants import ENDER_ROLE
from healer.remedies.attempt import AttemptResult, Unavailable
from healer.remedies.registry import END_TRANSACTION
from healer.remedies.server_clock import ClockStep
from healer.remedies.terminate.blocking_transaction import BlockingTransaction
from healer.remedies.terminate.connection import Terminate, TerminationAttempt, TerminationConnection
from healer.remedies.terminate.progress import TerminationTarget
from pgslot.config.model import TerminationPolicy
from tests.support.blocking_transactions import (
    POLICY,
    alive,
    blocking_transaction,
    holding,
    set_up_roles,
    terminating,
    termination_records,
)
from tests.support.servers.postgres import Postgres
from tests.support.servers.stack import Stack


@pytest.fixture
def server(databases: Stack) -> Postgres:
    set_up_roles(databases.primary)
    return databases.primary


def connection_of(server: Postgres, policy: TerminationPolicy = POLICY) -> TerminationConnection:
    return TerminationConnection(terminating(server.conninfo(ENDER_ROLE), policy), idle_timeout=60)


def step(blocker: BlockingTransaction, seen: TerminationAttempt | None = None) -> Terminate:
    """Return the step that checks, or with the result of a check the step that ends it."""
    target = TerminationTarget(blocker, 0.0, session=None if seen is None else seen.session)
    return Terminate(1.0, target, act=seen is not None)


async def check(server: Postgres, blocker: BlockingTransaction) -> TerminationAttempt:
    """Check without acting, until the session has been idle for long enough."""
    async with connection_of(server) as primary:
        call = await primary.act(step(blocker))
        while call.refusal == "too_young":
            call = await primary.act(step(blocker))
        return call


UNSAFE_TABLES = {
    "a trigger": (
        "CREATE FUNCTION pgslot.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';"
        "CREATE TRIGGER t BEFORE INSERT ON pgslot.ended FOR EACH ROW EXECUTE FUNCTION pgslot.f()",
        "DROP TRIGGER t ON pgslot.ended; DROP FUNCTION pgslot.f()",
        "triggers, rules, policies or children",
    ),
    "a rule": (
        "CREATE RULE r AS ON INSERT TO pgslot.ended DO ALSO SELECT 1",
        "DROP RULE r ON pgslot.ended",
        "triggers, rules, policies or children",
    ),
    "a policy": (
        "CREATE POLICY p ON pgslot.ended",
        "DROP POLICY p ON pgslot.ended",
        "triggers, rules, policies or children",
    ),
    "row security": (
        "ALTER TABLE pgslot.ended ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE pgslot.ended DISABLE ROW LEVEL SECURITY",
        "triggers, rules, policies or children",
    ),
    "another owner": (
        "ALTER TABLE pgslot.ended OWNER TO somebody",
        "ALTER TABLE pgslot.ended OWNER TO postgres",
        "no superuser owns",
    ),
    "a schema of another owner": (
        "ALTER SCHEMA pgslot OWNER TO somebody",
        "ALTER SCHEMA pgslot OWNER TO postgres",
        "no superuser owns",
    ),
    "a logged table": (
        "ALTER TABLE pgslot.ended SET LOGGED",
        "ALTER TABLE pgslot.ended SET UNLOGGED",
        "FOR ALL TABLES",
    ),
    "no privilege": (
        f"REVOKE SELECT ON pgslot.ended FROM {ENDER_ROLE}",
        f"GRANT SELECT ON pgslot.ended TO {ENDER_ROLE}",
        "does not let the role",
    ),
}


@pytest.mark.parametrize(("change", "undo", "advice"), UNSAFE_TABLES.values(), ids=UNSAFE_TABLES.keys())
async def test_no_session_is_ended_where_the_table_is_unsafe(
    server: Postgres, change: str, undo: str, advice: str
) -> None:
    """The capability check says why, and so does the act if the table was changed after the session had begun."""
    with holding(server) as victim, psycopg.connect(server.conninfo(), autocommit=True) as owner:
        blocker = blocking_transaction(server, victim.info.backend_pid)
        seen = await check(server, blocker)
        async with connection_of(server) as primary:
            assert await primary.prepare() is None
            owner.execute(change.encode())
            try:
                capability = await END_TRANSACTION.check(terminating(server.conninfo(ENDER_ROLE)))
                call = await primary.act(step(blocker, seen))
            finally:
                owner.execute(undo.encode())
        assert capability.reason is Unavailable.MISSING_PRIVILEGE
        assert advice in capability.advice
        assert call.unavailable is Unavailable.MISSING_PRIVILEGE
        assert alive(server, victim.info.backend_pid)
    assert termination_records(server) == []


async def test_no_session_is_ended_when_the_clock_shows_more_than_has_passed(server: Postgres) -> None:
    """As after a step of the primary's clock: here the last reading is from a clock ten minutes behind."""
    with holding(server) as victim:
        blocker = blocking_transaction(server, victim.info.backend_pid)
        seen = await check(server, blocker)
        assert seen.capability is not None
        assert seen.capability.clock is not None
        behind = replace(seen.capability.clock, clock=seen.capability.clock.clock - 600.0)
        async with connection_of(server) as primary:
            assert await primary.prepare() is None
            primary.capability = replace(primary.capability, clock=behind)
            call = await primary.act(step(blocker))
            assert (call.result, call.refusal) == (AttemptResult.REFUSED, "clock")
            assert (await primary.act(step(blocker))).result is AttemptResult.SEEN, "the new time is known now"
        assert alive(server, victim.info.backend_pid)


async def test_clock_that_was_set_forward_shortens_neither_idle_time_nor_hour(server: Postgres) -> None:
    patient = replace(POLICY, idle_in_transaction_for=1.0, at_most_per_hour=1)
    with holding(server) as victim:
        blocker = blocking_transaction(server, victim.info.backend_pid)
        server.sql(
            "INSERT INTO pgslot.ended SELECT clock_timestamp() - '65min'::interval, 1, '', '', '', '', now(), '', ''"
        )
        await asyncio.sleep(1.1)
        async with connection_of(server, patient) as primary:
            stepped = (ClockStep(time.monotonic(), 600.0),)
            young = await primary.act(replace(step(blocker), clock_steps=stepped))
            assert young.refusal == "too_young"
            long_ago = (ClockStep(time.monotonic() - 60.0, 600.0),)
            spent = await primary.act(replace(step(blocker), clock_steps=long_ago))
            assert spent.refusal == "hour_spent"
            assert (await primary.act(step(blocker))).result is AttemptResult.SEEN
