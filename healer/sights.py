"""What one look shows of what alerts point at: a creation that waits, an existing slot and what keeps its WAL."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from exporter.diagnosis import Wait, WaitReason, replay_stands, waits
from exporter.history import SEGMENT_BYTES
from exporter.probes import Slot
from exporter.retention import RetentionCause, retention_cause
from exporter.snapshot import ClusterSnapshot, NodeSnapshot

SETTLED_SECONDS = 1.0
"""A younger creation may be about to end: it lasts milliseconds when all is well. The alert was about an older one."""

_HELPED_BY_A_RECORD = frozenset({WaitReason.RUNNING_XACTS, WaitReason.UNKNOWN, WaitReason.TRANSACTION})


@dataclass(frozen=True, slots=True)
class Subject:
    """What an alert points at: a slot, on the node where it lives."""

    node: str
    slot_name: str


class State(StrEnum):
    """What a look shows of a subject."""

    WAITING = "waiting"
    """Its creation has not finished."""
    STALLED = "stalled"
    """It exists, and its restart_lsn is pinned though nothing pins it."""
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


IN_NEED = frozenset({State.WAITING, State.STALLED})


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look showed of one subject."""

    state: State
    wait: Wait | None = None
    """Only while waiting."""
    slot: Slot | None = None
    """None of a slot that is gone or was not seen."""
    cause: RetentionCause | None = None
    """Why an existing slot retains WAL."""
    obstacle: WaitReason | None = None
    """Why no new record reaches the node for now: it replays nothing. None on a primary."""
    on_primary: bool = False

    @property
    def reason(self) -> str | None:
        """What is waited for, in the words of the metrics; None when nothing is."""
        if self.wait is not None:
            return self.wait.reason
        if self.state is State.STALLED:
            return self.obstacle or RetentionCause.STALLED
        return self.cause if self.state in (State.HELD, State.UNDECIDED) else None

    @property
    def helped(self) -> bool:
        """A record helps, at once or when a transaction ends; one written before WAL is reserved would be lost."""
        if self.state is State.STALLED:
            return self.obstacle is None
        if self.wait is None:
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
        """A record alone can end this. A primary logs its own for a creation, and a transaction has to end first."""
        if self.wait is None:
            return self.helped
        return self.helped and not self.on_primary and self.wait.reason is not WaitReason.TRANSACTION


def see(cluster: ClusterSnapshot, subjects: Iterable[Subject]) -> dict[Subject, Sight]:
    """Return what the look shows of each subject, on the node where it lives."""
    waiting = {Subject(wait.node, wait.creation.slot_name): wait for wait in waits(cluster)}
    in_full = {node.node: node for node in cluster.nodes if node.slots is not None and node.creations is not None}
    slots = {Subject(node.node, slot.slot_name): slot for node in in_full.values() for slot in node.slots or ()}

    def sight(subject: Subject) -> Sight:
        if subject.node not in in_full:
            return Sight(State.UNSEEN)
        node = in_full[subject.node]
        if subject in waiting:
            return Sight(State.WAITING, waiting[subject], slots.get(subject), on_primary=node.is_primary)
        if subject not in slots:
            return Sight(State.GONE)
        return _existing(slots[subject], node, cluster)

    return {subject: sight(subject) for subject in subjects}


def in_need(cluster: ClusterSnapshot) -> list[Subject]:
    """Return every slot of the cluster that waits for its creation's end, is stalled, or may turn out to be."""
    everything = [
        Subject(node.node, name)
        for node in cluster.nodes
        for name in sorted({slot.slot_name for slot in node.slots or ()} | {c.slot_name for c in node.creations or ()})
    ]
    wanted = IN_NEED | {State.UNDECIDED}
    return [subject for subject, sight in see(cluster, everything).items() if sight.state in wanted]


def state_of(slot: Slot, cause: RetentionCause) -> State:
    """Return what the reason for which an existing slot retains WAL makes of it."""
    match cause:
        case RetentionCause.INVALIDATED:
            return State.LOST
        case RetentionCause.STALLED:
            return State.STALLED
        case RetentionCause.NONE:
            return State.USABLE
        case RetentionCause.CREATION:
            # Both queries of the look saw it at slightly different moments.
            return State.UNSEEN
        case RetentionCause.UNKNOWN:
            return State.UNDECIDED
        case RetentionCause.INACTIVE:
            pinned, unconfirmed = slot.pinned_wal_bytes or 0, slot.unconfirmed_wal_bytes or 0
            if max(pinned, unconfirmed) <= SEGMENT_BYTES:
                return State.USABLE
            # Its consumer is away. If it has confirmed what it read, whether a record is missing shows with time.
            return State.UNDECIDED if pinned > unconfirmed else State.HELD
    return State.HELD


def _existing(slot: Slot, node: NodeSnapshot, cluster: ClusterSnapshot) -> Sight:
    cause = retention_cause(slot, node, cluster)
    state = state_of(slot, cause)
    if state is State.UNSEEN:
        return Sight(state)
    return Sight(
        state, slot=slot, cause=cause, obstacle=replay_stands(node, cluster.primary), on_primary=node.is_primary
    )
