"""The transaction that blocks a slot, as the snapshots show it, and its session, as the primary shows it."""

from dataclasses import dataclass
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

    def same_as(self, other: "BlockingTransaction | None") -> bool:
        """Return whether it is the same transaction and blocks in the same way."""
        return other is not None and (self.pid, self.xid, self.kind) == (other.pid, other.xid, other.kind)

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
    """Return the transaction that blocks the slot in this snapshot; None: there is none, or it is not known."""
    if state.wait is not None:
        creation = state.wait.creation
        return _blocking(
            state.wait.blocker if state.wait.reason is WaitReason.TRANSACTION else None,
            creation.slot_name,
            BlockKind.CREATION if state.on_primary else BlockKind.CREATION_ON_STANDBY,
            creator=(creation.usename, creation.application_name),
        )
    if state.condition is not SlotCondition.RETAINED or not state.on_primary or state.slot is None:
        return None
    return _blocking(state.pinned_by, state.slot.slot_name, BlockKind.RETENTION, restart=state.slot.restart_position)


def _blocking(
    transaction: Transaction | None,
    slot_name: str,
    kind: BlockKind,
    *,
    restart: int | None = None,
    creator: tuple[str, str] = ("", ""),
) -> BlockingTransaction | None:
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
        restart,
        creator,
    )
