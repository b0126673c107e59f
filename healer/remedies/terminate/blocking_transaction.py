"""The transaction that blocks a slot, as the snapshots show it, and its session, as the primary shows it."""

from dataclasses import dataclass, replace
from enum import StrEnum

from healer.remedies.slot_state import SlotCondition, SlotState
from pgslot.diagnosis.creation_wait import WaitReason
from pgslot.snapshot.rows import Transaction


class BlockKind(StrEnum):
    """How a transaction blocks a slot; decides how the primary checks that it still does."""

    CREATION = "creation"
    """The slot is being created on the primary, and waits for this transaction or a younger one."""
    CREATION_ON_STANDBY = "creation_on_standby"
    """The slot is being created on a standby, and waits for the primary's oldest transaction."""
    RETENTION = "retention"
    """The slot exists on the primary, and cannot release WAL."""


@dataclass(frozen=True, slots=True)
class BlockingTransaction:
    """A transaction that blocks a slot, as in a snapshot."""

    slot_name: str
    kind: BlockKind
    pid: int | None
    """None for a prepared transaction."""
    xid: int
    backend_type: str
    """pg_stat_activity.backend_type, or `prepared`."""
    usename: str
    application_name: str
    """The gid for a prepared transaction."""
    restart: int | None = None
    """The slot's restart_lsn in bytes since 0/0; None while the slot is being created."""
    creator: tuple[str, str] = ("", "")
    """User and application of the session that creates the slot; empty for a slot that exists."""
    bound: int | None = None
    """Every transaction that can pin the slot has an older xid. None: not known, or the slot is being created."""
    awaited: int | None = None
    """What its consumer has to decode and confirm for the proof, in bytes since 0/0. None: no record was logged yet."""
    proven: bool = False
    """Snapshots prove that it pins the slot; see pgslot/diagnosis/pinning.py."""
    replayed: int | None = None
    """Up to where the standby has replayed WAL on which the slot is being created, in bytes since 0/0."""
    rivals: tuple[str, ...] = ()
    """Descriptions of the other transactions that can pin the slot, oldest first: while there is one, none is ended."""

    def same_as(self, other: "BlockingTransaction | None") -> bool:
        """Return whether it is the same transaction and blocks the same position of the same slot in the same way."""
        return other is not None and self.identity == other.identity

    @property
    def identity(self) -> tuple[object, ...]:
        """What stays the same over snapshots while one transaction blocks one position of one slot."""
        return self.slot_name, self.kind, self.restart, self.pid, self.xid

    @property
    def description(self) -> str:
        if self.pid is None:
            return f"{self.backend_type} gid={self.application_name} user={self.usename}"
        return f"{self.backend_type} pid={self.pid} user={self.usename} application={self.application_name}"


@dataclass(frozen=True, slots=True)
class HolderSession:
    """The session that holds a transaction, from pg_stat_activity on the primary. Times: Unix seconds, as text."""

    pid: int
    usename: str
    application_name: str
    datname: str
    state: str
    backend_start: str
    xact_start: str
    state_change: str
    xid: int

    @property
    def description(self) -> str:
        return f"pid={self.pid} user={self.usename} application={self.application_name} database={self.datname}"


def blocker_of(state: SlotState) -> BlockingTransaction | None:
    """
    Return the transaction that blocks the slot in this snapshot; None: there is none, or it is not known.

    Of several that can pin an existing slot it is the oldest one, and the others are its rivals.
    """
    if state.wait is not None:
        creation = state.wait.creation
        blocking = _blocking(
            state.wait.blocker if state.wait.reason is WaitReason.TRANSACTION else None,
            creation.slot_name,
            BlockKind.CREATION if state.on_primary else BlockKind.CREATION_ON_STANDBY,
        )
        creator = (creation.usename, creation.application_name)
        return None if blocking is None else replace(blocking, creator=creator, replayed=state.replayed)
    pinning = state.pinning
    if state.condition is not SlotCondition.RETAINED or not state.on_primary or state.slot is None or pinning is None:
        return None
    oldest, *others = pinning.candidates
    blocking = _blocking(oldest, state.slot.slot_name, BlockKind.RETENTION)
    if blocking is None:
        return None
    return replace(
        blocking,
        restart=state.slot.restart_position,
        bound=pinning.bound,
        awaited=pinning.awaited if pinning.certain else None,
        proven=pinning.proven and pinning.certain,
        rivals=tuple(describe(transaction) for transaction in others),
    )


def describe(transaction: Transaction) -> str:
    """Return who a transaction belongs to, in one line."""
    name = f"user={transaction.usename} application={transaction.application_name}"
    if transaction.pid is None:
        return f"{transaction.backend_type} gid={transaction.application_name} user={transaction.usename}"
    return f"{transaction.backend_type} pid={transaction.pid} {name}"


def _blocking(transaction: Transaction | None, slot_name: str, kind: BlockKind) -> BlockingTransaction | None:
    if transaction is None or transaction.xid is None:
        return None
    return BlockingTransaction(
        slot_name,
        kind,
        transaction.pid,
        transaction.xid,
        transaction.backend_type,
        transaction.usename,
        transaction.application_name,
    )
