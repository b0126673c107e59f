"""
The state of a slot in one snapshot.

The slot is being created, or it exists and something may retain its WAL, or it is a standby's copy of a failover slot
that may not survive a promotion.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum

from pgslot.diagnosis.creation_wait import (
    CreationWait,
    WaitReason,
    creation_waits,
    oldest_xid_transaction,
    replay_blocked_by,
)
from pgslot.diagnosis.failover_readiness import NotReadyReason, Readiness, synced_slots, synchronises
from pgslot.diagnosis.pinning import Pinning
from pgslot.diagnosis.retention import RetentionCause, diagnose_retention
from pgslot.postgres.types import xid_precedes
from pgslot.snapshot.history import SEGMENT_BYTES
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.snapshot.rows import Slot, Transaction

LONG_TRANSACTION_SECONDS = 5.0
"""A transaction that has been open for longer may block a copy; shorter ones end by themselves."""


@dataclass(frozen=True, slots=True)
class SlotKey:
    """The slot that an alert is about, on the node where it lives."""

    node: str
    slot_name: str


class SlotCondition(StrEnum):
    """The condition of a slot in one snapshot."""

    WAITING = "waiting"
    """Its creation has not finished."""
    STALLED = "stalled"
    """It exists, and its restart_lsn is pinned although no transaction pins it."""
    NOT_PERSISTED = "not_persisted"
    """A standby's copy of a failover slot is temporary: the primary's slot is behind the standby's horizon."""
    UNREADY = "unready"
    """There is no copy of a failover slot on this standby, for a reason that no remedy removes."""
    INCONCLUSIVE = "inconclusive"
    """It exists; what retains its WAL shows only in whether its positions move over several snapshots."""
    RETAINED = "retained"
    """It exists, and a transaction, its consumer or a standby retains its WAL."""
    USABLE = "usable"
    LOST = "lost"
    """Invalidated: nothing can help it."""
    DROPPED = "dropped"
    UNOBSERVED = "unobserved"
    """The node did not answer, or not in full."""


@dataclass(frozen=True, slots=True)
class SlotState:
    """One slot in one snapshot."""

    condition: SlotCondition
    wait: CreationWait | None = None
    """None unless the condition is WAITING."""
    slot: Slot | None = None
    """None for a slot that was dropped or not observed."""
    cause: RetentionCause | None = None
    """Why an existing slot retains WAL."""
    obstacle: WaitReason | None = None
    """Why the standby replays nothing, so that no new record reaches it. None: it replays, or it is a primary."""
    on_primary: bool = False
    original: Slot | None = None
    """The primary's failover slot, if this slot is, or should be, the standby's copy of it. None: it is not a copy."""
    not_ready_reason: NotReadyReason | None = None
    """Why that copy would be useless after a promotion. None: it is ready, or nothing is to be copied."""
    blocker: Transaction | None = None
    """The transaction that keeps the copy temporary."""
    pinned_by: Transaction | None = None
    """The transaction that retains an existing slot's WAL, if the cause is a transaction."""
    pinning: Pinning | None = None
    """Which transactions can, and whether that is proven. None unless the cause is a transaction."""
    replayed: int | None = None
    """Up to where the standby has replayed WAL on which the slot is being created, in bytes since 0/0."""

    @property
    def consumed(self) -> Slot | None:
        """The slot whose consumer has to read for this slot to move: for a copy, the primary's slot."""
        return self.original if self.condition is SlotCondition.NOT_PERSISTED else self.slot

    @property
    def persisted(self) -> bool:
        """It is a copy that would survive a promotion."""
        return self.original is not None and self.not_ready_reason is None

    @property
    def reason(self) -> str | None:
        """What it waits for, as in the metrics' label `reason`; None: nothing."""
        if self.wait is not None:
            return self.wait.reason
        if self.condition is SlotCondition.STALLED:
            return self.obstacle or RetentionCause.STALLED
        if self.condition is SlotCondition.NOT_PERSISTED:
            return self._why_temporary
        if self.condition is SlotCondition.UNREADY:
            return self.not_ready_reason
        return self.cause if self.condition in (SlotCondition.RETAINED, SlotCondition.INCONCLUSIVE) else None

    @property
    def _why_temporary(self) -> str:
        if self.obstacle is not None:
            return self.obstacle
        if self.blocker is not None:
            return WaitReason.TRANSACTION
        inactive = self.original is not None and not self.original.active
        return RetentionCause.INACTIVE if inactive else NotReadyReason.NOT_PERSISTED


_PERSISTENT = frozenset({None, NotReadyReason.NAME_CLASH, NotReadyReason.STALE})
"""Readiness of slots that are persistent, whether or not their consumer could go on after a promotion."""


def evaluate(cluster: ClusterSnapshot, keys: Collection[SlotKey]) -> dict[SlotKey, SlotState]:
    """Return the state of each of these slots in the snapshot."""
    waiting = {SlotKey(wait.node, wait.creation.slot_name): wait for wait in creation_waits(cluster)}
    answered = {node.node: node for node in cluster.nodes if node.slots is not None and node.creations is not None}
    slots = {SlotKey(node.node, slot.slot_name): slot for node in answered.values() for slot in node.slots or ()}
    copies = {name: synced_slots(answered[name], cluster) for name in {key.node for key in keys} & answered.keys()}

    def state_of(key: SlotKey) -> SlotState:
        if key.node not in answered:
            return SlotState(SlotCondition.UNOBSERVED)
        node = answered[key.node]
        if key in waiting:
            replayed = None if node.is_primary or node.facts is None else node.facts.wal_written_bytes
            return SlotState(
                SlotCondition.WAITING, waiting[key], slots.get(key), on_primary=node.is_primary, replayed=replayed
            )
        copy = copies[key.node].get(key.slot_name)
        if copy is not None and copy.not_ready_reason not in _PERSISTENT:
            return _unready(copy, node, cluster)
        if cluster.primary is None and _may_be_a_copy(slots.get(key), node):
            return SlotState(SlotCondition.UNOBSERVED)
        if key not in slots:
            return SlotState(SlotCondition.DROPPED)
        state = _existing(slots[key], node, cluster)
        if copy is None or copy.not_ready_reason is NotReadyReason.NAME_CLASH:
            return state
        return replace(state, original=copy.original)

    return {key: state_of(key) for key in keys}


def condition_of(slot: Slot, cause: RetentionCause) -> SlotCondition:
    """Return the condition of an existing slot that retains WAL for this cause."""
    match cause:
        case RetentionCause.INVALIDATED:
            return SlotCondition.LOST
        case RetentionCause.STALLED:
            return SlotCondition.STALLED
        case RetentionCause.NONE:
            return SlotCondition.USABLE
        case RetentionCause.CREATION:
            # Two queries of the snapshot, a moment apart, disagree: one saw it in creation, the other did not.
            return SlotCondition.UNOBSERVED
        case RetentionCause.UNKNOWN:
            return SlotCondition.INCONCLUSIVE
        case RetentionCause.INACTIVE:
            pinned, unconfirmed = slot.pinned_wal_bytes or 0, slot.unconfirmed_wal_bytes or 0
            if max(pinned, unconfirmed) <= SEGMENT_BYTES:
                return SlotCondition.USABLE
            # No consumer is connected. If it confirmed all it read, later snapshots show whether a record is missing.
            return SlotCondition.INCONCLUSIVE if pinned > unconfirmed else SlotCondition.RETAINED
    return SlotCondition.RETAINED


def was_recreated(before: SlotState, now: SlotState) -> bool:
    """Return whether the slot was dropped and created again: another creator, or a position that went back."""
    if before.wait is not None and now.wait is not None and before.wait.creation.pid != now.wait.creation.pid:
        return True
    if before.wait is None and now.wait is not None and before.slot is not None:
        return True
    return _went_back(before.slot, now.slot) or _went_back(before.original, now.original)


def _went_back(before: Slot | None, now: Slot | None) -> bool:
    if before is None or now is None:
        return False
    return (
        _back(before.restart_position, now.restart_position)
        or _back(before.confirmed_position, now.confirmed_position)
        or _older(before.catalog_xmin, now.catalog_xmin)
        # A new slot has new statistics. A user who only resets them makes us miss a success.
        or _back(before.total_bytes, now.total_bytes)
    )


def _back(before: int | None, now: int | None) -> bool:
    return before is not None and now is not None and now < before


def _older(before: int | None, now: int | None) -> bool:
    return before is not None and now is not None and xid_precedes(now, before)


def _unready(readiness: Readiness, node: NodeSnapshot, cluster: ClusterSnapshot) -> SlotState:
    match readiness.not_ready_reason:
        case NotReadyReason.UNKNOWN:
            return SlotState(SlotCondition.UNOBSERVED)
        case NotReadyReason.INVALIDATED:
            return SlotState(
                SlotCondition.LOST,
                slot=readiness.copy,
                original=readiness.original,
                not_ready_reason=readiness.not_ready_reason,
            )
        case NotReadyReason.NOT_PERSISTED:
            return SlotState(
                SlotCondition.NOT_PERSISTED,
                slot=readiness.copy,
                obstacle=replay_blocked_by(node, cluster),
                original=readiness.original,
                not_ready_reason=readiness.not_ready_reason,
                blocker=_copy_blocker(readiness.copy, cluster.primary),
            )
    return SlotState(SlotCondition.UNREADY, original=readiness.original, not_ready_reason=readiness.not_ready_reason)


def _may_be_a_copy(slot: Slot | None, node: NodeSnapshot) -> bool:
    """
    Return whether this may be a copy that is not ready; without a known primary, that cannot be decided.

    The slot synchronization worker ends with its connection to the primary, and drops temporary copies when it ends.
    """
    if node.is_primary or not synchronises(node):
        return False
    return slot is None or (slot.synced is True and slot.temporary)


def _copy_blocker(copy: Slot | None, primary: NodeSnapshot | None) -> Transaction | None:
    """
    Return the primary's oldest transaction if the copy has to wait for its end, otherwise None.

    A transaction whose xid is older than the copy's catalog_xmin keeps the primary's catalog_xmin behind the standby's.
    While a younger one is open, the standby still finds no consistent point (LogicalSlotAdvanceAndCheckSnapState).
    """
    oldest = None if primary is None else oldest_xid_transaction(primary)
    if oldest is None or oldest.xid is None or copy is None:
        return None
    older = copy.catalog_xmin is not None and xid_precedes(oldest.xid, copy.catalog_xmin)
    return oldest if older or oldest.age_seconds is None or oldest.age_seconds >= LONG_TRANSACTION_SECONDS else None


def _existing(slot: Slot, node: NodeSnapshot, cluster: ClusterSnapshot) -> SlotState:
    retention = diagnose_retention(slot, node, cluster)
    condition = condition_of(slot, retention.cause)
    if condition is SlotCondition.UNOBSERVED:
        return SlotState(condition)
    return SlotState(
        condition,
        slot=slot,
        cause=retention.cause,
        obstacle=replay_blocked_by(node, cluster),
        on_primary=node.is_primary,
        pinned_by=retention.blocker,
        pinning=retention.pinning,
    )
