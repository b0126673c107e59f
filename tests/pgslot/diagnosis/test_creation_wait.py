"""Why a slot creation waits: tables of cases, one line each."""

from dataclasses import replace
from typing import Any

import pytest

from pgslot.diagnosis.creation_wait import WaitReason, creation_waits
from pgslot.postgres.types import xid_precedes
from pgslot.snapshot.history import History, Sample
from pgslot.snapshot.model import NodeSnapshot
from pgslot.snapshot.rows import Transaction
from tests.support.builders.snapshots import CREATION, STANDBY, TRANSACTION, cluster, node, unreachable_node

PREPARED = replace(
    TRANSACTION, kind="prepared", backend_type="prepared", pid=None, application_name="gid-1", xid=680, xid_age=23
)
LATER = replace(TRANSACTION, xid=710, xid_age=1, age_seconds=5.0)
NOW = 1000.0
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
def test_each_wait_on_a_primary_has_its_reason(
    changes: dict[str, Any], reason: str, blocker: Transaction | None
) -> None:
    primary = node("p", recovery=False, creations=(replace(CREATION, **changes),), transactions=(TRANSACTION,))
    [wait] = creation_waits(cluster(primary))
    assert (wait.node, wait.reason, wait.blocker) == ("p", reason, blocker)


WAL = {"wait_event_type": "Client", "wait_event": "WalSenderWaitForWal"}
WAL_16 = {"wait_event_type": "Client", "wait_event": "WalSenderWaitForWAL"}
FUNCTION = {"backend_type": "client backend"}

STANDBY_CASES: list[tuple[str, dict[str, Any], dict[str, Any], NodeSnapshot, str, Transaction | None]] = [
    ("waits for a record", WAL, {}, IDLE_PRIMARY, "running_xacts", None),
    ("waits for a record, 16's spelling", WAL_16, {}, IDLE_PRIMARY, "running_xacts", None),
    ("waits for a record, primary unseen", WAL, {}, unreachable_node("p"), "running_xacts", None),
    (
        "a transaction is open but no record has named it yet",
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
        "SQL function, the only open transaction began later: it cannot be decided",
        FUNCTION,
        {},
        node("p", recovery=False, transactions=(LATER,)),
        "unknown",
        None,
    ),
    (
        "horizon held back by another slot: the ages decide",
        {"catalog_xmin": 600},
        {},
        node("p", recovery=False, transactions=(TRANSACTION,)),
        "transaction",
        TRANSACTION,
    ),
    ("walsender without an event and nothing open", {}, {}, IDLE_PRIMARY, "unknown", None),
    ("walsender without an event, primary unseen", {}, {}, unreachable_node("p"), "unknown", None),
    ("SQL function, nothing open", FUNCTION, {}, IDLE_PRIMARY, "running_xacts", None),
    ("SQL function, primary unseen", FUNCTION, {}, unreachable_node("p"), "unknown", None),
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
        "archived_segment",
        None,
    ),
    (
        "fed from an archive alone, and a transaction is open",
        {},
        {"receiver_running": False, "receiver_status": None, "streaming_configured": False},
        node("p", recovery=False, transactions=(TRANSACTION,)),
        "transaction",
        TRANSACTION,
    ),
    (
        "replay waits for its time",
        WAL,
        {"startup_wait_event_type": "Timeout", "startup_wait_event": "RecoveryApplyDelay"},
        IDLE_PRIMARY,
        "replay_delayed",
        None,
    ),
    (
        "replay is late on purpose, and busy just now",
        WAL,
        {"apply_delay_seconds": 3600.0, "replay_lag_bytes": 2 * SEGMENT, "startup_wait_event": None},
        IDLE_PRIMARY,
        "replay_delayed",
        None,
    ),
    ("replay may be late, and is not", WAL, {"apply_delay_seconds": 3600.0}, IDLE_PRIMARY, "running_xacts", None),
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
    (
        "replay waits for a page",
        WAL,
        {"startup_wait_event_type": "BufferPin", "startup_wait_event": "BufferPin"},
        IDLE_PRIMARY,
        "recovery_conflict",
        None,
    ),
    (
        "replay waits for a page, as 19 says it",
        WAL,
        {"startup_wait_event_type": "Buffer", "startup_wait_event": "BufferCleanup"},
        IDLE_PRIMARY,
        "recovery_conflict",
        None,
    ),
    (
        "replay is at a page, as 19 says it",
        WAL,
        {"startup_wait_event_type": "Buffer", "startup_wait_event": "BufferExclusive"},
        IDLE_PRIMARY,
        "running_xacts",
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
def test_each_wait_on_a_standby_has_its_reason(
    creation: dict[str, Any],
    standby: dict[str, Any],
    primary: NodeSnapshot,
    reason: str,
    blocker: Transaction | None,
) -> None:
    replica = node("s", recovery=True, creations=(replace(CREATION, **creation),), standby=replace(STANDBY, **standby))
    [wait] = creation_waits(cluster(primary, replica))
    assert (wait.node, wait.reason, wait.blocker) == ("s", reason, blocker)


CUT_OFF = [
    ("all that was written has come", 1000, (900, 1000), "running_xacts"),
    ("the last of it was written just now", 1000, (1000, 5000), "running_xacts"),
    ("what was written has not come", 1000, (5000, 5000), "wal_receiver_down"),
    ("what was written has been received", 1000, (1100, 5000), "running_xacts"),
    ("it comes, late", 990, (5000, 5000), "running_xacts"),
    ("nothing is remembered of then", 1000, None, "running_xacts"),
]
"""(what the standby had replayed 12 s ago, what the primary had written 12 s ago and now)."""


@pytest.mark.parametrize(("replayed", "written", "reason"), [c[1:] for c in CUT_OFF], ids=[c[0] for c in CUT_OFF])
def test_standby_below_one_that_is_cut_off_waits_for_the_wal_receiver(
    replayed: int, written: tuple[int, int] | None, reason: str
) -> None:
    """Its own receiver streams, from a standby that receives nothing any more."""

    def history(*positions: int) -> History:
        times = (NOW - 12, NOW)
        return History(NOW, tuple(Sample(at, here, None, None) for at, here in zip(times, positions, strict=True)))

    primary = IDLE_PRIMARY if written is None else replace(IDLE_PRIMARY, history=history(*written))
    cascade = replace(
        node(
            "s",
            recovery=True,
            creations=(replace(CREATION, wait_event="WalSenderWaitForWal"),),
            standby=replace(STANDBY, replay_lag_bytes=200),
        ),
        history=history(replayed, 1000),
    )
    [wait] = creation_waits(cluster(primary, cascade))
    assert wait.reason == reason


def test_every_reason_is_in_a_table() -> None:
    produced = {case[2] for case in PRIMARY_CASES} | {case[4] for case in STANDBY_CASES}
    assert produced == {str(reason) for reason in WaitReason}


def test_two_primaries_name_no_blocker() -> None:
    primaries = [node(name, recovery=False, transactions=(TRANSACTION,)) for name in ("p", "q")]
    replica = node("s", recovery=True, creations=(replace(CREATION, backend_type="client backend"),))
    [wait] = creation_waits(cluster(*primaries, replica))
    assert (wait.reason, wait.blocker) == (WaitReason.UNKNOWN, None)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(700, 701, True), (701, 700, False), (700, 700, False), (2**32 - 5, 10, True), (10, 2**32 - 5, False)],
)
def test_xids_wrap_around(first: int, second: int, *, expected: bool) -> None:
    assert xid_precedes(first, second) is expected
