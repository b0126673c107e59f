"""
Why a slot creation waits: a pure function of what the nodes of a cluster showed.

What no running-xacts record can help against is checked first (a transaction that holds a lock, replay that does not
advance), then the missing record itself.
"""

from dataclasses import dataclass
from enum import StrEnum

from pgslot.diagnosis.upstream import fed_from_archive, topmost_standby
from pgslot.postgres.types import xid_precedes
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.snapshot.rows import SlotCreation, Transaction

REPLAY_LAG_BYTES = 16 * 1024 * 1024
"""One WAL segment: a standby that lags by more has received records that it has not replayed yet."""

ARRIVAL_SECONDS = 10.0
"""If a standby received nothing for so long, WAL that the primary wrote before that does not reach it."""

_BUFFER_PIN = ("BufferPin", "BufferCleanup")
"""Wait events of replay that has to clean up a page which sessions use; 19 renamed it, and has others of its type."""


class WaitReason(StrEnum):
    """What a slot creation waits for."""

    TRANSACTION = "transaction"
    RUNNING_XACTS = "running_xacts"
    REPLAY_PAUSED = "replay_paused"
    WAL_RECEIVER_DOWN = "wal_receiver_down"
    REPLAY_LAG = "replay_lag"
    RECOVERY_CONFLICT = "recovery_conflict"
    REPLAY_DELAYED = "replay_delayed"
    """recovery_min_apply_delay: a record is replayed only after the transactions before it, which are delayed."""
    ARCHIVED_SEGMENT = "archived_segment"
    """The standby gets WAL from an archive alone: a record arrives with the next archived segment."""
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class CreationWait:
    """A slot creation that waits, the reason, and the oldest transaction that it waits for if that is the reason."""

    node: str
    creation: SlotCreation
    reason: WaitReason
    blocker: Transaction | None = None


def creation_waits(cluster: ClusterSnapshot) -> list[CreationWait]:
    """Diagnose every slot creation that waits on any node of the cluster."""
    return [
        _diagnose(node, creation, cluster)
        for node in cluster.nodes
        if node.facts is not None
        for creation in node.creations or ()
    ]


def replay_blocked_by(node: NodeSnapshot, cluster: ClusterSnapshot) -> WaitReason | None:
    """Return why the standby does not replay new records at the moment; None: it does, or this is a primary."""
    standby = node.standby
    if standby is None:
        return None
    if standby.replay_pause_state not in (None, "not paused"):
        return WaitReason.REPLAY_PAUSED
    event = standby.startup_wait_event or ""
    if event.startswith("RecoveryConflict") or event in _BUFFER_PIN or standby.startup_wait_event_type == "Lock":
        return WaitReason.RECOVERY_CONFLICT
    if event == "RecoveryApplyDelay" or (standby.apply_delay_seconds and standby.replay_lag_bytes):
        return WaitReason.REPLAY_DELAYED
    topmost = topmost_standby(node, cluster).standby
    if topmost is not None and topmost.receiver_running is False and not fed_from_archive(topmost):
        return WaitReason.WAL_RECEIVER_DOWN
    if standby.replay_lag_bytes is not None and standby.replay_lag_bytes > REPLAY_LAG_BYTES:
        return WaitReason.REPLAY_LAG
    return WaitReason.WAL_RECEIVER_DOWN if _receives_nothing(node, cluster.primary) else None


def _receives_nothing(node: NodeSnapshot, primary: NodeSnapshot | None) -> bool:
    """Return whether WAL has stopped arriving, as below a standby that is not configured and receives none itself."""
    replayed_now = node.facts.wal_written_bytes if node.facts is not None else None
    if primary is None or replayed_now is None or node.standby is None or node.standby.replay_lag_bytes is None:
        return False
    then = node.history.at - ARRIVAL_SECONDS
    written, replayed = primary.history.position_before(then), node.history.position_before(then)
    received_now = replayed_now + node.standby.replay_lag_bytes
    return written is not None and replayed_now == replayed and written > received_now


def oldest_xid_transaction(node: NodeSnapshot) -> Transaction | None:
    """Return the open or prepared transaction with the oldest xid; None: none has an xid."""
    candidates = [transaction for transaction in node.transactions or () if transaction.oldest_xid]
    return max(candidates, key=lambda transaction: transaction.xid_age or 0, default=None)


def _diagnose(node: NodeSnapshot, creation: SlotCreation, cluster: ClusterSnapshot) -> CreationWait:
    if node.is_primary:
        reason = _on_primary(creation)
        return CreationWait(
            node.node, creation, reason, oldest_xid_transaction(node) if reason is WaitReason.TRANSACTION else None
        )
    replay = replay_blocked_by(node, cluster)
    wait = _on_standby(node, creation, cluster.primary)
    if replay is WaitReason.REPLAY_LAG and _needs_more_than_replay(wait, node):
        return wait
    if replay is not None:
        return CreationWait(node.node, creation, replay)
    if wait.reason is WaitReason.RUNNING_XACTS and fed_from_archive(topmost_standby(node, cluster).standby):
        return CreationWait(node.node, creation, WaitReason.ARCHIVED_SEGMENT)
    return wait


def _needs_more_than_replay(wait: CreationWait, node: NodeSnapshot) -> bool:
    """Return whether replay goes on, late, and a transaction from before the creation holds the creation up anyway."""
    before = node.history.samples[-2:-1]
    return (
        bool(before)
        and before[0].position < node.history.samples[-1].position
        and wait.blocker is not None
        and _began_before(wait.blocker, wait.creation)
    )


def _on_primary(creation: SlotCreation) -> WaitReason:
    # A primary logs the record that it waits for itself, so only a transaction can make it wait for long.
    if creation.blocking_pids or (creation.wait_event_type, creation.wait_event) == ("Lock", "transactionid"):
        return WaitReason.TRANSACTION
    return WaitReason.UNKNOWN


def _on_standby(node: NodeSnapshot, creation: SlotCreation, primary: NodeSnapshot | None) -> CreationWait:
    if (creation.wait_event or "").lower() == "walsenderwaitforwal":
        return CreationWait(node.node, creation, WaitReason.RUNNING_XACTS)
    blocker = oldest_xid_transaction(primary) if primary is not None else None
    if creation.backend_type == "walsender":
        # It shows no wait event while it polls for a transaction's end, and for a moment between two waits. Which
        # transactions the last record named cannot be seen: they may have begun after the creation, but the oldest one
        # is among them.
        reason = WaitReason.UNKNOWN if blocker is None else WaitReason.TRANSACTION
        return CreationWait(node.node, creation, reason, blocker)
    if primary is None or primary.transactions is None:
        return CreationWait(node.node, creation, WaitReason.UNKNOWN)
    # pg_create_logical_replication_slot() shows no wait event, whatever it waits for.
    if blocker is None:
        return CreationWait(node.node, creation, WaitReason.RUNNING_XACTS)
    if _began_before(blocker, creation):
        return CreationWait(node.node, creation, WaitReason.TRANSACTION, blocker)
    return CreationWait(node.node, creation, WaitReason.UNKNOWN)


def _began_before(transaction: Transaction, creation: SlotCreation) -> bool:
    """Return whether the transaction began before the creation, which then has to wait for it."""
    if (
        transaction.xid is not None
        and creation.catalog_xmin is not None
        and xid_precedes(transaction.xid, creation.catalog_xmin)
    ):
        return True
    # catalog_xmin is older than the creation's own horizon when another slot holds it back: then only the ages show it.
    return (
        transaction.age_seconds is not None
        and creation.wait_seconds is not None
        and transaction.age_seconds >= creation.wait_seconds
    )
