"""
Who is in a slot's way: a transaction of the primary as looks show it, and its session as the primary itself does.

Plain facts; what follows from them is in ending.py, what the primary is asked is in remedies/end_transaction.py.
"""

from dataclasses import dataclass
from enum import StrEnum

from healer.remedies.slot_state import SlotCondition, SlotState
from pgslot.diagnosis.creation_wait import WaitReason
from pgslot.snapshot.rows import Transaction


class Way(StrEnum):
    """How a transaction is in a slot's way, which decides how the primary is asked whether it still is."""

    CREATION = "creation"
    """The slot is created on the primary, and waits for this or a younger transaction."""
    CREATION_ON_STANDBY = "creation_on_standby"
    """The slot is created on a standby: it waits for the primary's oldest transaction."""
    RETENTION = "retention"
    """The slot exists on the primary, and cannot set WAL free."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """A transaction that a look shows in a slot's way."""

    slot_name: str
    way: Way
    pid: int | None
    """None for a prepared transaction."""
    xid: int
    held_by: str
    """pg_stat_activity.backend_type, or `prepared`."""
    usename: str
    application_name: str
    """The gid for a prepared transaction."""
    restart: int | None = None
    """The slot's restart_lsn in bytes since 0/0; of one that exists."""
    consumer: tuple[str, str] = ("", "")
    """User and application of whoever creates the slot; empty of one that exists, whose walsender the primary knows."""

    def same_as(self, other: "Suspect | None") -> bool:
        """Return whether it is the same transaction, in the same slot's way."""
        return other is not None and (self.pid, self.xid, self.way) == (other.pid, other.xid, other.way)

    @property
    def shown(self) -> str:
        if self.pid is None:
            return f"{self.held_by} gid={self.application_name} user={self.usename}"
        return f"{self.held_by} pid={self.pid} user={self.usename} application={self.application_name}"


@dataclass(frozen=True, slots=True)
class HolderSession:
    """The session that holds it, as the primary shows it at one moment. Times: seconds since 1970, as numeric text."""

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
    def shown(self) -> str:
        return f"pid={self.pid} user={self.usename} application={self.application_name} database={self.datname}"


def suspect_of(sight: SlotState) -> Suspect | None:
    """Return the transaction that this look shows in the slot's way; None: there is none, or it cannot be told."""
    if sight.wait is not None:
        blocker = sight.wait.blocker if sight.wait.reason is WaitReason.TRANSACTION else None
        way = Way.CREATION if sight.on_primary else Way.CREATION_ON_STANDBY
        creation = sight.wait.creation
        return _suspect(blocker, creation.slot_name, way, consumer=(creation.usename, creation.application_name))
    if sight.state is not SlotCondition.HELD or not sight.on_primary or sight.slot is None:
        return None
    return _suspect(sight.pinned_by, sight.slot.slot_name, Way.RETENTION, restart=sight.slot.restart_position)


def _suspect(
    found: Transaction | None,
    slot_name: str,
    way: Way,
    *,
    restart: int | None = None,
    consumer: tuple[str, str] = ("", ""),
) -> Suspect | None:
    if found is None or found.xid is None:
        return None
    return Suspect(
        slot_name,
        way,
        found.pid,
        found.xid,
        found.held_by,
        found.usename,
        found.application_name,
        restart,
        consumer,
    )
