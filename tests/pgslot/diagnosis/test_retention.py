"""
Why WAL is retained: tables of cases, one line each. Hours of it are in tests/pgslot/diagnosis/test_retention_model.py.
"""

from dataclasses import replace
from typing import Any

import pytest

from pgslot.diagnosis.peers import needs_primary
from pgslot.diagnosis.retention import RetentionCause, diagnose_retention, retention_cause
from pgslot.snapshot.history import SEGMENT_BYTES as SEGMENT
from pgslot.snapshot.history import History, SlotHistory
from pgslot.snapshot.rows import Transaction
from tests.support.builders.retention import (
    EARLY,
    HERE,
    LAGS,
    MOVEMENT,
    NOW,
    OUTSTANDING,
    PINNED,
    QUIET,
    RECORD,
    SETTLED,
    WAITS,
    Changes,
    seen,
)
from tests.support.builders.snapshots import SLOT, TRANSACTION, cluster, dark, node

SENT: Changes = {"sent_position": HERE, "received_position": HERE}
NOTHING_NEW: Changes = {"received_position": RECORD}
AWAY: Changes = {"active": False}
SILENT = SETTLED._replace(answered=NOW - 100)
TIMELESS = SETTLED._replace(answered=NOW - 100, reply=None)
MUTE: Changes = {"received_position": None, "reply_time": None}
UNMOVED = MOVEMENT._replace(moved_here=False, seen=NOW - 110)
NOT_DUE = MOVEMENT._replace(pinned_at=HERE)
LATE = replace(TRANSACTION, age_seconds=3000.0, xid=600, xid_age=103)
"""Began as early, and wrote later."""
PREPARED = replace(EARLY, kind="prepared", held_by="prepared", pid=None, age_seconds=5.0, xid=480, xid_age=223)
"""Its age counts from PREPARE TRANSACTION."""
ONLY_SNAPSHOT = replace(EARLY, kind="snapshot", xid=None, xid_age=None)

Case = tuple[str, dict[str, Any], SlotHistory | None, tuple[Transaction, ...], str]
CASES: list[Case] = [
    ("healthy", {}, MOVEMENT, (), "none"),
    ("lost", {"wal_status": "lost"}, MOVEMENT, (), "invalidated"),
    ("invalidated for a reason nobody knows yet", {"invalidation_reason": "new_reason"}, MOVEMENT, (), "invalidated"),
    ("in creation", {"in_creation": True}, None, (), "creation"),
    ("nobody uses it", AWAY, MOVEMENT, (), "inactive"),
    ("nobody uses it, and it is behind", AWAY | LAGS, MOVEMENT, (), "inactive"),
    ("nobody uses it, before 17", AWAY | {"synced": None}, MOVEMENT, (), "inactive"),
    ("19's own slot", AWAY | {"slot_name": "pg_conflict_detection", "slot_type": "physical"}, None, (), "none"),
    ("pinned a little", {"pinned_wal_bytes": SEGMENT}, MOVEMENT, (EARLY,), "none"),
    ("unconfirmed a little", {"unconfirmed_wal_bytes": SEGMENT}, MOVEMENT, (), "none"),
    ("pinned, seen for the first time", PINNED, NOT_DUE._replace(moved_here=False), (EARLY,), "unknown"),
    ("pinned, moved a moment ago", PINNED, NOT_DUE._replace(seen=NOW - 20), (EARLY,), "none"),
    ("pinned, moved long ago, not due", PINNED, NOT_DUE, (EARLY,), "unknown"),
    (
        "pinned, and its consumer has not confirmed what is due",
        PINNED | {"unconfirmed_wal_bytes": 2 * SEGMENT, "confirmed_position": HERE - 2 * SEGMENT},
        MOVEMENT,
        (EARLY,),
        "consumer",
    ),
    ("pinned, nobody has read since", PINNED | AWAY, NOT_DUE, (EARLY,), "inactive"),
    ("pinned by a transaction", PINNED, MOVEMENT, (EARLY,), "transaction"),
    ("pinned by a transaction, between two reads", PINNED | AWAY, MOVEMENT, (EARLY,), "transaction"),
    ("pinned by a prepared one", PINNED, MOVEMENT, (PREPARED,), "transaction"),
    ("pinned by one of unknown age", PINNED, MOVEMENT, (replace(EARLY, age_seconds=None),), "transaction"),
    ("pinned, those that are open began later", PINNED, MOVEMENT, (LATE,), "stalled"),
    ("pinned, one without an xid is old enough", PINNED, MOVEMENT, (ONLY_SNAPSHOT,), "stalled"),
    ("pinned by nothing", PINNED, MOVEMENT, (), "stalled"),
    ("pinned from its creation on, by whoever is open", PINNED, UNMOVED, (LATE,), "transaction"),
    ("pinned from its creation on, by nobody any more", PINNED, UNMOVED, (), "stalled"),
    ("pinned by nothing, read and read again", PINNED | AWAY, MOVEMENT, (), "stalled"),
    ("behind, fresh", LAGS | SENT, None, (), "consumer"),
    ("behind, and not all was sent", LAGS | {"sent_position": RECORD + 1}, MOVEMENT, (), "consumer"),
    (
        "behind, all sent, something outstanding, which was received",
        LAGS | SENT | {"received_position": HERE - SEGMENT},
        MOVEMENT._replace(delivery=OUTSTANDING),
        (),
        "consumer",
    ),
    (
        "behind, all sent, unpublished or stuck, and keepalives are answered",
        LAGS | SENT,
        MOVEMENT._replace(delivery=OUTSTANDING),
        (),
        "unknown",
    ),
    ("behind, all sent, nothing of it", LAGS | SENT, MOVEMENT._replace(delivery=SETTLED), (), "idle_publication"),
    ("behind, all sent, who knows what", LAGS | SENT, MOVEMENT, (), "unknown"),
    (
        "behind, all sent, unpublished or stuck",
        LAGS | SENT | NOTHING_NEW,
        MOVEMENT._replace(delivery=OUTSTANDING),
        (),
        "unknown",
    ),
    (
        "behind, all sent, no publications",
        LAGS | SENT | NOTHING_NEW | {"plugin": "wal2json"},
        MOVEMENT._replace(delivery=OUTSTANDING),
        (),
        "consumer",
    ),
    ("behind, all sent, answers no more", LAGS | SENT, MOVEMENT._replace(delivery=SILENT), (), "consumer"),
    ("behind, all sent, has no clock", LAGS | SENT, MOVEMENT._replace(delivery=TIMELESS), (), "idle_publication"),
    ("behind, all sent, never answered", LAGS | SENT | MUTE, MOVEMENT._replace(delivery=TIMELESS), (), "consumer"),
    ("behind, for a standby", LAGS | WAITS, MOVEMENT, (), "standby"),
    ("behind, and waits for a standby just now", LAGS | WAITS | SENT, MOVEMENT, (), "unknown"),
    ("more is unconfirmed than pinned", PINNED | LAGS | {"pinned_wal_bytes": 2 * SEGMENT}, None, (EARLY,), "consumer"),
    ("confirmed what was there a minute ago", LAGS | {"confirmed_position": HERE - 60 * 100_000}, None, (), "none"),
]


@pytest.mark.parametrize(
    ("changes", "movement", "transactions", "cause"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_retention_cause(
    changes: dict[str, Any], movement: SlotHistory | None, transactions: tuple[Transaction, ...], cause: str
) -> None:
    slot = SLOT._replace(**{"restart_position": RECORD, "confirmed_position": HERE} | changes)
    primary = seen(slot, movement, transactions)
    assert retention_cause(slot, primary, cluster(primary)) == cause


def test_every_cause_is_in_the_table() -> None:
    assert {case[4] for case in CASES} == {str(cause) for cause in RetentionCause}


def test_a_slot_of_a_standby_is_pinned_by_who_is_open_on_the_primary() -> None:
    slot = SLOT._replace(restart_position=RECORD, **PINNED)
    replica = replace(
        node("s", recovery=True, slots=(slot,)), history=History(NOW, QUIET, slots={slot.slot_name: MOVEMENT})
    )
    for transactions, cause in (((EARLY,), "transaction"), ((LATE,), "stalled"), ((), "stalled")):
        primary = seen(SLOT, None, transactions)
        assert retention_cause(slot, replica, cluster(replica, primary)) == cause
    assert needs_primary(replica)
    assert retention_cause(slot, replica, cluster(replica, dark("p"))) == "unknown"
    # It has only just begun to look at the primary: who was open there before is not known.
    fresh = replace(seen(SLOT, None, ()), history=History(NOW, QUIET[-1:]))
    assert retention_cause(slot, replica, cluster(replica, fresh)) == "unknown"


def test_the_one_with_the_oldest_xid_is_named_of_those_that_began_in_time() -> None:
    slot = SLOT._replace(restart_position=RECORD, **PINNED)
    began_first = replace(EARLY, age_seconds=5000.0, xid=550, xid_age=153, pid=1)
    wrote_first = replace(EARLY, age_seconds=3000.0, xid=540, xid_age=163, pid=2)
    primary = seen(slot, MOVEMENT, (began_first, wrote_first, LATE))
    found = diagnose_retention(slot, primary, cluster(primary))
    assert found.blocker == wrote_first


def test_who_had_an_xid_before_and_kept_nothing_back_is_named_last() -> None:
    slot = SLOT._replace(restart_position=RECORD, **PINNED)
    # 20 segments before the end: nearly an hour ago at 100 kB/s, when 100 was the next xid.
    only_an_xid = replace(EARLY, xid=90, xid_age=613, pid=1)
    writer = replace(EARLY, pid=2)
    for transactions, named in (((only_an_xid, writer), writer), ((only_an_xid,), only_an_xid)):
        primary = seen(slot, MOVEMENT, transactions)
        assert diagnose_retention(slot, primary, cluster(primary)).blocker == named


@pytest.mark.parametrize("active", [True, False])
def test_who_has_ended_just_now_is_not_yet_ruled_out(*, active: bool) -> None:
    """The record that was logged after its end may still be on its way to the consumer, who may come once an hour."""
    slot = SLOT._replace(restart_position=RECORD, active=active, **PINNED)
    ended = tuple(sample._replace(oldest_xid=500 if sample.at == NOW - 30 else None) for sample in QUIET)
    primary = replace(seen(slot, MOVEMENT, ()), history=History(NOW, ended, slots={"s": MOVEMENT}))
    assert retention_cause(slot, primary, cluster(primary)) == ("unknown" if active else "inactive")


def test_a_gap_between_two_looks_vouches_for_nobody() -> None:
    """Somebody who was open at the record that followed restart_lsn may have ended in it a moment ago."""
    slot = SLOT._replace(restart_position=RECORD, **PINNED)
    looks = tuple(sample for sample in QUIET if sample.at not in (NOW - 120, NOW - 60, NOW - 30))
    primary = replace(seen(slot, MOVEMENT, ()), history=History(NOW, looks, slots={"s": MOVEMENT}))
    assert retention_cause(slot, primary, cluster(primary)) == "unknown"


@pytest.mark.parametrize(
    ("listed", "named"),
    [
        ("down", "down"),
        ("up, down", "down"),
        ('"up","down"', "down"),
        ("up,nosuch", "nosuch"),
        ("down, logical", "logical"),
        ("", None),
    ],
)
def test_the_standby_that_is_waited_for(listed: str, named: str | None) -> None:
    slot = SLOT._replace(restart_position=RECORD, **LAGS | WAITS)
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
    primary = replace(seen(slot, MOVEMENT, (), synchronized_standby_slots=listed), slots=(slot, *others, logical))
    found = diagnose_retention(slot, primary, cluster(primary))
    assert (str(found.cause), found.standby_slot) == ("standby" if named else "consumer", named)


COPIES = [
    ("in step", {}, {}, "none"),
    ("its original waits for a consumer that is away", LAGS, AWAY | LAGS, "consumer"),
    ("its original is pinned", PINNED, PINNED, "transaction"),
    ("its original is healthy: it is not kept in step", LAGS, {}, "unknown"),
]


@pytest.mark.parametrize(("copy", "original", "cause"), [case[1:] for case in COPIES], ids=[case[0] for case in COPIES])
def test_a_synced_slot_has_the_cause_of_its_original(
    copy: dict[str, Any], original: dict[str, Any], cause: str
) -> None:
    base = SLOT._replace(failover=True, restart_position=RECORD)
    synced = base._replace(synced=True, active=False, **copy)
    primary = seen(base._replace(**original), MOVEMENT, (EARLY,))
    replica = node("s", recovery=True, slots=(synced,))
    assert retention_cause(synced, replica, cluster(replica, primary)) == cause
    if copy:
        assert needs_primary(replica)
        assert retention_cause(synced, replica, cluster(replica, dark("p"))) == "unknown"


def test_a_promoted_standby_has_no_copies_any_more() -> None:
    """PostgreSQL goes on calling the slot synced."""
    slot = SLOT._replace(synced=True, failover=True, active=False, restart_position=RECORD, **LAGS)
    primary = seen(slot, MOVEMENT, ())
    assert retention_cause(slot, primary, cluster(primary)) == "inactive"


def test_without_the_privilege_to_see_others_sessions_it_is_unknown() -> None:
    slot = SLOT._replace(restart_position=RECORD, **LAGS | {"sent_position": None})
    primary = seen(slot, MOVEMENT, (), reads_all_stats=False)
    assert retention_cause(slot, primary, cluster(primary)) == "unknown"


def test_before_15_what_is_not_published_is_sent_all_the_same() -> None:
    """As an empty transaction, which the consumer confirms; so who does not is behind."""
    slot = SLOT._replace(restart_position=RECORD, **LAGS | SENT | NOTHING_NEW)
    primary = seen(slot, MOVEMENT._replace(delivery=OUTSTANDING), (), version="14.23")
    assert retention_cause(slot, primary, cluster(primary)) == "consumer"
