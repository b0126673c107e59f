"""Why a creation waits, and why WAL is retained: tables of cases, one line each."""

from dataclasses import replace
from typing import Any

import pytest

from exporter.diagnosis import RetentionCause, WaitReason, precedes, retention_cause, waits
from exporter.probes import Transaction
from exporter.snapshot import NodeSnapshot
from tests.snapshots import CREATION, SLOT, STANDBY, TRANSACTION, cluster, dark, node

PREPARED = replace(
    TRANSACTION, kind="prepared", held_by="prepared", pid=None, application_name="gid-1", xid=680, xid_age=23
)
LATER = replace(TRANSACTION, xid=710, xid_age=1, age_seconds=5.0)
SEGMENT = 16 * 1024 * 1024
IDLE_PRIMARY = node("p", recovery=False)

PRIMARY_CASES = [
    ("lock on a transaction", {"wait_event_type": "Lock", "wait_event": "transactionid"}, "transaction", TRANSACTION),
    ("blocked by a session", {"blocking_pids": [200]}, "transaction", TRANSACTION),
    ("blocked by a prepared transaction", {"blocking_pids": [0]}, "transaction", TRANSACTION),
    ("between two waits", {}, "unknown", None),
    ("waits for its own record", {"wait_event_type": "Client", "wait_event": "WalSenderWaitForWal"}, "unknown", None),
]


@pytest.mark.parametrize(
    ("changes", "reason", "blocker"), [case[1:] for case in PRIMARY_CASES], ids=[case[0] for case in PRIMARY_CASES]
)
def test_wait_on_a_primary(changes: dict[str, Any], reason: str, blocker: Transaction | None) -> None:
    primary = node("p", recovery=False, creations=(replace(CREATION, **changes),), transactions=(TRANSACTION,))
    [wait] = waits(cluster(primary))
    assert (wait.node, wait.reason, wait.blocker) == ("p", reason, blocker)


WAL = {"wait_event_type": "Client", "wait_event": "WalSenderWaitForWal"}
WAL_16 = {"wait_event_type": "Client", "wait_event": "WalSenderWaitForWAL"}
FUNCTION = {"backend_type": "client backend"}

STANDBY_CASES: list[tuple[str, dict[str, Any], dict[str, Any], NodeSnapshot, str, Transaction | None]] = [
    ("waits for a record", WAL, {}, IDLE_PRIMARY, "running_xacts", None),
    ("waits for a record, 16's spelling", WAL_16, {}, IDLE_PRIMARY, "running_xacts", None),
    ("waits for a record, primary unseen", WAL, {}, dark("p"), "running_xacts", None),
    (
        "a transaction is open but no record told of it yet",
        WAL,
        {},
        node("p", recovery=False, transactions=(TRANSACTION,)),
        "running_xacts",
        None,
    ),
    (
        "polls for a transaction on the primary",
        {},
        {},
        node("p", recovery=False, transactions=(TRANSACTION,)),
        "transaction",
        TRANSACTION,
    ),
    (
        "polls for a prepared transaction that is the oldest",
        {},
        {},
        node("p", recovery=False, transactions=(TRANSACTION, PREPARED)),
        "transaction",
        PREPARED,
    ),
    (
        "the only open transaction began later, but a record named it since",
        {},
        {},
        node("p", recovery=False, transactions=(LATER,)),
        "transaction",
        LATER,
    ),
    (
        "SQL function, the only open transaction began later: nobody can tell",
        FUNCTION,
        {},
        node("p", recovery=False, transactions=(LATER,)),
        "unknown",
        None,
    ),
    (
        "horizon held back by another slot: time tells",
        {"catalog_xmin": 600},
        {},
        node("p", recovery=False, transactions=(TRANSACTION,)),
        "transaction",
        TRANSACTION,
    ),
    ("walsender without an event and nothing open", {}, {}, IDLE_PRIMARY, "unknown", None),
    ("walsender without an event, primary unseen", {}, {}, dark("p"), "unknown", None),
    ("SQL function, nothing open", FUNCTION, {}, IDLE_PRIMARY, "running_xacts", None),
    ("SQL function, primary unseen", FUNCTION, {}, dark("p"), "unknown", None),
    (
        "SQL function, transaction open",
        FUNCTION,
        {},
        node("p", recovery=False, transactions=(TRANSACTION,)),
        "transaction",
        TRANSACTION,
    ),
    ("replay paused", WAL, {"replay_pause_state": "paused"}, IDLE_PRIMARY, "replay_paused", None),
    ("replay about to pause", WAL, {"replay_pause_state": "pause requested"}, IDLE_PRIMARY, "replay_paused", None),
    (
        "no WAL receiver",
        WAL,
        {"receiver_running": False, "receiver_status": None},
        IDLE_PRIMARY,
        "wal_receiver_down",
        None,
    ),
    (
        "fed from an archive alone",
        WAL,
        {"receiver_running": False, "receiver_status": None, "streaming_configured": False},
        IDLE_PRIMARY,
        "running_xacts",
        None,
    ),
    (
        "conflict with replay",
        WAL,
        {"startup_wait_event_type": "IPC", "startup_wait_event": "RecoveryConflictSnapshot"},
        IDLE_PRIMARY,
        "recovery_conflict",
        None,
    ),
    (
        "replay waits for a lock",
        WAL,
        {"startup_wait_event_type": "Lock", "startup_wait_event": "relation"},
        IDLE_PRIMARY,
        "recovery_conflict",
        None,
    ),
    ("replay lags", WAL, {"replay_lag_bytes": SEGMENT + 1}, IDLE_PRIMARY, "replay_lag", None),
    ("replay lags a little", WAL, {"replay_lag_bytes": SEGMENT}, IDLE_PRIMARY, "running_xacts", None),
]


@pytest.mark.parametrize(
    ("creation", "standby", "primary", "reason", "blocker"),
    [case[1:] for case in STANDBY_CASES],
    ids=[case[0] for case in STANDBY_CASES],
)
def test_wait_on_a_standby(
    creation: dict[str, Any],
    standby: dict[str, Any],
    primary: NodeSnapshot,
    reason: str,
    blocker: Transaction | None,
) -> None:
    replica = node("s", recovery=True, creations=(replace(CREATION, **creation),), standby=replace(STANDBY, **standby))
    [wait] = waits(cluster(primary, replica))
    assert (wait.node, wait.reason, wait.blocker) == ("s", reason, blocker)


def test_every_reason_is_in_a_table() -> None:
    produced = {case[2] for case in PRIMARY_CASES} | {case[4] for case in STANDBY_CASES}
    assert produced == {str(reason) for reason in WaitReason}


def test_two_primaries_name_no_blocker() -> None:
    primaries = [node(name, recovery=False, transactions=(TRANSACTION,)) for name in ("p", "q")]
    replica = node("s", recovery=True, creations=(replace(CREATION, backend_type="client backend"),))
    [wait] = waits(cluster(*primaries, replica))
    assert (wait.reason, wait.blocker) == (WaitReason.UNKNOWN, None)


RETENTION_CASES = [
    ("healthy", {}, "none"),
    ("lost", {"wal_status": "lost"}, "invalidated"),
    ("invalidated for a reason nobody knows yet", {"invalidation_reason": "new_reason"}, "invalidated"),
    ("in creation", {"in_creation": True}, "creation"),
    ("inactive", {"active": False}, "inactive"),
    ("inactive, and behind", {"active": False, "unconfirmed_wal_bytes": SEGMENT + 1}, "inactive"),
    (
        "between two reads that confirmed all",
        {"active": False, "pinned_wal_bytes": SEGMENT + 1, "catalog_xmin": 680},
        "stalled",
    ),
    (
        "between two reads that confirmed all, pinned by a transaction",
        {"active": False, "pinned_wal_bytes": SEGMENT + 1, "catalog_xmin": 690},
        "transaction",
    ),
    ("synced from the primary", {"active": False, "synced": True}, "none"),
    ("inactive before 17", {"active": False, "synced": None}, "inactive"),
    ("consumer behind", {"unconfirmed_wal_bytes": SEGMENT + 1}, "consumer"),
    ("consumer nearly up to date", {"unconfirmed_wal_bytes": SEGMENT}, "none"),
    ("pinned by a transaction", {"pinned_wal_bytes": SEGMENT + 1, "catalog_xmin": 690}, "transaction"),
    ("pinned, the only transaction began later", {"pinned_wal_bytes": SEGMENT + 1, "catalog_xmin": 680}, "stalled"),
    ("pinned a little", {"pinned_wal_bytes": SEGMENT}, "none"),
]


@pytest.mark.parametrize(
    ("changes", "cause"), [case[1:] for case in RETENTION_CASES], ids=[case[0] for case in RETENTION_CASES]
)
def test_retention_cause(changes: dict[str, Any], cause: str) -> None:
    primary = node("p", recovery=False, transactions=(TRANSACTION,))
    slot = SLOT._replace(**changes)
    assert retention_cause(slot, primary, cluster(primary)) == cause
    replica = node("s", recovery=True)
    assert retention_cause(slot, replica, cluster(replica, primary)) == cause


def test_every_cause_is_in_the_table() -> None:
    assert {case[2] for case in RETENTION_CASES} == {str(cause) for cause in RetentionCause}


def test_a_pin_is_unknown_while_the_primary_is_unseen() -> None:
    replica = node("s", recovery=True)
    slot = SLOT._replace(pinned_wal_bytes=SEGMENT + 1)
    assert retention_cause(slot, replica, cluster(dark("p"), replica)) is None


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(700, 701, True), (701, 700, False), (700, 700, False), (2**32 - 5, 10, True), (10, 2**32 - 5, False)],
)
def test_xids_wrap_around(first: int, second: int, *, expected: bool) -> None:
    assert precedes(first, second) is expected
