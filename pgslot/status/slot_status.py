"""The status of one slot, or of one creation of a slot: a row for a person."""

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import NamedTuple

from pgslot.diagnosis.catalog_horizon import BrokenFeedback
from pgslot.diagnosis.creation_wait import CreationWait
from pgslot.diagnosis.failover_readiness import NotReadyReason, Readiness
from pgslot.diagnosis.leftover_slots import Leftover
from pgslot.diagnosis.retention import Retention, RetentionCause
from pgslot.snapshot.history import SEGMENT_BYTES, SlotHistory
from pgslot.snapshot.rows import NodeFacts, Slot, SlotUser, Transaction
from pgslot.status.growth import Growth


class SlotKey(NamedTuple):
    """A server has one slot of a name, also of those that belong to databases."""

    node: str
    slot_name: str


class SlotState(StrEnum):
    """What a slot is at the moment."""

    CREATING = "creating"
    LOST = "lost"
    """It is invalidated, for whatever reason, and cannot be used any more."""
    COPY = "copy"
    """A standby's copy of a failover slot: nobody can use it before a promotion."""
    ACTIVE = "active"
    INACTIVE = "inactive"


class Concern(StrEnum):
    """Why a slot needs a person."""

    NEAR_LOSS = "near_loss"
    """It is lost at the next checkpoint, or soon at the present rate, or little of its limit is left."""
    VOLUME_FULL = "volume_full"
    """It is the furthest back on a volume that is full soon at the present rate."""
    CREATION_WAITS = "creation_waits"
    LOST = "lost"
    RETAINS = "retains"
    """It retains WAL for a cause that does not end by itself."""
    INACTIVE = "inactive"
    """No consumer has used it for a while."""
    CATALOG_UNPROTECTED = "catalog_unprotected"
    """The next vacuum on the primary may invalidate it."""
    NOT_FAILOVER_READY = "not_failover_ready"
    LEFTOVER = "leftover"
    """A switchover has left it behind on a standby."""


class Unseen(StrEnum):
    """Why something about a slot is not known."""

    SECOND_LOOK = "second_look"
    """The cause shows by what moves, and this was observed for too short a time."""
    PRIVILEGE = "privilege"
    """The role may not see other sessions."""
    PRIMARY = "primary"
    """The cause is on the primary, which was not asked or did not answer."""
    STANDBY = "standby"
    """Whether a standby's copy is ready: the standby did not answer in full."""
    UNEXPLAINED = "unexplained"
    """Everything was seen for long enough, and shows no cause."""


class Severity(IntEnum):
    """How much a row matters; the larger, the worse."""

    FINE = 0
    UNSEEN = 1
    WARNING = 2
    CRITICAL = 3


class RoomLimit(StrEnum):
    """What ends a slot's growth."""

    SLOT = "slot"
    """The server's limit (max_slot_wal_keep_size): the slot is lost."""
    VOLUME = "volume"
    """The volume of the WAL directory, by the configuration: the server stops."""


class Room(NamedTuple):
    """How much more WAL a slot can retain."""

    left_bytes: int
    """Negative: the next checkpoint may lose it."""
    limit: RoomLimit


@dataclass(frozen=True, slots=True)
class SlotStatus:
    """
    One slot of one node. Sizes in bytes, times in seconds; None: unknown, unless a field says otherwise.

    A creation whose slot cannot be seen has no `slot`; a slot that is not being created has no `creation`.
    """

    cluster: str
    node: str
    slot_name: str
    database: str
    """Empty for a physical slot."""
    slot_type: str
    state: SlotState
    on_primary: bool
    primary: str | None
    """The name of the cluster's primary. None: no node is the only primary."""
    primary_major: int | None
    """The primary's major version of PostgreSQL."""
    concerns: tuple[Concern, ...] = ()
    """Worst first. Empty: it needs nobody."""
    unseen: tuple[Unseen, ...] = ()
    """What is not known. Empty: everything that matters is."""
    slot: Slot | None = None
    facts: NodeFacts | None = None
    """The node's."""
    creation: CreationWait | None = None
    retention: Retention | None = None
    """None: it is being created, or is not known."""
    user: SlotUser | None = None
    """None: nobody uses it, or it is not known who."""
    growth: Growth | None = None
    """How the WAL that it retains changes. None: not seen for long enough."""
    room: Room | None = None
    """None: nothing limits it, as far as is known."""
    frees_bytes: int | None = None
    """What the server could remove if this slot moved to the present; 0: another one is further back."""
    failover: tuple[Readiness, ...] = ()
    """Of a primary's failover slot, on each standby that should keep a copy."""
    is_failover_slot: bool = False
    history: SlotHistory | None = None
    """What earlier snapshots by the same program showed of the slot."""
    observed_seconds: float = 0.0
    """For how long this program has observed the node; 0: this is its first snapshot."""
    observed_at: float = 0.0
    """When the node's snapshot ended, on the clock of `history`."""
    leftover: Leftover | None = None
    broken_feedback: BrokenFeedback | None = None

    @property
    def held_bytes(self) -> int | None:
        """How much WAL the slot retains."""
        return None if self.slot is None else self.slot.retained_wal_bytes

    @property
    def seconds_left(self) -> float | None:
        """When the room ends at the present rate. None: it does not, it retains little, or that is not known."""
        if self.room is None or (self.held_bytes or 0) <= SEGMENT_BYTES:
            return None
        if self.room.left_bytes <= 0:
            return 0.0
        if self.growth is None or self.growth.bytes_per_second <= 0:
            return None
        return self.room.left_bytes / self.growth.bytes_per_second

    @property
    def culprits(self) -> tuple[Transaction, ...]:
        """The transactions to blame; several: one of them, and it is not known which."""
        if self.creation is not None:
            return () if self.creation.blocker is None else (self.creation.blocker,)
        return () if self.retention is None else self.retention.candidates

    @property
    def culprit(self) -> Transaction | None:
        """The transaction that is known to be the cause. None: none is, or it is not known which."""
        if self.creation is not None:
            return self.creation.blocker
        return None if self.retention is None else self.retention.blocker

    @property
    def cause(self) -> str | None:
        """The value of WaitReason for a creation, of RetentionCause for a slot; None: not known, or nothing wrong."""
        if self.creation is not None:
            return self.creation.reason
        if self.retention is None or self.retention.cause is RetentionCause.NONE:
            return None
        return self.retention.cause

    @property
    def not_ready(self) -> tuple[Readiness, ...]:
        """The standbys on which a failover slot is certainly not ready."""
        return tuple(copy for copy in self.failover if copy.not_ready_reason not in (None, NotReadyReason.UNKNOWN))

    @property
    def needs_attention(self) -> bool:
        return bool(self.concerns)

    @property
    def severity(self) -> Severity:
        if any(concern in CRITICAL_CONCERNS for concern in self.concerns):
            return Severity.CRITICAL
        if self.concerns:
            return Severity.WARNING
        return Severity.UNSEEN if self.unseen else Severity.FINE


CRITICAL_CONCERNS = frozenset({Concern.NEAR_LOSS, Concern.VOLUME_FULL, Concern.CREATION_WAITS, Concern.LOST})
