"""Some scenarios of the judge on a real server; `make judge` runs them by the dozen on every version."""

import random
import time
from collections.abc import Iterator

import pytest

from healer.remedies.terminate import schedule
from tests.simulations.terminations import judge, on_servers, oracle
from tests.simulations.terminations.on_servers import REAL_POLICY, ServerJudge, judged
from tests.simulations.terminations.scenarios import SET_UP, OpenSession, Scene, lone_holder, older_without_wal
from tests.support.blocking_transactions import cluster_with_termination, set_up_roles
from tests.support.running_healer import healing, impatient
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import Stack

pytestmark = pytest.mark.simulation


@pytest.fixture(autouse=True)
def _quick(databases: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    set_up_roles(databases.primary)
    databases.primary.sql(SET_UP)
    monkeypatch.setattr(schedule, "CONFIRM_SECONDS", 1.0)
    monkeypatch.setattr(on_servers, "AFTER_SECONDS", 1.0)
    with impatient():
        yield


async def test_sessions_that_are_ended_held_the_slot_by_its_wal(
    databases: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    judges = ServerJudge(databases.primary, databases.standby)
    chance = random.Random(1)
    with judged(judges):
        async with healing(cluster_with_termination(databases, REAL_POLICY)) as healer:
            await on_servers.run_held(databases, judges, healer, chance, "kept_by_one", lone_holder)
            # Nothing happens in it: the seconds are for what must not.
            monkeypatch.setattr(on_servers, "SCENARIO_SECONDS", 8.0)
            await on_servers.run_held(databases, judges, healer, chance, "kept_by_another", older_without_wal)
    assert not judges.mistakes, judges.details
    assert judges.acts["lone_holder"] == 1
    assert judges.outcomes["healed"] == 1


def held(judges: ServerJudge, holder: OpenSession) -> oracle.Observation | None:
    """Log a record; return the slot once its restart_lsn is the one that the holder allows."""
    judges.server.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
    at = judges.before("kept")
    assert at.restart is not None
    assert at.confirmed is not None
    return at if holder.xid in oracle.holders(judges.records(at.restart, at.confirmed), at.restart) else None


async def test_judge_convicts_the_end_of_a_session_that_did_not_hold_the_slot(databases: Stack) -> None:
    """The judge is asked about an end that no healer made."""
    primary = databases.primary
    judges = ServerJudge(primary, databases.standby)
    judges.scene = scene = Scene(primary, random.Random(1), "kept")
    try:
        scene.start_slot()
        silent, holder = scene.open(kind="xid only"), scene.open(kind="table")
        await scene.write()
        before = wait_for(lambda: held(judges, holder), "the slot stands where the session's WAL begins")
        # However long the slot took to stand there.
        silent.idle_since = time.monotonic()
        judges.acted(silent.pid, "kept", before, before)
        assert set(judges.mistakes) == {judge.NOT_THE_HOLDER, judge.NOT_ALLOWED}, "nor was it idle for long"
        judges.mistakes.clear()
        judges.acted(holder.pid, "kept", before, before)
        assert judge.NOT_THE_HOLDER not in judges.mistakes
    finally:
        await scene.close()
        primary.drop_slot("kept")
