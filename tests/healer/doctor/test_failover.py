"""What the doctor says of failover slots: a table of clusters, and a real one."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from healer.doctor.checks.failover import judge_failover
from healer.doctor.checks.servers import check_servers
from pgslot.config.model import Config, HealerSettings
from pgslot.diagnosis.failover_readiness import FIRST_MAJOR
from pgslot.snapshot.model import NodeSnapshot
from pgslot.snapshot.queries import SUPPORTED
from tests.pgslot.diagnosis.test_causes_on_servers import setting
from tests.support.builders.snapshots import SLOT, STANDBY, cluster, dark, node
from tests.support.failover_slots import (
    WORKER,
    copied,
    drop_failover_slots,
    make_slot,
    outrun,
    persistent,
    read_all,
    synchronising,
)
from tests.support.running_healer import until, watched
from tests.support.servers.stack import Stack

pytestmark = pytest.mark.timeout(240)

ITS_SLOT = SLOT._replace(slot_name="standby", slot_type="physical", confirmed_position=None)
ORIGINAL = SLOT._replace(slot_name="f", failover=True)
COPY = ORIGINAL._replace(synced=True)
SYNCHRONISES = replace(STANDBY, sync_replication_slots=True, slotsync_worker_running=True)
PRIMARY = node("p", recovery=False, slots=(ORIGINAL, ITS_SLOT))
NONE_WANTED = node("p", recovery=False, slots=(SLOT, ITS_SLOT))

CASES: dict[str, tuple[tuple[NodeSnapshot, ...], list[tuple[str, str]]]] = {
    "ready": (
        (PRIMARY, node("s", recovery=True, slots=(COPY,), standby=SYNCHRONISES)),
        [("ok", "1 failover slot(s) ready")],
    ),
    "not ready": (
        (PRIMARY, node("s", recovery=True, slots=(COPY._replace(temporary=True),), standby=SYNCHRONISES)),
        [("warning", "not ready: f not_persisted")],
    ),
    "nobody synchronises": (
        (PRIMARY, node("s", recovery=True, standby=STANDBY)),
        [("failed", "no copies of failover slots are kept: sync_replication_slots")],
    ),
    "all is missing": (
        (
            PRIMARY,
            node(
                "s",
                recovery=True,
                standby=replace(STANDBY, hot_standby_feedback=False, primary_slot_name="", upstream_dbname_given=False),
            ),
        ),
        [
            (
                "failed",
                "no copies of failover slots are kept: sync_replication_slots, hot_standby_feedback, primary_slot_name,"
                " primary_conninfo_dbname",
            )
        ],
    ),
    "the primary lacks the standby's slot": (
        (
            node("p", recovery=False, slots=(ORIGINAL,)),
            node("s", recovery=True, slots=(COPY,), standby=SYNCHRONISES),
        ),
        [("failed", "no copies of failover slots are kept: the primary has no slot standby")],
    ),
    "somebody else synchronises": (
        (
            PRIMARY,
            node("s", recovery=True, slots=(COPY,), standby=SYNCHRONISES),
            node("off", recovery=True, standby=STANDBY),
        ),
        [("ok", "1 failover slot(s) ready")],
    ),
    "somebody calls the function in place of the worker": (
        (PRIMARY, node("s", recovery=True, slots=(COPY,), standby=STANDBY)),
        [("warning", "1 failover slot(s) ready, kept in step only by whoever calls pg_sync_replication_slots()")],
    ),
    "somebody called it, and not all is ready": (
        (
            node("p", recovery=False, slots=(ORIGINAL, ORIGINAL._replace(slot_name="g"), ITS_SLOT)),
            node("s", recovery=True, slots=(COPY,), standby=STANDBY),
        ),
        [("failed", "no copies of failover slots are kept: sync_replication_slots")],
    ),
    "nobody can call it": (
        (PRIMARY, node("s", recovery=True, slots=(COPY,), standby=replace(STANDBY, hot_standby_feedback=False))),
        [("failed", "no copies of failover slots are kept: sync_replication_slots, hot_standby_feedback")],
    ),
    "nobody wants it": ((NONE_WANTED, node("s", recovery=True, standby=STANDBY)), []),
    "nobody wants it yet": (
        (NONE_WANTED, node("s", recovery=True, standby=SYNCHRONISES)),
        [("ok", "synchronises; no slot has failover set")],
    ),
    "nobody wants it yet, and it would not work": (
        (NONE_WANTED, node("s", recovery=True, standby=replace(SYNCHRONISES, upstream_dbname_given=False))),
        [("warning", "no copies of failover slots are kept: primary_conninfo_dbname")],
    ),
    "may not be read": ((PRIMARY, node("s", recovery=True, standby=None)), []),
    "dark": ((PRIMARY, dark("s")), []),
    "no primary": ((node("s", recovery=True, standby=SYNCHRONISES),), []),
}


@pytest.mark.parametrize(("nodes", "expected"), CASES.values(), ids=CASES.keys())
def test_what_is_said(nodes: tuple[NodeSnapshot, ...], expected: list[tuple[str, str]]) -> None:
    found = list(judge_failover(cluster(*nodes)))
    assert [(each.status, each.found) for each in found] == expected
    assert {each.check for each in found} <= {"failover"}
    assert all(bool(each.advice) == (each.status != "ok") for each in found)
    assert all(each.subject == "c/s" for each in found)


def test_failover_slots_without_a_standby_are_told_of_once() -> None:
    late = node("s", recovery=True, standby=replace(SYNCHRONISES, apply_delay_seconds=3600.0))
    lonely = "1 failover slot(s), and no standby under nodes that could keep copies of them"
    for nodes in ((PRIMARY,), (PRIMARY, late)):
        [finding] = judge_failover(cluster(*nodes))
        assert (finding.subject, finding.status, finding.found) == ("c/p", "warning", lonely)
        assert finding.advice
    assert list(judge_failover(cluster(NONE_WANTED, late))) == []


def test_the_remedy_names_what_to_set_and_where() -> None:
    lacking = replace(SYNCHRONISES, hot_standby_feedback=False)
    primary = node("p", recovery=False, slots=(ORIGINAL,))
    [finding] = judge_failover(cluster(primary, node("s", recovery=True, standby=lacking)))
    assert finding.advice == (
        "On s set hot_standby_feedback = on."
        " On the primary: SELECT pg_create_physical_replication_slot(...) of that name."
    )


@pytest.fixture(scope="module", params=[major for major in SUPPORTED if major >= FIRST_MAJOR])
def databases(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """In place of the session's: a primary and its standby of one version after the other."""
    with Stack(major=request.param) as stack:
        stack.start_databases()
        yield stack


@pytest.fixture(autouse=True)
def _no_leftovers(request: pytest.FixtureRequest) -> Iterator[None]:
    """In place of the one for the session's servers."""
    yield
    if "databases" in request.fixturenames:
        stack = request.getfixturevalue("databases")
        drop_failover_slots(stack.primary, stack.standby)


async def said(stack: Stack) -> list[tuple[str, str]]:
    findings = await check_servers(Config((watched(stack),), HealerSettings()))
    return [(each.status, each.found) for each in findings if each.check == "failover"]


async def test_a_real_cluster(databases: Stack) -> None:
    primary, standby = databases.primary, databases.standby
    assert await said(databases) == []
    make_slot(primary, "f")
    lacks = "no copies of failover slots are kept: sync_replication_slots, primary_conninfo_dbname"
    assert await said(databases) == [("failed", lacks)]
    outrun(primary, standby)
    with synchronising(standby):
        await until(lambda: copied(standby, "f"), "it is copied")
        assert await said(databases) == [("warning", "not ready: f not_persisted")]
        read_all(primary, "f")
        await until(lambda: persistent(standby, "f"), "it is persistent", 60)
        assert await said(databases) == [("ok", "1 failover slot(s) ready")]
        with setting(standby, "primary_slot_name", "''"):
            await until(lambda: standby.sql("SHOW primary_slot_name") == [("",)], "it is set")
            assert await said(databases) == [("failed", "no copies of failover slots are kept: primary_slot_name")]
        await until(lambda: standby.sql("SHOW primary_slot_name") == [("standby",)], "it is set again")
        standby.sql("ALTER SYSTEM SET sync_replication_slots = off")
        standby.sql("SELECT pg_catalog.pg_reload_conf()")
        await until(lambda: not standby.sql(WORKER) and standby.sql("SHOW sync_replication_slots") == [("off",)], "off")
        standby.sql("SELECT pg_catalog.pg_sync_replication_slots()")
        by_hand = "1 failover slot(s) ready, kept in step only by whoever calls pg_sync_replication_slots()"
        assert await said(databases) == [("warning", by_hand)]
