"""A conninfo that leads to a connection pooler: a real pgbouncer."""

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from healer.doctor.checks.servers import check_servers
from healer.doctor.result import CheckStatus
from healer.remedies.attempt import Act, AttemptResult, Capability, Unavailable
from healer.remedies.force_snapshot.connection import RecordConnection
from healer.remedies.registry import FORCE_SNAPSHOT
from pgslot.config.model import Config, HealerConfig
from tests.support.hanging_creations import hanging_creation
from tests.support.running_healer import QUICK, alert, healer_config, healing, until, watched
from tests.support.servers.pooler import Pooler
from tests.support.servers.stack import HEALER_ROLE, Stack


@pytest.fixture
def folder(databases: Stack) -> Path:
    """A folder that a program of another user can reach; pytest's own cannot be."""
    return databases.folder


@pytest.fixture
def transaction(databases: Stack, folder: Path) -> Iterator[Pooler]:
    with Pooler(databases.primary, folder, "transaction") as pooler:
        yield pooler


def conninfo(pooler: Pooler) -> str:
    return f"host=127.0.0.1 port={pooler.port} dbname=postgres user={HEALER_ROLE}"


def target(pooler: Pooler) -> HealerConfig:
    return healer_config(conninfo(pooler))


async def test_pooler_in_transaction_mode_is_detected_and_its_sessions_stay_clean(
    databases: Stack, transaction: Pooler
) -> None:
    """A setting made there would stay for the next client, which could no longer write."""
    capability = await FORCE_SNAPSHOT.check(target(transaction))
    assert capability.reason is Unavailable.POOLER
    assert "transaction mode" in capability.advice
    async with RecordConnection(target(transaction)) as primary:
        call = await primary.act(Act(0.0))
    assert call.result is AttemptResult.UNAVAILABLE
    assert call.capability == capability
    with psycopg.connect(conninfo(transaction), autocommit=True, prepare_threshold=None) as next_client:
        for name, clean in (
            ("default_transaction_read_only", "off"),
            ("statement_timeout", "0"),
            ("idle_session_timeout", "0"),
        ):
            assert next_client.execute(f"SHOW {name}".encode()).fetchone() == (clean,)
    locks = "SELECT 1 FROM pg_catalog.pg_locks WHERE locktype = 'advisory'"
    assert databases.primary.sql(locks) == []


async def test_pooler_is_reported_by_the_gauge_and_by_the_outcome(databases: Stack, transaction: Pooler) -> None:
    with hanging_creation(databases, "pooled"):
        async with healing(watched(databases, conninfo=conninfo(transaction))) as healer:
            await healer.post(alert("pooled"))
            episode = await healer.ended()
            gauge = await healer.value("pgslot_heal_capability_unavailable", cluster="c", reason="pooler")
    assert (episode["outcome"], episode["why"], episode["calls"]) == ("unavailable", "pooler", 0)
    assert gauge == 1


async def test_pooler_in_session_mode_is_accepted(databases: Stack, folder: Path) -> None:
    with Pooler(databases.primary, folder, "session") as pooler:
        assert await FORCE_SNAPSHOT.check(target(pooler)) == Capability(None)
        async with RecordConnection(target(pooler)) as primary:
            assert (await primary.act(Act(0.0))).result is AttemptResult.OK

    def no_session() -> bool:
        mine = "SELECT 1 FROM pg_catalog.pg_stat_activity WHERE usename = %s"
        return not databases.primary.sql(mine, [HEALER_ROLE])

    await until(no_session, "no session is left")


async def test_server_is_not_taken_for_a_pooler(databases: Stack) -> None:
    """And costs no second connection."""
    direct = healer_config(databases.primary.conninfo(HEALER_ROLE))
    sessions = "SELECT sessions FROM pg_catalog.pg_stat_database WHERE datname = 'postgres'"
    assert await FORCE_SNAPSHOT.check(direct) == Capability(None)
    assert databases.primary.sql(sessions)[0][0] is not None


async def test_doctor_advises_about_a_pooler(databases: Stack, transaction: Pooler) -> None:
    findings = await check_servers(Config((watched(databases, conninfo=conninfo(transaction)),), QUICK))
    [capability] = [finding for finding in findings if finding.check == "capability"]
    assert capability.status is CheckStatus.FAILED
    assert "pooler" in capability.found
    assert "name the servers themselves" in capability.advice
