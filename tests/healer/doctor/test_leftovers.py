"""The doctor's findings about slots that nobody needs: the statement that removes each, and that nothing uses it."""

from dataclasses import replace

import pytest

from healer.doctor.checks.leftovers import RECONNECT_SECONDS, UNUSED_SECONDS, judge_leftovers, judge_timelines
from pgslot.snapshot.model import NodeSnapshot
from tests.support.builders.snapshots import FACTS, SLOT, STANDBY, cluster, node

NOW = FACTS.server_time
LEFT = SLOT._replace(
    slot_name="f",
    failover=True,
    synced=False,
    active=False,
    inactive_since=NOW - 7200,
    retained_wal_bytes=112 * 1024 * 1024,
    confirmed_position=0x3000148,
)
PRESENT = SLOT._replace(slot_name="f", failover=True)
DROP = (
    "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots WHERE slot_name = 'f'"
)
UNUSED = "it retains 112 MiB of WAL, and no session has used it for 2 h 0 min"

CASES: dict[str, tuple[tuple[NodeSnapshot, ...], list[tuple[str, str]]]] = {
    "a name clash": (
        (node("p", recovery=False, slots=(PRESENT,)), node("s", recovery=True, slots=(LEFT,))),
        [
            (
                "slot f is left over from when this server was the primary; it stops the synchronisation of all"
                f" failover slots to this standby; {UNUSED}; the primary's slot of that name is in use there",
                f"On s: {DROP} AND failover AND NOT synced AND NOT active AND confirmed_flush_lsn = '0/03000148'"
                " AND pg_catalog.pg_is_in_recovery();",
            )
        ],
    ),
    "a former primary's slot": (
        (node("p", recovery=False), node("s", recovery=True, slots=(LEFT,))),
        [
            (
                f"slot f is left over from when this server was the primary; {UNUSED}",
                f"On s: {DROP} AND failover AND NOT synced AND NOT active AND confirmed_flush_lsn = '0/03000148'"
                " AND pg_catalog.pg_is_in_recovery();",
            )
        ],
    ),
    "a slot on a standby of 15": (
        (
            node("p", recovery=False),
            node(
                "s",
                recovery=True,
                slots=(LEFT._replace(failover=None, synced=None, inactive_since=None),),
                facts=replace(FACTS, in_recovery=True, version="15.18"),
            ),
        ),
        [
            (
                "slot f is left over from when this server was the primary; it retains 112 MiB of WAL, and no"
                " session uses it",
                f"On s: {DROP} AND NOT active AND confirmed_flush_lsn = '0/03000148'"
                " AND pg_catalog.pg_is_in_recovery();",
            )
        ],
    ),
    "a copy whose original is gone": (
        (node("p", recovery=False), node("s", recovery=True, slots=(LEFT._replace(synced=True),))),
        [
            (
                f"slot f is a copy whose original is gone from the primary, and nothing synchronises; {UNUSED}",
                "PostgreSQL refuses to drop it on a standby. On s: ALTER SYSTEM SET sync_replication_slots = on; SELECT"
                " pg_catalog.pg_reload_conf(); then the worker drops it within 30 s.",
            )
        ],
    ),
    "a lost slot of the primary": (
        (node("p", recovery=False, slots=(LEFT._replace(invalidation_reason="wal_removed", wal_status="lost"),)),),
        [
            (
                "slot f is invalidated: nobody can use it, and pg_upgrade stops at it",
                f"If its owner does not need it, on p: {DROP} AND NOT active AND wal_status = 'lost'"
                " AND confirmed_flush_lsn = '0/03000148';",
            )
        ],
    ),
    "a slot of the primary that nobody reads": (
        (
            node(
                "p",
                recovery=False,
                slots=(
                    LEFT._replace(inactive_since=NOW - UNUSED_SECONDS - 60, unconfirmed_wal_bytes=17 * 1024 * 1024),
                ),
            ),
        ),
        [
            (
                "slot f retains 112 MiB of WAL, and no session has used it for 1 d 0 h; pg_upgrade stops at unread"
                " changes",
                f"If its owner does not need it, on p: {DROP} AND NOT active AND confirmed_flush_lsn = '0/03000148';",
            )
        ],
    ),
    "a slot of the primary whose consumer may come back": (
        (node("p", recovery=False, slots=(LEFT._replace(unconfirmed_wal_bytes=17 * 1024 * 1024),)),),
        [],
    ),
    "a slot of the primary that has nothing to read": (
        (node("p", recovery=False, slots=(LEFT._replace(inactive_since=0.0, unconfirmed_wal_bytes=0),)),),
        [],
    ),
    "a lost slot before pg_upgrade takes slots along": (
        (node("p", recovery=False, slots=(LEFT._replace(wal_status="lost"),), facts=replace(FACTS, version="16.14")),),
        [],
    ),
    "slots in use": ((node("p", recovery=False, slots=(PRESENT,)), node("s", recovery=True, slots=(SLOT,))), []),
}


@pytest.mark.parametrize(("nodes", "expected"), CASES.values(), ids=CASES.keys())
def test_leftover_has_its_proof_and_a_statement_that_guards_itself(
    nodes: tuple[NodeSnapshot, ...], expected: list[tuple[str, str]]
) -> None:
    findings = list(judge_leftovers(cluster(*nodes)))
    assert [(finding.found, finding.advice) for finding in findings] == expected
    assert {(finding.check, finding.status) for finding in findings} <= {("leftovers", "warning")}


OF_STANDBY = SLOT._replace(
    slot_name="standby",
    slot_type="physical",
    active=False,
    inactive_since=NOW - 7200,
    retained_wal_bytes=112 * 1024 * 1024,
    restart_position=0x3000148,
    confirmed_position=None,
)
PRIMARY = node("p", recovery=False, slots=(OF_STANDBY,))
AWAY = replace(STANDBY, receiver_running=False, receiver_status=None, receiver_slot_name=None)
DEAD = node("s", recovery=True, standby=AWAY)


def test_standby_on_an_old_timeline_has_its_slot_and_both_remedies() -> None:
    [finding] = judge_timelines(cluster(PRIMARY, DEAD), {"p": 2, "s": 1})
    assert (finding.subject, finding.status, finding.found) == (
        "c/p",
        "warning",
        "s does not stream, its control file has timeline 1, the primary is on 2; its slot standby retains 112 MiB of"
        " WAL on the primary, and no session has used it for 2 h 0 min",
    )
    assert finding.advice == (
        'If the log of s says "not in this server\'s history" or "forked off", it can never follow: run pg_rewind or'
        " rebuild it, which goes on with the slot. If it is not to return, on p:"
        " SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots"
        " WHERE slot_name = 'standby' AND slot_type = 'physical' AND NOT active AND restart_lsn = '0/03000148'"
        " AND NOT pg_catalog.pg_is_in_recovery();"
    )


QUIET: dict[str, tuple[tuple[NodeSnapshot, ...], dict[str, int | None]]] = {
    "away, on the primary's timeline": ((PRIMARY, DEAD), {"p": 2, "s": 2}),
    "it streams, and has not replayed the switch yet": (
        (PRIMARY, replace(DEAD, standby=replace(STANDBY, receiver_status="streaming"))),
        {"p": 2, "s": 1},
    ),
    "its slot is in use by another server": (
        (node("p", recovery=False, slots=(OF_STANDBY._replace(active=True),)), DEAD),
        {"p": 2, "s": 1},
    ),
    "its connection was lost a moment ago": (
        (node("p", recovery=False, slots=(OF_STANDBY._replace(inactive_since=NOW - RECONNECT_SECONDS + 1),)), DEAD),
        {"p": 2, "s": 1},
    ),
    "it has no slot": ((node("p", recovery=False), DEAD), {"p": 2, "s": 1}),
    "its timeline is not known": ((PRIMARY, DEAD), {"p": 2, "s": None}),
    "the primary's timeline is not known": ((PRIMARY, DEAD), {"p": None, "s": 1}),
    "there is no primary": ((DEAD,), {"s": 1}),
}


@pytest.mark.parametrize(("nodes", "timelines"), QUIET.values(), ids=QUIET.keys())
def test_standby_that_may_follow_has_no_finding(
    nodes: tuple[NodeSnapshot, ...], timelines: dict[str, int | None]
) -> None:
    assert list(judge_timelines(cluster(*nodes), timelines)) == []
