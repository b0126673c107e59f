"""
Why WAL is retained: tables of cases, one line each. Hours of it are in tests/pgslot/diagnosis/test_retention_model.py.
"""

from dataclasses import replace
from typing import Any

import pytest

from pgslot.diagnosis.peers import needs_primary
from pgslot.diagnosis.retention import RetentionCause, diagnose_retention
from pgslot.snapshot.history import SEGMENT_BYTES as SEGMENT
from pgslot.snapshot.history import History, Sample, SlotHistory
from pgslot.snapshot.rows import Transaction
from tests.support.builders.retention import (
    EARLY,
    HERE,
    LAGGING,
    NOW,
    OUTSTANDING,
    PINNED,
    QUIET,
    RECORD,
    SETTLED,
    SLOT_HISTORY,
    WAITING_FOR_STANDBY,
    Changes,
    primary_with,
)
from tests.support.builders.snapshots import SLOT, TRANSACTION, cluster, node, unreachable_node

MEBIBYTE = 1024 * 1024
SENT: Changes = {"sent_position": HERE, "received_position": HERE}
NOTHING_NEW: Changes = {"received_position": RECORD}
AWAY: Changes = {"active": False}
STOPPED_REPLYING = SETTLED._replace(answered=NOW - 100)
REPLIES_WITHOUT_TIME = SETTLED._replace(answered=NOW - 100, reply=None)
NEVER_REPLIED: Changes = {"received_position": None, "reply_time": None}
NOT_SEEN_TO_MOVE = SLOT_HISTORY._replace(moved_here=False, seen=NOW - 110)
TOO_EARLY = SLOT_HISTORY._replace(pinned_at=HERE)
LATE = replace(TRANSACTION, age_seconds=3000.0, xid=600, xid_age=103)
"""Began as early, but wrote later."""
PREPARED = replace(EARLY, kind="prepared", backend_type="prepared", pid=None, age_seconds=5.0, xid=480, xid_age=223)
"""Its age counts from PREPARE TRANSACTION."""
ONLY_SNAPSHOT = replace(EARLY, kind="snapshot", xid=None, xid_age=None)

Case = tuple[str, dict[str, Any], SlotHistory | None, tuple[Transaction, ...], str]
CASES: list[Case] = [
    ("healthy", {}, SLOT_HISTORY, (), "none"),
    ("lost", {"wal_status": "lost"}, SLOT_HISTORY, (), "invalidated"),
    (
        "invalidated for a reason that is not known yet",
        {"invalidation_reason": "new_reason"},
        SLOT_HISTORY,
        (),
        "invalidated",
    ),
    ("in creation", {"in_creation": True}, None, (), "creation"),
    ("no consumer", AWAY, SLOT_HISTORY, (), "inactive"),
    ("no consumer, and it is behind", AWAY | LAGGING, SLOT_HISTORY, (), "inactive"),
    ("no consumer, before 17", AWAY | {"synced": None}, SLOT_HISTORY, (), "inactive"),
    ("table copy runs", AWAY | {"table_copy_running": True}, SLOT_HISTORY, (), "table_copy"),
    ("table copy runs, and holds much", AWAY | LAGGING | {"table_copy_running": True}, SLOT_HISTORY, (), "table_copy"),
    ("some table copy runs", AWAY | LAGGING | {"table_copy_running": None}, SLOT_HISTORY, (), "unknown"),
    ("19's own slot", AWAY | {"slot_name": "pg_conflict_detection", "slot_type": "physical"}, None, (), "none"),
    ("pinned a little", {"pinned_wal_bytes": SEGMENT}, SLOT_HISTORY, (EARLY,), "none"),
    ("unconfirmed a little", {"unconfirmed_wal_bytes": SEGMENT}, SLOT_HISTORY, (), "none"),
    ("pinned, seen for the first time", PINNED, TOO_EARLY._replace(moved_here=False), (EARLY,), "unknown"),
    (
        "pinned as usual, moved a moment ago",
        PINNED,
        TOO_EARLY._replace(seen=NOW - 20, usual_pinned=10 * SEGMENT),
        (EARLY,),
        "none",
    ),
    (
        "pinned a segment or four, moved a moment ago",
        PINNED | {"pinned_wal_bytes": 4 * SEGMENT},
        TOO_EARLY._replace(seen=NOW - 20),
        (EARLY,),
        "none",
    ),
    ("pinned, moved long ago, not due", PINNED, TOO_EARLY, (EARLY,), "unknown"),
    (
        "pinned, and its consumer has not confirmed what is due",
        PINNED | {"unconfirmed_wal_bytes": 2 * SEGMENT, "confirmed_position": HERE - 2 * SEGMENT},
        SLOT_HISTORY,
        (EARLY,),
        "consumer",
    ),
    ("pinned, not read since", PINNED | AWAY, TOO_EARLY, (EARLY,), "inactive"),
    ("pinned by a transaction", PINNED, SLOT_HISTORY, (EARLY,), "transaction"),
    ("pinned by a transaction, between two reads", PINNED | AWAY, SLOT_HISTORY, (EARLY,), "transaction"),
    ("pinned by a prepared transaction", PINNED, SLOT_HISTORY, (PREPARED,), "transaction"),
    (
        "pinned by a transaction of unknown age",
        PINNED,
        SLOT_HISTORY,
        (replace(EARLY, age_seconds=None),),
        "transaction",
    ),
    ("pinned, the open transactions wrote later", PINNED, SLOT_HISTORY, (LATE,), "stalled"),
    ("pinned, a transaction without an xid is old enough", PINNED, SLOT_HISTORY, (ONLY_SNAPSHOT,), "stalled"),
    ("pinned by nothing", PINNED, SLOT_HISTORY, (), "stalled"),
    ("pinned from its creation on, by any open transaction", PINNED, NOT_SEEN_TO_MOVE, (LATE,), "transaction"),
    ("pinned from its creation on, by no transaction any more", PINNED, NOT_SEEN_TO_MOVE, (), "stalled"),
    ("pinned by nothing, read and read again", PINNED | AWAY, SLOT_HISTORY, (), "stalled"),
    ("decoding", LAGGING | SENT, SLOT_HISTORY._replace(decoding=3), (), "decoding"),
    ("decoded just once", LAGGING | SENT, SLOT_HISTORY._replace(decoding=1, delivery=STOPPED_REPLYING), (), "consumer"),
    (
        "pinned more than usual, moved a moment ago",
        PINNED,
        TOO_EARLY._replace(seen=NOW - 20, usual_pinned=9 * SEGMENT),
        (EARLY,),
        "unknown",
    ),
    ("behind, fresh", LAGGING | SENT, None, (), "consumer"),
    ("behind, and not all was sent", LAGGING | {"sent_position": RECORD + 1}, SLOT_HISTORY, (), "consumer"),
    (
        "behind, all sent, something outstanding, which was received",
        LAGGING | SENT | {"received_position": HERE - SEGMENT},
        SLOT_HISTORY._replace(delivery=OUTSTANDING),
        (),
        "consumer",
    ),
    (
        "behind, all sent, unpublished or stuck, and keepalives are answered",
        LAGGING | SENT,
        SLOT_HISTORY._replace(delivery=OUTSTANDING),
        (),
        "unknown",
    ),
    (
        "behind, all sent, nothing of it for this slot",
        LAGGING | SENT,
        SLOT_HISTORY._replace(delivery=SETTLED),
        (),
        "idle_publication",
    ),
    ("behind, all sent, not known what", LAGGING | SENT, SLOT_HISTORY, (), "unknown"),
    (
        "behind, all sent, unpublished or stuck",
        LAGGING | SENT | NOTHING_NEW,
        SLOT_HISTORY._replace(delivery=OUTSTANDING),
        (),
        "unknown",
    ),
    (
        "behind, all sent, no publications",
        LAGGING | SENT | NOTHING_NEW | {"plugin": "wal2json"},
        SLOT_HISTORY._replace(delivery=OUTSTANDING),
        (),
        "consumer",
    ),
    (
        "behind, all sent, does not reply any more",
        LAGGING | SENT,
        SLOT_HISTORY._replace(delivery=STOPPED_REPLYING),
        (),
        "consumer",
    ),
    (
        "behind, all sent, replies without a time",
        LAGGING | SENT,
        SLOT_HISTORY._replace(delivery=REPLIES_WITHOUT_TIME),
        (),
        "idle_publication",
    ),
    (
        "behind, all sent, never replied",
        LAGGING | SENT | NEVER_REPLIED,
        SLOT_HISTORY._replace(delivery=REPLIES_WITHOUT_TIME),
        (),
        "consumer",
    ),
    ("behind, for a standby", LAGGING | WAITING_FOR_STANDBY, SLOT_HISTORY, (), "standby"),
    ("behind, and waits for a standby just now", LAGGING | WAITING_FOR_STANDBY | SENT, SLOT_HISTORY, (), "unknown"),
    (
        "more is unconfirmed than pinned",
        PINNED | LAGGING | {"pinned_wal_bytes": 2 * SEGMENT},
        None,
        (EARLY,),
        "consumer",
    ),
    ("confirmed what was there a minute ago", LAGGING | {"confirmed_position": HERE - 60 * 100_000}, None, (), "none"),
]


@pytest.mark.parametrize(
    ("changes", "slot_history", "transactions", "cause"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_each_state_of_a_slot_has_its_cause(
    changes: dict[str, Any], slot_history: SlotHistory | None, transactions: tuple[Transaction, ...], cause: str
) -> None:
    slot = SLOT._replace(**{"restart_position": RECORD, "confirmed_position": HERE} | changes)
    primary = primary_with(slot, slot_history, transactions)
    assert diagnose_retention(slot, primary, cluster(primary)).cause == cause


def test_every_cause_is_in_the_table() -> None:
    assert {case[4] for case in CASES} == {str(cause) for cause in RetentionCause}


def test_slot_of_a_standby_is_pinned_by_a_transaction_on_the_primary() -> None:
    slot = SLOT._replace(restart_position=RECORD, **PINNED)
    replica = replace(
        node("s", recovery=True, slots=(slot,)), history=History(NOW, QUIET, slots={slot.slot_name: SLOT_HISTORY})
    )
    for transactions, cause in (((EARLY,), "transaction"), ((LATE,), "stalled"), ((), "stalled")):
        primary = primary_with(SLOT, None, transactions)
        assert diagnose_retention(slot, replica, cluster(replica, primary)).cause == cause
    assert needs_primary(replica)
    assert diagnose_retention(slot, replica, cluster(replica, unreachable_node("p"))).cause == "unknown"
    # The primary was queried for the first time: which transactions were open there before is not known.
    fresh = replace(primary_with(SLOT, None, ()), history=History(NOW, QUIET[-1:]))
    assert diagnose_retention(slot, replica, cluster(replica, fresh)).cause == "unknown"


def test_without_proof_no_transaction_is_the_blocker_and_all_that_may_be_are_candidates() -> None:
    slot = SLOT._replace(restart_position=RECORD, **PINNED)
    began_first = replace(EARLY, age_seconds=5000.0, xid=550, xid_age=153, pid=1)
    wrote_first = replace(EARLY, age_seconds=3000.0, xid=540, xid_age=163, pid=2)
    primary = primary_with(slot, SLOT_HISTORY, (began_first, wrote_first, LATE))
    retention = diagnose_retention(slot, primary, cluster(primary))
    assert (retention.cause, retention.blocker) == (RetentionCause.TRANSACTION, None)
    assert retention.candidates == (wrote_first, began_first)


def test_ten_candidates_are_shown_at_most() -> None:
    slot = SLOT._replace(restart_position=RECORD, **PINNED)
    many = tuple(replace(EARLY, xid=500 + i, xid_age=203 - i, pid=i) for i in range(12))
    primary = primary_with(slot, SLOT_HISTORY, many)
    assert diagnose_retention(slot, primary, cluster(primary)).candidates == many[:10]


@pytest.mark.parametrize("active", [True, False])
def test_transaction_that_has_just_ended_is_not_yet_ruled_out(*, active: bool) -> None:
    """The record logged after its end may still be on its way to the consumer, which may read once an hour."""
    slot = SLOT._replace(restart_position=RECORD, active=active, **PINNED)
    ended = tuple(sample._replace(oldest_xid=500 if sample.at == NOW - 30 else None) for sample in QUIET)
    primary = replace(primary_with(slot, SLOT_HISTORY, ()), history=History(NOW, ended, slots={"s": SLOT_HISTORY}))
    assert diagnose_retention(slot, primary, cluster(primary)).cause == ("unknown" if active else "inactive")


def test_gap_between_two_samples_rules_no_transaction_out() -> None:
    """A transaction that was open at the record after restart_lsn may have ended in the gap, a moment ago."""
    slot = SLOT._replace(restart_position=RECORD, **PINNED)
    samples = tuple(sample for sample in QUIET if sample.at not in (NOW - 120, NOW - 60, NOW - 30))
    primary = replace(primary_with(slot, SLOT_HISTORY, ()), history=History(NOW, samples, slots={"s": SLOT_HISTORY}))
    assert diagnose_retention(slot, primary, cluster(primary)).cause == "unknown"


BUSY = tuple(Sample(NOW - age, HERE - age * MEBIBYTE, None, None) for age in (600, 120, 60, 30, 15, 0))
RECEIVERS: list[tuple[str, dict[str, Any], int, tuple[Sample, ...], str]] = [
    ("as far as all that was written 90 s ago", {"restart_position": HERE - 100 * MEBIBYTE}, 16, BUSY, "none"),
    ("that is behind", {"restart_position": HERE - 40 * MEBIBYTE}, 16, QUIET, "consumer"),
    ("seen for the first time", {"restart_position": HERE - 40 * MEBIBYTE}, 16, QUIET[-1:], "unknown"),
    ("that confirms a segment when it is complete", {"restart_position": HERE - 40 * MEBIBYTE}, 64, QUIET, "none"),
    ("that has not confirmed the last segment", {"restart_position": HERE - 90 * MEBIBYTE}, 64, QUIET, "consumer"),
    ("that lags by less than a large segment", {"restart_position": HERE - 900 * MEBIBYTE}, 1024, QUIET[-1:], "none"),
    ("that reserves nothing", {"restart_position": None}, 16, QUIET, "none"),
]
"""(the slot, the segment's size in MiB, the samples, the cause)."""


@pytest.mark.parametrize(
    ("changes", "segment", "samples", "cause"), [case[1:] for case in RECEIVERS], ids=[case[0] for case in RECEIVERS]
)
def test_receiver_of_a_physical_slot_is_the_cause_only_if_it_does_not_keep_up(
    changes: dict[str, Any], segment: int, samples: tuple[Sample, ...], cause: str
) -> None:
    restart = changes["restart_position"]
    slot = SLOT._replace(
        slot_type="physical", database="", confirmed_position=None, unconfirmed_wal_bytes=None, pinned_wal_bytes=None
    )._replace(**changes, retained_wal_bytes=None if restart is None else HERE - restart)
    primary = primary_with(slot, None, (), wal_segment_size_bytes=segment * MEBIBYTE)
    primary = replace(primary, history=replace(primary.history, samples=samples))
    assert diagnose_retention(slot, primary, cluster(primary)).cause == cause


@pytest.mark.parametrize(
    ("listed", "named"),
    [
        ("down", "down"),
        ("up, down", "down"),
        ('"up","down"', "down"),
        ("up,nosuch", "nosuch"),
        ("down, logical", "logical"),
        ("", None),
        ("ANY 2 (up, down)", None),
        ("FIRST 1 (up, nosuch)", None),
    ],
)
def test_standby_slot_that_has_received_least_is_the_one_waited_for(listed: str, named: str | None) -> None:
    slot = SLOT._replace(restart_position=RECORD, **LAGGING | WAITING_FOR_STANDBY)
    physical: Changes = {
        "slot_type": "physical",
        "database": "",
        "pinned_wal_bytes": None,
        "unconfirmed_wal_bytes": None,
    }
    others = tuple(
        SLOT._replace(slot_name=name, restart_position=position, **physical)
        for name, position in (("up", HERE), ("down", RECORD))
    )
    logical = SLOT._replace(slot_name="logical")
    primary = replace(
        primary_with(slot, SLOT_HISTORY, (), synchronized_standby_slots=listed), slots=(slot, *others, logical)
    )
    retention = diagnose_retention(slot, primary, cluster(primary))
    without_name = "unknown" if listed else "consumer"
    assert (str(retention.cause), retention.standby_slot) == ("standby" if named else without_name, named)


COPIES = [
    ("in step", {}, {}, "none"),
    ("its original waits for a consumer that is away", LAGGING, AWAY | LAGGING, "consumer"),
    ("its original is pinned", PINNED, PINNED, "transaction"),
    ("its original is healthy: it is not kept in step", LAGGING, {}, "unknown"),
]


@pytest.mark.parametrize(("copy", "original", "cause"), [case[1:] for case in COPIES], ids=[case[0] for case in COPIES])
def test_synced_slot_has_the_cause_of_its_original(copy: dict[str, Any], original: dict[str, Any], cause: str) -> None:
    base = SLOT._replace(failover=True, restart_position=RECORD)
    synced = base._replace(synced=True, active=False, **copy)
    primary = primary_with(base._replace(**original), SLOT_HISTORY, (EARLY,))
    replica = node("s", recovery=True, slots=(synced,))
    assert diagnose_retention(synced, replica, cluster(replica, primary)).cause == cause
    if copy:
        assert needs_primary(replica)
        assert diagnose_retention(synced, replica, cluster(replica, unreachable_node("p"))).cause == "unknown"


def test_synced_slot_of_a_promoted_standby_is_not_a_copy() -> None:
    """PostgreSQL still calls the slot synced."""
    slot = SLOT._replace(synced=True, failover=True, active=False, restart_position=RECORD, **LAGGING)
    primary = primary_with(slot, SLOT_HISTORY, ())
    assert diagnose_retention(slot, primary, cluster(primary)).cause == "inactive"


def test_cause_is_unknown_without_the_privilege_to_see_other_sessions() -> None:
    slot = SLOT._replace(restart_position=RECORD, **LAGGING | {"sent_position": None})
    primary = primary_with(slot, SLOT_HISTORY, (), reads_all_stats=False)
    assert diagnose_retention(slot, primary, cluster(primary)).cause == "unknown"


def test_before_15_unpublished_transactions_are_sent_and_confirmed() -> None:
    """As empty transactions, which the consumer confirms; a consumer that does not is behind."""
    slot = SLOT._replace(restart_position=RECORD, **LAGGING | SENT | NOTHING_NEW)
    primary = primary_with(slot, SLOT_HISTORY._replace(delivery=OUTSTANDING), (), version="14.23")
    assert diagnose_retention(slot, primary, cluster(primary)).cause == "consumer"
