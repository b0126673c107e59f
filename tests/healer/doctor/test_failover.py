"""The doctor's findings about failover slots: a table of clusters, and a real one."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from healer.doctor.checks.failover import judge_failover
from healer.doctor.checks.servers import check_servers
from pgslot.config.model import Config, HealerSettings
from pgslot.diagnosis.failover_readiness import FIRST_MAJOR
from pgslot.snapshot.model import NodeSnapshot
from pgslot.snapshot.queries import SUPPORTED
from tests.support.builders.snapshots import FACTS, SLOT, STANDBY, cluster, node, unreachable_node
from tests.support.failover_slots import (
    WORKER,
    advance_horizon,
    copied,
    create_failover_slot,
    drop_failover_slots,
    persistent,
    read_all,
    synchronising,
)
from tests.support.running_healer import until, watched
from tests.support.servers.conditions import changed_setting
from tests.support.servers.stack import Stack

pytestmark = pytest.mark.timeout(240)

PHYSICAL_SLOT = SLOT._replace(slot_name="standby", slot_type="physical", confirmed_position=None)
ORIGINAL = SLOT._replace(slot_name="f", failover=True, confirmed_position=5000)
COPY = ORIGINAL._replace(synced=True)
STALE = COPY._replace(active=False, confirmed_position=1, inactive_since=FACTS.server_time - 7200)
REPLAYED = replace(FACTS, in_recovery=True, wal_written_bytes=1_000_000)
SYNCHRONISES = replace(STANDBY, sync_replication_slots=True, slotsync_worker_running=True)
PRIMARY = node("p", recovery=False, slots=(ORIGINAL, PHYSICAL_SLOT))
WITHOUT_FAILOVER_SLOTS = node("p", recovery=False, slots=(SLOT, PHYSICAL_SLOT))

CASES: dict[str, tuple[tuple[NodeSnapshot, ...], list[tuple[str, str]]]] = {
    "ready": (
        (PRIMARY, node("s", recovery=True, slots=(COPY,), standby=SYNCHRONISES)),
        [("ok", "1 failover slot(s) ready")],
    ),
    "not ready": (
        (PRIMARY, node("s", recovery=True, slots=(COPY._replace(temporary=True),), standby=SYNCHRONISES)),
        [("warning", "not ready: f not_persisted")],
    ),
    "the worker fails": (
        (PRIMARY, node("s", recovery=True, slots=(STALE,), facts=REPLAYED, standby=SYNCHRONISES)),
        [("warning", "not ready: f stale, last synchronised 2 h 0 min ago")],
    ),
    "the worker has lost its database": (
        (
            PRIMARY,
            node(
                "s",
                recovery=True,
                slots=(STALE,),
                facts=REPLAYED,
                standby=replace(SYNCHRONISES, upstream_dbname_given=False),
            ),
        ),
        [
            (
                "failed",
                "copies of failover slots are no longer synchronised: primary_conninfo_dbname"
                " (f stale, last synchronised 2 h 0 min ago)",
            )
        ],
    ),
    "it was called by hand, and is called no more": (
        (PRIMARY, node("s", recovery=True, slots=(STALE,), facts=REPLAYED, standby=STANDBY)),
        [
            (
                "failed",
                "copies of failover slots are no longer synchronised: sync_replication_slots"
                " (f stale, last synchronised 2 h 0 min ago)",
            )
        ],
    ),
    "no standby synchronises": (
        (PRIMARY, node("s", recovery=True, standby=STANDBY)),
        [("failed", "no copies of failover slots are kept: sync_replication_slots")],
    ),
    "all settings are missing": (
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
    "another standby synchronises": (
        (
            PRIMARY,
            node("s", recovery=True, slots=(COPY,), standby=SYNCHRONISES),
            node("off", recovery=True, standby=STANDBY),
        ),
        [("ok", "1 failover slot(s) ready")],
    ),
    "pg_sync_replication_slots() is called instead of the worker": (
        (PRIMARY, node("s", recovery=True, slots=(COPY,), standby=STANDBY)),
        [("warning", "1 failover slot(s) ready, synchronised only while something calls pg_sync_replication_slots()")],
    ),
    "it was called, and not all slots are ready": (
        (
            node("p", recovery=False, slots=(ORIGINAL, ORIGINAL._replace(slot_name="g"), PHYSICAL_SLOT)),
            node("s", recovery=True, slots=(COPY,), standby=STANDBY),
        ),
        [("failed", "no copies of failover slots are kept: sync_replication_slots")],
    ),
    "it cannot work": (
        (PRIMARY, node("s", recovery=True, slots=(COPY,), standby=replace(STANDBY, hot_standby_feedback=False))),
        [("failed", "no copies of failover slots are kept: sync_replication_slots, hot_standby_feedback")],
    ),
    "no failover slots": ((WITHOUT_FAILOVER_SLOTS, node("s", recovery=True, standby=STANDBY)), []),
    "a standby synchronises, and there are no failover slots yet": (
        (WITHOUT_FAILOVER_SLOTS, node("s", recovery=True, standby=SYNCHRONISES)),
        [("ok", "synchronises; no slot has failover set")],
    ),
    "there are no failover slots yet, and the standby lacks a setting": (
        (WITHOUT_FAILOVER_SLOTS, node("s", recovery=True, standby=replace(SYNCHRONISES, upstream_dbname_given=False))),
        [("warning", "no copies of failover slots are kept: primary_conninfo_dbname")],
    ),
    "the standby's settings may not be read": ((PRIMARY, node("s", recovery=True, standby=None)), []),
    "the standby does not answer": ((PRIMARY, unreachable_node("s")), []),
    "no primary": ((node("s", recovery=True, standby=SYNCHRONISES),), []),
}


@pytest.mark.parametrize(("nodes", "expected"), CASES.values(), ids=CASES.keys())
def test_findings_about_a_standby(nodes: tuple[NodeSnapshot, ...], expected: list[tuple[str, str]]) -> None:
    findings = list(judge_failover(cluster(*nodes)))
    assert [(finding.status, finding.found) for finding in findings] == expected
    assert {finding.check for finding in findings} <= {"failover"}
    assert all(bool(finding.advice) == (finding.status != "ok") for finding in findings)
    assert all(finding.subject == "c/s" for finding in findings)


def test_failover_slots_without_a_standby_make_one_finding() -> None:
    delayed = node("s", recovery=True, standby=replace(SYNCHRONISES, apply_delay_seconds=3600.0))
    found = "1 failover slot(s), but no standby under nodes that could keep copies of them"
    for nodes in ((PRIMARY,), (PRIMARY, delayed)):
        [finding] = judge_failover(cluster(*nodes))
        assert (finding.subject, finding.status, finding.found) == ("c/p", "warning", found)
        assert finding.advice
    assert list(judge_failover(cluster(WITHOUT_FAILOVER_SLOTS, delayed))) == []


def test_advice_names_the_settings_and_the_server() -> None:
    lacking = replace(SYNCHRONISES, hot_standby_feedback=False)
    primary = node("p", recovery=False, slots=(ORIGINAL,))
    [finding] = judge_failover(cluster(primary, node("s", recovery=True, standby=lacking)))
    assert finding.advice == (
        "On s set hot_standby_feedback = on."
        " On the primary: SELECT pg_create_physical_replication_slot(...) with that name."
    )


@pytest.fixture(scope="module", params=[major for major in SUPPORTED if major >= FIRST_MAJOR])
def databases(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """In place of the session's fixture: a primary and its standby, of each version in turn."""
    with Stack(major=request.param) as stack:
        stack.start_databases()
        yield stack


@pytest.fixture(autouse=True)
def _no_leftovers(request: pytest.FixtureRequest) -> Iterator[None]:
    """In place of the fixture for the session's servers."""
    yield
    if "databases" in request.fixturenames:
        stack = request.getfixturevalue("databases")
        drop_failover_slots(stack.primary, stack.standby)


async def failover_findings(stack: Stack) -> list[tuple[str, str]]:
    findings = await check_servers(Config((watched(stack),), HealerSettings()))
    return [(finding.status, finding.found) for finding in findings if finding.check == "failover"]


async def test_findings_follow_a_real_cluster_through_its_settings(databases: Stack) -> None:
    primary, standby = databases.primary, databases.standby
    assert await failover_findings(databases) == []
    create_failover_slot(primary, "f")
    missing = "no copies of failover slots are kept: sync_replication_slots, primary_conninfo_dbname"
    assert await failover_findings(databases) == [("failed", missing)]
    advance_horizon(primary, standby)
    with synchronising(standby):
        await until(lambda: copied(standby, "f"), "it is copied")
        assert await failover_findings(databases) == [("warning", "not ready: f not_persisted")]
        read_all(primary, "f")
        await until(lambda: persistent(standby, "f"), "it is persistent", 60)
        assert await failover_findings(databases) == [("ok", "1 failover slot(s) ready")]
        with changed_setting(standby, "primary_slot_name", "''"):
            await until(lambda: standby.sql("SHOW primary_slot_name") == [("",)], "it is set")
            assert await failover_findings(databases) == [
                ("failed", "no copies of failover slots are kept: primary_slot_name")
            ]
        await until(lambda: standby.sql("SHOW primary_slot_name") == [("standby",)], "it is set again")
        standby.sql("ALTER SYSTEM SET sync_replication_slots = off")
        standby.sql("SELECT pg_catalog.pg_reload_conf()")
        await until(lambda: not standby.sql(WORKER) and standby.sql("SHOW sync_replication_slots") == [("off",)], "off")
        standby.sql("SELECT pg_catalog.pg_sync_replication_slots()")
        by_hand = "1 failover slot(s) ready, synchronised only while something calls pg_sync_replication_slots()"
        assert await failover_findings(databases) == [("warning", by_hand)]
