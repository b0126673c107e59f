"""Whether the healer could act, and acting, on real servers."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import psycopg
import pytest

from healer.remedies.attempt import Act, AttemptResult, Capability, Unavailable
from healer.remedies.connection import check_capability
from healer.remedies.force_snapshot.connection import RecordAttempt, RecordConnection
from healer.remedies.force_snapshot.statements import PrimaryFacts, judge
from healer.remedies.registry import FORCE_SNAPSHOT
from pgslot.config.model import HealerConfig
from pgslot.postgres.pipeline import Statement
from pgslot.postgres.types import parse_lsn
from tests.support.running_healer import healer_config, nothing_left_behind, to_primary, until
from tests.support.servers.conditions import password_required
from tests.support.servers.processes import free_port
from tests.support.servers.stack import HEALER_ROLE, POWERLESS_ROLE, Stack
from tests.support.servers.wal import MESSAGE, RUNNING_XACTS


@dataclass(frozen=True)
class ApplicationName:
    name: str


CAN = PrimaryFacts(
    in_recovery=False,
    version_num=180006,
    role="healer",
    database="app",
    wal_level="logical",
    has_function=True,
    may_execute=True,
)

JUDGEMENTS = [
    (CAN, None),
    (replace(CAN, wal_level="replica"), None),
    (replace(CAN, in_recovery=True), Unavailable.NO_PRIMARY),
    (replace(CAN, version_num=150018, has_function=False, may_execute=False), Unavailable.SERVER_TOO_OLD),
    (replace(CAN, has_function=False, may_execute=False), Unavailable.MISSING_FUNCTION),
    (replace(CAN, wal_level="minimal"), Unavailable.WAL_LEVEL),
    (replace(CAN, may_execute=False), Unavailable.MISSING_PRIVILEGE),
]


@pytest.mark.parametrize(("facts", "reason"), JUDGEMENTS)
def test_capability_follows_from_the_facts(facts: PrimaryFacts, reason: Unavailable | None) -> None:
    capability = judge(facts)
    assert capability.reason == reason
    assert bool(capability.advice) == (reason is not None)


def test_grant_quotes_names() -> None:
    remedy = judge(replace(CAN, may_execute=False, role='od"d', database="My App")).advice
    assert remedy == (
        'In database "My App": GRANT EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot() TO "od""d";'
    )


def acting(stack: Stack, role: str = HEALER_ROLE) -> HealerConfig:
    return healer_config(to_primary(stack.standby, stack.primary, role=role))


async def test_role_of_the_healer_can_act(databases: Stack) -> None:
    assert await FORCE_SNAPSHOT.check(acting(databases)) == Capability(None)


async def test_check_writes_nothing_and_leaves_no_session(databases: Stack) -> None:
    before = databases.primary.sql("SELECT pg_catalog.pg_current_wal_insert_lsn()")
    await FORCE_SNAPSHOT.check(acting(databases))
    assert databases.primary.sql("SELECT pg_catalog.pg_current_wal_insert_lsn()") == before
    await until(lambda: nothing_left_behind(databases.primary, databases.standby), "no session is left")


async def test_warm_up_has_no_effect(databases: Stack) -> None:
    databases.wait_until_idle()
    [(before,)] = databases.primary.sql("SELECT pg_catalog.pg_current_wal_insert_lsn()")
    start = parse_lsn(before)
    with databases.primary.no_records_by_itself():
        async with RecordConnection(acting(databases)) as primary:
            assert await primary.prepare() is None
            sessions = "SELECT application_name FROM pg_catalog.pg_stat_activity WHERE usename = %s"
            assert databases.primary.sql(sessions, [HEALER_ROLE]) == [("pg_slot_healer",)]
            assert databases.primary.sql("SELECT 1 FROM pg_catalog.pg_locks WHERE locktype = 'advisory'") == []
            # The warm-up does not count as a call of another healer, and the only record is this call's.
            async with RecordConnection(acting(databases)) as other:
                assert (await other.act(Act(60.0))).result is AttemptResult.OK
        await until(lambda: RUNNING_XACTS in databases.primary.kinds_since(start), "the record is on disk")
        kinds = databases.primary.kinds_since(start)
    assert (kinds.count(RUNNING_XACTS), kinds.count(MESSAGE)) == (1, 0)


async def test_confirmed_lsn_of_a_new_slot_is_the_end_of_the_forced_record(databases: Stack) -> None:
    """This tells it from a slot whose creation ended with an earlier record; observed on 16 to 19."""
    databases.wait_until_idle()
    with databases.primary.no_records_by_itself(), databases.standby.create_slot("made") as creator:
        async with RecordConnection(acting(databases)) as primary:
            call = await primary.act(Act(0.0))
            while not await asyncio.to_thread(creator.wait, 2.0):
                call = await primary.act(Act(0.0))
        confirmed = "SELECT confirmed_flush_lsn::text FROM pg_catalog.pg_replication_slots WHERE slot_name = 'made'"
        assert databases.standby.sql(confirmed) == [(call.lsn,)]


async def test_advice_for_a_missing_privilege_is_the_grant_that_works(databases: Stack) -> None:
    powerless = acting(databases, POWERLESS_ROLE)
    capability = await FORCE_SNAPSHOT.check(powerless)
    assert capability.reason is Unavailable.MISSING_PRIVILEGE
    grant = capability.advice.partition(": ")[2]
    databases.primary.sql(grant)
    try:
        assert (await FORCE_SNAPSHOT.check(powerless)).reason is None
    finally:
        databases.primary.sql(grant.replace("GRANT", "REVOKE").replace(" TO ", " FROM "))


async def test_standby_is_reported_as_no_primary(databases: Stack) -> None:
    assert (
        await FORCE_SNAPSHOT.check(healer_config(databases.standby.conninfo(HEALER_ROLE)))
    ).reason is Unavailable.NO_PRIMARY
    attributes = f"{databases.standby.conninfo(HEALER_ROLE)} target_session_attrs=read-write"
    assert (await FORCE_SNAPSHOT.check(healer_config(attributes))).reason is Unavailable.NO_PRIMARY


async def test_closed_port_is_unreachable_and_refused_role_a_failed_login(databases: Stack) -> None:
    closed = free_port()
    nowhere = f"host=127.0.0.1 port={closed} user={HEALER_ROLE} dbname=postgres"
    assert (await FORCE_SNAPSHOT.check(healer_config(nowhere))).reason is Unavailable.UNREACHABLE
    refused = await FORCE_SNAPSHOT.check(healer_config(databases.primary.conninfo("nobody_by_this_name")))
    assert refused.reason is Unavailable.LOGIN_FAILED
    assert refused.advice.startswith("A server refuses the login: ")
    assert 'role "nobody_by_this_name" does not exist' in refused.advice
    assert 'Create role "nobody_by_this_name" on the primary, as pg-slot-healer grants prints it.' in refused.advice
    # One server that refuses says more than another one that is down.
    several = (
        f"host=127.0.0.1,127.0.0.1 port={closed},{databases.primary.port} user=nobody_by_this_name dbname=postgres"
    )
    assert (await FORCE_SNAPSHOT.check(healer_config(several))).reason is Unavailable.LOGIN_FAILED


async def test_primary_that_refuses_the_login_beside_a_standby_that_does_not_is_a_failed_login(
    databases: Stack,
) -> None:
    ports = f"{databases.standby.port},{databases.primary.port}"
    both = f"host=127.0.0.1,127.0.0.1 port={ports} dbname=postgres user=asked password=wrong"
    with password_required(databases.primary, "asked", "right"):
        await until(lambda: bool(databases.standby.sql("SELECT 1 FROM pg_roles WHERE rolname = 'asked'")), "replayed")
        capability = await FORCE_SNAPSHOT.check(healer_config(f"{both} target_session_attrs=read-write"))
    assert capability.reason is Unavailable.LOGIN_FAILED
    assert capability.advice.endswith('psql sets it with: \\password "asked"')


async def test_disabled_target_is_not_connected_to() -> None:
    assert (await FORCE_SNAPSHOT.check(healer_config("host=203.0.113.1", enabled=False))).reason is Unavailable.DISABLED


@pytest.mark.servers
async def test_wal_level_minimal_is_reported(minimal: str) -> None:
    assert (await FORCE_SNAPSHOT.check(healer_config(minimal))).reason is Unavailable.WAL_LEVEL


@pytest.fixture(scope="module")
def minimal() -> Iterator[str]:
    with Stack() as stack:
        server = stack.single(wal_level="minimal", max_wal_senders="0", hot_standby_feedback="off")
        yield server.conninfo()


async def test_call_returns_the_end_of_its_record(databases: Stack) -> None:
    async with RecordConnection(acting(databases)) as primary:
        first, second = await primary.act(Act(0.0)), await primary.act(Act(0.0))
    [(current,)] = databases.primary.sql("SELECT pg_catalog.pg_current_wal_insert_lsn()::text")
    assert (first.result, second.result, second.lsn) == (AttemptResult.OK, AttemptResult.OK, current)
    assert first.lsn != second.lsn


async def test_record_lies_in_the_range_that_the_call_returns(databases: Stack) -> None:
    """Also across a page boundary: the position that a slot's restart_lsn moves to is in the range, its end is not."""
    async with RecordConnection(acting(databases)) as primary:
        first = databases.primary.lsn()
        for _ in range(150):
            call = await primary.act(Act(0.0))
            assert call.record_range is not None
            start, end = call.record_range
            assert 0 < end - start <= 56 + 24
    await until(
        lambda: databases.primary.kinds_since(first).count(RUNNING_XACTS) >= 150,
        "all records are on disk",
    )


async def test_lock_is_held_only_during_a_call(databases: Stack) -> None:
    """Another healer may call right after this one; within its own interval, this call counts for both."""
    target = acting(databases)
    async with RecordConnection(target) as first, RecordConnection(target) as second:
        assert (await first.act(Act(1.0))).result is AttemptResult.OK
        assert _no_lock(databases)
        locked = await second.act(Act(60.0))
        assert (locked.result, locked.lock_holder) == (AttemptResult.LOCKED, None)
        assert (await second.act(Act(0.0))).result is AttemptResult.OK
        # A call that was not made does not count for the first healer.
        assert (await second.act(Act(60.0))).result is AttemptResult.LOCKED
        await until(partial(_quiet_for, databases, 0.4), "the second has not called for a while")
        assert (await first.act(Act(0.2))).result is AttemptResult.OK


def _quiet_for(stack: Stack, seconds: float) -> bool:
    sessions = stack.primary.sql(
        "SELECT 1 FROM pg_catalog.pg_stat_activity WHERE application_name LIKE 'pg_slot_healer called %%'"
        " AND query_start > pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => %s)",
        [seconds],
    )
    return not sessions


async def test_server_ends_the_session_of_a_hung_healer(databases: Stack) -> None:
    """PostgreSQL ends its idle session, and it connects again when it continues."""
    target = acting(databases)
    async with RecordConnection(target, idle_timeout=1.0) as hung, RecordConnection(target) as other:
        assert (await hung.act(Act(0.0))).result is AttemptResult.OK
        assert (await other.act(Act(60.0))).result is AttemptResult.LOCKED
        await until(lambda: not hung.ready, "the server has ended the session")
        assert (await other.act(Act(60.0))).result is AttemptResult.OK
        assert (await hung.act(Act(0.0))).result is AttemptResult.OK


async def test_foreign_lock_holder_is_named(databases: Stack) -> None:
    with psycopg.connect(databases.primary.conninfo(), autocommit=True, application_name="cron") as cron:
        cron.execute("SELECT pg_catalog.pg_advisory_lock(x'7067736c6f74'::int8)")
        async with RecordConnection(acting(databases)) as primary:
            call = await primary.act(Act(0.0))
    assert call.result is AttemptResult.LOCKED
    assert call.lock_holder is not None
    assert call.lock_holder.endswith("user=postgres application=cron")


async def test_idle_timeout_of_weeks_is_accepted_by_the_server(databases: Stack) -> None:
    """`interval: 10d` asks for one; 2^31 ms are 24 days."""
    async with RecordConnection(acting(databases), idle_timeout=30 * 86400.0) as primary:
        assert (await primary.act(Act(0.0))).result is AttemptResult.OK


def _no_lock(stack: Stack) -> bool:
    return not stack.primary.sql("SELECT 1 FROM pg_catalog.pg_locks WHERE locktype = 'advisory'")


async def test_call_without_the_privilege_reports_it(databases: Stack) -> None:
    async with RecordConnection(acting(databases, POWERLESS_ROLE)) as primary:
        call = await primary.act(Act(0.0))
    assert call.result is AttemptResult.UNAVAILABLE
    assert call.capability is not None
    assert call.capability.reason is Unavailable.MISSING_PRIVILEGE


async def test_privilege_revoked_during_an_episode_is_noticed(databases: Stack) -> None:
    powerless = acting(databases, POWERLESS_ROLE)
    function = "FUNCTION pg_catalog.pg_log_standby_snapshot()"
    databases.primary.sql(f"GRANT EXECUTE ON {function} TO {POWERLESS_ROLE}")
    async with RecordConnection(powerless) as primary:
        assert (await primary.act(Act(0.0))).result is AttemptResult.OK
        databases.primary.sql(f"REVOKE EXECUTE ON {function} FROM {POWERLESS_ROLE}")
        call = await primary.act(Act(0.0))
    assert call.capability is not None
    assert call.capability.reason is Unavailable.MISSING_PRIVILEGE


@pytest.mark.servers
async def test_failover_during_an_episode_is_followed() -> None:
    with Stack() as stack:
        stack.start_databases()
        async with RecordConnection(acting(stack)) as primary:
            assert (await primary.act(Act(0.0))).result is AttemptResult.OK
            stack.primary.kill()
            lost = await primary.act(Act(0.0))
            assert lost.capability is not None
            assert lost.capability.reason is Unavailable.NO_PRIMARY
            stack.standby.promote()
            assert (await primary.act(Act(0.0))).result is AttemptResult.OK


END_OWN_SESSION = "SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())"


async def test_act_whose_connection_breaks_is_an_error_of_a_primary_that_is_there(databases: Stack) -> None:
    class Breaking(RecordConnection):
        async def _act(self, step: Act) -> RecordAttempt:
            assert self.session is not None
            await self.session.fetch([(END_OWN_SESSION, PrimaryFacts)], 5.0)
            return await super()._act(step)

    async with Breaking(acting(databases)) as primary:
        broken = await primary.act(Act(0.0))
    assert (broken.result, broken.capability) == (AttemptResult.ERROR, Capability(None))
    assert "terminating connection" in broken.error


async def test_check_whose_connection_breaks_does_not_say_that_there_is_no_primary(databases: Stack) -> None:
    class Breaking(RecordConnection):
        facts = (END_OWN_SESSION, PrimaryFacts)

    capability = await check_capability(acting(databases), Breaking)
    assert capability.reason is Unavailable.UNREACHABLE
    assert capability.advice.startswith("The connection to the primary failed: terminating connection")


async def test_clock_that_was_set_back_locks_no_healer_out(databases: Stack) -> None:
    """Both have called before; the times that their sessions left then are an hour ahead of the clock now."""
    ahead = Statement(
        "SELECT pg_catalog.set_config('application_name', 'pg_slot_healer called ' || pg_catalog.to_char("
        "(pg_catalog.clock_timestamp() + interval '1 hour') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.MS'), false)"
        " AS name",
        ApplicationName,
    )
    target = acting(databases)
    async with RecordConnection(target) as first, RecordConnection(target) as second:
        for healer in (first, second):
            assert (await healer.act(Act(0.0))).result is AttemptResult.OK
            assert healer.session is not None
            await healer.session.fetch([ahead], 5.0)
        assert (await first.act(Act(0.2))).result is AttemptResult.OK


async def test_server_of_another_cluster_is_not_acted_on(databases: Stack) -> None:
    """As with a conninfo that names the re-used address of a former member."""
    async with RecordConnection(acting(databases)) as connection:
        connection.expected_identifier = "7000000000000000001"
        foreign = await connection.act(Act(0.0))
        assert foreign.result is AttemptResult.ERROR
        assert "expected the system identifier 7000000000000000001, found 7" in foreign.error
        [(identifier,)] = databases.primary.sql("SELECT system_identifier::text FROM pg_control_system()")
        connection.expected_identifier = identifier
        assert (await connection.act(Act(0.0))).result is AttemptResult.OK
