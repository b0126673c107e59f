"""
What one look shows of what alerts point at: a creation that waits, an existing slot and what keeps its WAL, a standby's
copy of a failover slot and whether it would outlive a promotion.
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
from pgslot.diagnosis.retention import RetentionCause, diagnose_retention
from pgslot.postgres.types import xid_precedes
from pgslot.snapshot.history import SEGMENT_BYTES
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.snapshot.rows import Slot, Transaction

SETTLED_SECONDS = 1.0
"""A younger creation may be about to end: it lasts milliseconds when all is well. The alert was about an older one."""

LONG_SECONDS = 5.0
"""A transaction that has been open for longer may be in the way of a copy; shorter ones come and go."""

_HELPED_BY_A_RECORD = frozenset({WaitReason.RUNNING_XACTS, WaitReason.UNKNOWN, WaitReason.TRANSACTION})


@dataclass(frozen=True, slots=True)
class SlotKey:
    """What an alert points at: a slot, on the node where it lives."""

    node: str
    slot_name: str


class SlotCondition(StrEnum):
    """What a look shows of a subject."""

    WAITING = "waiting"
    """Its creation has not finished."""
    STALLED = "stalled"
    """It exists, and its restart_lsn is pinned though nothing pins it."""
    NOT_PERSISTED = "not_persisted"
    """A standby's copy of a failover slot is temporary: the primary's slot is behind the standby's horizon."""
    UNREADY = "unready"
    """There is no copy of a failover slot on this standby, for a reason that no record helps."""
    UNDECIDED = "undecided"
    """It exists, and one look cannot tell what keeps its WAL: only its movement, or the lack of it, can."""
    HELD = "held"
    """It exists, and something that no record helps keeps its WAL: a transaction, its consumer, and the like."""
    USABLE = "usable"
    LOST = "lost"
    """Invalidated: nothing helps it any more."""
    GONE = "gone"
    UNSEEN = "unseen"
    """The node did not answer, or not in full."""


IN_NEED = frozenset({SlotCondition.WAITING, SlotCondition.STALLED, SlotCondition.NOT_PERSISTED})


@dataclass(frozen=True, slots=True)
class SlotState:
    """What one look showed of one subject."""

    state: SlotCondition
    wait: CreationWait | None = None
    """Only while waiting."""
    slot: Slot | None = None
    """None of a slot that is gone or was not seen."""
    cause: RetentionCause | None = None
    """Why an existing slot retains WAL."""
    obstacle: WaitReason | None = None
    """Why no new record reaches the node for now: it replays nothing. None on a primary."""
    on_primary: bool = False
    original: Slot | None = None
    """The primary's failover slot, where this is a standby's copy of it, or should be."""
    unready: NotReadyReason | None = None
    """Why that copy would be of no use after a promotion. None also where nothing is to be copied."""
    blocker: Transaction | None = None
    """A transaction that keeps such a copy temporary."""
    pinned_by: Transaction | None = None
    """A transaction that keeps an existing slot's WAL, where that is the cause."""

    @property
    def consumed(self) -> Slot | None:
        """The slot that a consumer has to read for this one to move; it never reads a copy."""
        return self.original if self.state is SlotCondition.NOT_PERSISTED else self.slot

    @property
    def persisted(self) -> bool:
        """It is a copy that would outlive a promotion."""
        return self.original is not None and self.unready is None

    @property
    def reason(self) -> str | None:
        """What is waited for, in the words of the metrics; None when nothing is."""
        if self.wait is not None:
            return self.wait.reason
        if self.state is SlotCondition.STALLED:
            return self.obstacle or RetentionCause.STALLED
        if self.state is SlotCondition.NOT_PERSISTED:
            return self._why_temporary
        if self.state is SlotCondition.UNREADY:
            return self.unready
        return self.cause if self.state in (SlotCondition.HELD, SlotCondition.UNDECIDED) else None

    @property
    def helped(self) -> bool:
        """A record helps, at once or when a transaction ends; one written before WAL is reserved would be lost."""
        if self.state in (SlotCondition.STALLED, SlotCondition.NOT_PERSISTED):
            return self.obstacle is None
        if self.wait is None:
            return False
        if self.on_primary:
            # What is waited for there is a transaction; when it ends, the server logs the record itself.
            return False
        creation = self.wait.creation
        settled = creation.wait_seconds is not None and creation.wait_seconds >= SETTLED_SECONDS
        return settled and creation.wal_reserved and (self.wait.reason in _HELPED_BY_A_RECORD or self.helped_once)

    @property
    def helped_once(self) -> bool:
        """One record may help, and more of them would not: they travel in whole segments, by way of an archive."""
        return self.wait is not None and self.wait.reason is WaitReason.ARCHIVED_SEGMENT

    @property
    def awaits_commit(self) -> bool:
        """A creation on a standby, for which a transaction of the primary has to end, and a record to follow."""
        return self.wait is not None and self.wait.reason is WaitReason.TRANSACTION and not self.on_primary

    @property
    def curable(self) -> bool:
        """A record alone can end this; a transaction that a creation waits for has to end first."""
        if self.wait is None:
            return self.helped and self.blocker is None
        return self.helped and self.wait.reason is not WaitReason.TRANSACTION

    @property
    def _why_temporary(self) -> str:
        if self.obstacle is not None:
            return self.obstacle
        if self.blocker is not None:
            return WaitReason.TRANSACTION
        away = self.original is not None and not self.original.active
        return RetentionCause.INACTIVE if away else NotReadyReason.NOT_PERSISTED


def evaluate(cluster: ClusterSnapshot, subjects: Collection[SlotKey]) -> dict[SlotKey, SlotState]:
    """Return what the look shows of each subject, on the node where it lives."""
    waiting = {SlotKey(wait.node, wait.creation.slot_name): wait for wait in creation_waits(cluster)}
    in_full = {node.node: node for node in cluster.nodes if node.slots is not None and node.creations is not None}
    slots = {SlotKey(node.node, slot.slot_name): slot for node in in_full.values() for slot in node.slots or ()}
    copies = {name: synced_slots(in_full[name], cluster) for name in {s.node for s in subjects} & in_full.keys()}

    def sight(subject: SlotKey) -> SlotState:
        if subject.node not in in_full:
            return SlotState(SlotCondition.UNSEEN)
        node = in_full[subject.node]
        if subject in waiting:
            return SlotState(SlotCondition.WAITING, waiting[subject], slots.get(subject), on_primary=node.is_primary)
        copy = copies[subject.node].get(subject.slot_name)
        if copy is not None and copy.not_ready_reason not in (None, NotReadyReason.NAME_CLASH):
            return _unready(copy, node, cluster)
        if cluster.primary is None and _may_be_a_copy(slots.get(subject), node):
            return SlotState(SlotCondition.UNSEEN)
        if subject not in slots:
            return SlotState(SlotCondition.GONE)
        found = _existing(slots[subject], node, cluster)
        return found if copy is None or copy.not_ready_reason else replace(found, original=copy.original)

    return {subject: sight(subject) for subject in subjects}


def in_need(cluster: ClusterSnapshot) -> list[SlotKey]:
    """Return every slot that waits for its creation's end, is stalled or a temporary copy, or may turn out to be."""
    everything = [
        SlotKey(node.node, name)
        for node in cluster.nodes
        for name in sorted({slot.slot_name for slot in node.slots or ()} | {c.slot_name for c in node.creations or ()})
    ]
    wanted = IN_NEED | {SlotCondition.UNDECIDED}
    return [subject for subject, sight in evaluate(cluster, everything).items() if sight.state in wanted]


def state_of(slot: Slot, cause: RetentionCause) -> SlotCondition:
    """Return what the reason for which an existing slot retains WAL makes of it."""
    match cause:
        case RetentionCause.INVALIDATED:
            return SlotCondition.LOST
        case RetentionCause.STALLED:
            return SlotCondition.STALLED
        case RetentionCause.NONE:
            return SlotCondition.USABLE
        case RetentionCause.CREATION:
            # Both queries of the look saw it at slightly different moments.
            return SlotCondition.UNSEEN
        case RetentionCause.UNKNOWN:
            return SlotCondition.UNDECIDED
        case RetentionCause.INACTIVE:
            pinned, unconfirmed = slot.pinned_wal_bytes or 0, slot.unconfirmed_wal_bytes or 0
            if max(pinned, unconfirmed) <= SEGMENT_BYTES:
                return SlotCondition.USABLE
            # Its consumer is away. If it has confirmed what it read, whether a record is missing shows with time.
            return SlotCondition.UNDECIDED if pinned > unconfirmed else SlotCondition.HELD
    return SlotCondition.HELD


def _unready(found: Readiness, node: NodeSnapshot, cluster: ClusterSnapshot) -> SlotState:
    match found.not_ready_reason:
        case NotReadyReason.UNKNOWN:
            return SlotState(SlotCondition.UNSEEN)
        case NotReadyReason.INVALIDATED:
            return SlotState(
                SlotCondition.LOST, slot=found.copy, original=found.original, unready=found.not_ready_reason
            )
        case NotReadyReason.NOT_PERSISTED:
            return SlotState(
                SlotCondition.NOT_PERSISTED,
                slot=found.copy,
                obstacle=replay_blocked_by(node, cluster.primary),
                original=found.original,
                unready=found.not_ready_reason,
                blocker=_in_the_way(found.copy, cluster.primary),
            )
    return SlotState(SlotCondition.UNREADY, original=found.original, unready=found.not_ready_reason)


def _may_be_a_copy(slot: Slot | None, node: NodeSnapshot) -> bool:
    """
    Return whether what the node shows cannot be told from a copy that is not ready, as long as no primary is known.

    The worker ends with its connection to the primary, and the copies that are not persistent end with the worker.
    """
    if node.is_primary or not synchronises(node):
        return False
    return slot is None or (slot.synced is True and slot.temporary)


def _in_the_way(copy: Slot | None, primary: NodeSnapshot | None) -> Transaction | None:
    """
    Return the oldest transaction of the primary if the copy has to wait for its end.

    It keeps the primary's catalog_xmin behind the standby's if its xid is older than that. If it is not, it still keeps
    the standby from finding a consistent point (LogicalSlotAdvanceAndCheckSnapState) for as long as it is open.
    """
    oldest = None if primary is None else oldest_xid_transaction(primary)
    if oldest is None or oldest.xid is None or copy is None:
        return None
    older = copy.catalog_xmin is not None and xid_precedes(oldest.xid, copy.catalog_xmin)
    return oldest if older or oldest.age_seconds is None or oldest.age_seconds >= LONG_SECONDS else None


def _existing(slot: Slot, node: NodeSnapshot, cluster: ClusterSnapshot) -> SlotState:
    kept = diagnose_retention(slot, node, cluster)
    state = state_of(slot, kept.cause)
    if state is SlotCondition.UNSEEN:
        return SlotState(state)
    return SlotState(
        state,
        slot=slot,
        cause=kept.cause,
        obstacle=replay_blocked_by(node, cluster.primary),
        on_primary=node.is_primary,
        pinned_by=kept.blocker,
    )
