"""
Why a creation waits, and why a slot retains WAL: pure functions of what the nodes of a cluster showed.

The order of the tests is that of section 2 and 3 of the facts this project measured: first what no running-xacts record
can help (a transaction that holds a lock, replay that stands still), then the missing record itself.
"""

from dataclasses import dataclass
from enum import StrEnum

from exporter.probes import Creation, Slot, Standby, Transaction
from exporter.snapshot import ClusterSnapshot, NodeSnapshot

REPLAY_LAG_BYTES = 16 * 1024 * 1024
"""One WAL segment: a standby that lags by more has records in hand that it has not replayed yet."""

PINNED_BYTES = 16 * 1024 * 1024
"""Less than a segment of pinned WAL is what lies between two running-xacts records on a healthy server."""

UNCONFIRMED_BYTES = 16 * 1024 * 1024


class WaitReason(StrEnum):
    """What a slot creation waits for."""

    TRANSACTION = "transaction"
    RUNNING_XACTS = "running_xacts"
    REPLAY_PAUSED = "replay_paused"
    WAL_RECEIVER_DOWN = "wal_receiver_down"
    REPLAY_LAG = "replay_lag"
    RECOVERY_CONFLICT = "recovery_conflict"
    UNKNOWN = "unknown"


class RetentionCause(StrEnum):
    """Why a slot retains WAL."""

    INVALIDATED = "invalidated"
    CREATION = "creation"
    INACTIVE = "inactive"
    CONSUMER = "consumer"
    TRANSACTION = "transaction"
    STALLED = "stalled"
    NONE = "none"
    """It retains no more than a healthy slot does."""


@dataclass(frozen=True, slots=True)
class Wait:
    """A creation that waits, with the reason, and with the oldest transaction that blocks it if that is the reason."""

    node: str
    creation: Creation
    reason: WaitReason
    blocker: Transaction | None = None


def waits(cluster: ClusterSnapshot) -> list[Wait]:
    """Diagnose each creation that waits on any node of the cluster."""
    return [
        _diagnose(node, creation, cluster)
        for node in cluster.nodes
        if node.facts is not None
        for creation in node.creations or ()
    ]


def retention_cause(slot: Slot, node: NodeSnapshot, cluster: ClusterSnapshot) -> RetentionCause | None:
    """Return why this slot retains WAL; None when what would tell is unknown."""
    if slot.wal_status == "lost" or slot.invalidation_reason is not None:
        return RetentionCause.INVALIDATED
    if slot.in_creation:
        return RetentionCause.CREATION
    # A batch consumer that confirms all it reads, and is away until its next read, is not what holds the WAL.
    absent = not slot.active and not slot.synced
    if slot.unconfirmed_wal_bytes is not None and slot.unconfirmed_wal_bytes > UNCONFIRMED_BYTES:
        return RetentionCause.INACTIVE if absent else RetentionCause.CONSUMER
    if slot.slot_type == "physical" and slot.active and (slot.retained_wal_bytes or 0) > UNCONFIRMED_BYTES:
        # Its restart_lsn is what the receiver has confirmed; there is no other mark.
        return RetentionCause.CONSUMER
    if slot.pinned_wal_bytes is None or slot.pinned_wal_bytes <= PINNED_BYTES:
        return RetentionCause.INACTIVE if absent else RetentionCause.NONE
    writer = node if node.is_primary else cluster.primary
    if writer is None or writer.transactions is None:
        return None
    return RetentionCause.TRANSACTION if _holds(oldest_xid(writer), slot.catalog_xmin) else RetentionCause.STALLED


def needs_primary(node: NodeSnapshot) -> bool:
    """Return whether what this node shows can only be explained by what its primary shows."""
    if node.is_primary or not node.up:
        return False
    pinned = any((slot.pinned_wal_bytes or 0) > PINNED_BYTES for slot in node.slots or ())
    return pinned or bool(node.creations)


def replay_stands(standby: Standby | None) -> WaitReason | None:
    """Return why the standby replays no new record for now; None when it does, and on a primary."""
    if standby is None:
        return None
    if standby.replay_pause_state != "not paused":
        return WaitReason.REPLAY_PAUSED
    event = standby.startup_wait_event or ""
    if event.startswith("RecoveryConflict") or standby.startup_wait_event_type in ("Lock", "BufferPin"):
        return WaitReason.RECOVERY_CONFLICT
    if not standby.receiver_running and standby.streaming_configured is not False:
        return WaitReason.WAL_RECEIVER_DOWN
    if standby.replay_lag_bytes is not None and standby.replay_lag_bytes > REPLAY_LAG_BYTES:
        return WaitReason.REPLAY_LAG
    return None


def oldest_xid(node: NodeSnapshot) -> Transaction | None:
    """Return the open transaction with the oldest xid, in a session or prepared; None when none has an xid."""
    holders = [transaction for transaction in node.transactions or () if transaction.oldest_xid]
    return max(holders, key=lambda transaction: transaction.xid_age or 0, default=None)


def precedes(first: int, second: int) -> bool:
    """Return whether one 32-bit xid is older than another, as PostgreSQL's TransactionIdPrecedes does: modulo 2^32."""
    return (first - second) % 2**32 >= 2**31


def _diagnose(node: NodeSnapshot, creation: Creation, cluster: ClusterSnapshot) -> Wait:
    if node.is_primary:
        reason = _on_primary(creation)
        return Wait(node.node, creation, reason, oldest_xid(node) if reason is WaitReason.TRANSACTION else None)
    replay = replay_stands(node.standby)
    if replay is not None:
        return Wait(node.node, creation, replay)
    return _on_standby(node, creation, cluster.primary)


def _on_primary(creation: Creation) -> WaitReason:
    # The server logs the record that it waits for itself there, so that only a transaction can make it wait for long.
    if creation.blocking_pids or (creation.wait_event_type, creation.wait_event) == ("Lock", "transactionid"):
        return WaitReason.TRANSACTION
    return WaitReason.UNKNOWN


def _on_standby(node: NodeSnapshot, creation: Creation, primary: NodeSnapshot | None) -> Wait:
    if (creation.wait_event or "").lower() == "walsenderwaitforwal":
        return Wait(node.node, creation, WaitReason.RUNNING_XACTS)
    blocker = oldest_xid(primary) if primary is not None else None
    if creation.backend_type == "walsender":
        # It shows no event while it polls for a transaction's end, and for a moment between two waits. Which ones the
        # last record named cannot be seen: they may have begun after the creation, but the oldest is among them.
        reason = WaitReason.UNKNOWN if blocker is None else WaitReason.TRANSACTION
        return Wait(node.node, creation, reason, blocker)
    if primary is None or primary.transactions is None:
        return Wait(node.node, creation, WaitReason.UNKNOWN)
    # pg_create_logical_replication_slot() shows no event whatever it waits for.
    if blocker is None:
        return Wait(node.node, creation, WaitReason.RUNNING_XACTS)
    if _began_before(blocker, creation):
        return Wait(node.node, creation, WaitReason.TRANSACTION, blocker)
    return Wait(node.node, creation, WaitReason.UNKNOWN)


def _began_before(transaction: Transaction, creation: Creation) -> bool:
    """Return whether the transaction is one that this creation has to wait for in any case."""
    if (
        transaction.xid is not None
        and creation.catalog_xmin is not None
        and precedes(transaction.xid, creation.catalog_xmin)
    ):
        return True
    # catalog_xmin is lower than the creation's own horizon when another slot holds it back: then only time can tell.
    return (
        transaction.age_seconds is not None
        and creation.wait_seconds is not None
        and transaction.age_seconds >= creation.wait_seconds
    )


def _holds(transaction: Transaction | None, catalog_xmin: int | None) -> bool:
    """Return whether an open transaction is what keeps the slot's catalog_xmin where it is."""
    if transaction is None or transaction.xid is None or catalog_xmin is None:
        return False
    return not precedes(catalog_xmin, transaction.xid)
