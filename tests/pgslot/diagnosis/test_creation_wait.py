"""Why a slot creation waits: tables of cases, one line each."""

from dataclasses import replace
from typing import Any

import pytest

from pgslot.diagnosis.creation_wait import WaitReason, creation_waits
from pgslot.postgres.types import xid_precedes
from pgslot.snapshot.history import History, Sample
from pgslot.snapshot.model import NodeSnapshot
from pgslot.snapshot.rows import Transaction, WalSender
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

NO_RECEIVER: dict[str, Any] = {"receiver_running": False, "receiver_status": None}
ARCHIVE_ALONE = NO_RECEIVER | {"streaming_configured": False, "restores_from_archive": True}

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
        NO_RECEIVER,
        IDLE_PRIMARY,
        "wal_receiver_down",
        None,
    ),
    (
        "no WAL receiver, none configured, and no archive either",
        WAL,
        NO_RECEIVER | {"streaming_configured": False},
        IDLE_PRIMARY,
        "wal_receiver_down",
        None,
    ),
    (
        "fed from an archive alone",
        WAL,
        ARCHIVE_ALONE,
        IDLE_PRIMARY,
        "archived_segment",
        None,
    ),
    (
        "fed from an archive alone, and a transaction is open",
        {},
        ARCHIVE_ALONE,
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


LATE_REPLAY: list[tuple[str, dict[str, Any], Transaction, tuple[int, ...], str]] = [
    ("replay goes on, and an older transaction is open", {}, TRANSACTION, (900, 1000), "transaction"),
    ("replay stands still", {}, TRANSACTION, (1000, 1000), "replay_lag"),
    ("whether replay goes on is not known", {}, TRANSACTION, (1000,), "replay_lag"),
    ("no record has been replayed yet", WAL, TRANSACTION, (900, 1000), "replay_lag"),
    ("the transaction began later", {}, LATER, (900, 1000), "replay_lag"),
]
"""(the creation, the oldest transaction of the primary, what the standby had replayed, 3 s ago and now, the reason)."""


@pytest.mark.parametrize(
    ("creation", "oldest", "replayed", "reason"), [c[1:] for c in LATE_REPLAY], ids=[c[0] for c in LATE_REPLAY]
)
def test_steady_replay_lag_does_not_hide_the_transaction_that_a_creation_waits_for(
    creation: dict[str, Any], oldest: Transaction, replayed: tuple[int, ...], reason: str
) -> None:
    samples = tuple(Sample(NOW - 3 * i, here, None, None) for i, here in enumerate(reversed(replayed)))[::-1]
    replica = replace(
        node(
            "s",
            recovery=True,
            creations=(replace(CREATION, **creation),),
            standby=replace(STANDBY, replay_lag_bytes=SEGMENT + 1),
        ),
        history=History(NOW, samples),
    )
    [wait] = creation_waits(cluster(node("p", recovery=False, transactions=(oldest,)), replica))
    assert (wait.reason, wait.blocker) == (reason, oldest if reason == "transaction" else None)


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


SLOT_S = WalSender("walreceiver", "10.0.0.2", "s")
SLOT_UP = WalSender("walreceiver", "10.0.0.1", "up")
NAMED_S = WalSender("s", "10.0.0.2", "")
STREAMING: dict[str, Any] = {"receiver_slot_name": "up"}
BY_SLOT: dict[str, Any] = {"receiver_slot_name": "s"}
BY_NAME: dict[str, Any] = {"receiver_slot_name": None, "receiver_application_name": "s"}

UPSTREAM: list[tuple[str, dict[str, Any], tuple[WalSender, ...], dict[str, Any], tuple[WalSender, ...] | None, str]] = [
    ("upstream streams", BY_SLOT, (SLOT_S,), STREAMING, (SLOT_UP,), "running_xacts"),
    ("upstream has no receiver, by slot", BY_SLOT, (SLOT_S,), NO_RECEIVER, (), "wal_receiver_down"),
    ("upstream has no receiver, by name", BY_NAME, (NAMED_S,), NO_RECEIVER, (), "wal_receiver_down"),
    ("upstream is fed from an archive alone", BY_SLOT, (SLOT_S,), ARCHIVE_ALONE, (), "archived_segment"),
    ("the standby streams from the primary, by slot", BY_SLOT, (), NO_RECEIVER, (SLOT_S,), "running_xacts"),
    ("both serve a standby of this name", BY_NAME, (NAMED_S,), NO_RECEIVER, (NAMED_S,), "running_xacts"),
    ("a name is no proof of a slot", BY_SLOT, (NAMED_S,), NO_RECEIVER, (), "running_xacts"),
    ("whom the primary serves is not known", BY_SLOT, (SLOT_S,), NO_RECEIVER, None, "running_xacts"),
]
"""(the standby's receiver, whom the upstream standby serves, its own receiver, whom the primary serves, the reason)."""


@pytest.mark.parametrize(
    ("receiver", "served", "upstream", "served_by_primary", "reason"),
    [c[1:] for c in UPSTREAM],
    ids=[c[0] for c in UPSTREAM],
)
def test_creation_below_a_standby_without_wal_receiver_waits_for_that_at_once(
    receiver: dict[str, Any],
    served: tuple[WalSender, ...],
    upstream: dict[str, Any],
    served_by_primary: tuple[WalSender, ...] | None,
    reason: str,
) -> None:
    """The first snapshot shows it, whether the primary writes WAL or not, and however many standbys are between."""
    waiting = (replace(CREATION, wait_event="WalSenderWaitForWal"),)
    primary = node("p", recovery=False, senders=served_by_primary)
    up = node("up", recovery=True, standby=replace(STANDBY, **upstream), senders=served)
    down = node("s", recovery=True, standby=replace(STANDBY, **receiver), creations=waiting)
    [wait] = creation_waits(cluster(primary, up, down))
    assert wait.reason == reason
    lowest = node("t", recovery=True, standby=replace(STANDBY, receiver_slot_name="t"), creations=waiting)
    down = replace(down, creations=(), senders=(WalSender("walreceiver", "", "t"),))
    [wait] = creation_waits(cluster(lowest, down, up, primary))
    assert wait.reason == reason


def test_standbys_that_seem_to_stream_from_each_other_are_cut_off_by_neither() -> None:
    pair = [
        node(
            name,
            recovery=True,
            standby=replace(STANDBY, receiver_slot_name=name),
            senders=(WalSender("walreceiver", "", other),),
            creations=(replace(CREATION, wait_event="WalSenderWaitForWal"),),
        )
        for name, other in (("s", "t"), ("t", "s"))
    ]
    assert {wait.reason for wait in creation_waits(cluster(IDLE_PRIMARY, *pair))} == {WaitReason.RUNNING_XACTS}


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
