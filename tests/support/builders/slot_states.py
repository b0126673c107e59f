"""Slot states for tables of cases: a waiting creation, an existing slot, a standby's copy."""

from dataclasses import replace

from healer.remedies.slot_state import SlotCondition, SlotState
from pgslot.diagnosis.creation_wait import CreationWait, WaitReason
from pgslot.diagnosis.failover_readiness import NotReadyReason
from pgslot.diagnosis.retention import RetentionCause
from tests.support.builders.snapshots import CREATION, SLOT, TRANSACTION

R = WaitReason
C = RetentionCause


def waiting(reason: WaitReason, *, on_primary: bool = False, reserved: bool = True) -> SlotState:
    wait = CreationWait("n", replace(CREATION, wal_reserved=reserved), reason)
    return SlotState(SlotCondition.WAITING, wait, on_primary=on_primary)


def existing(
    cause: RetentionCause,
    restart: int | None = 1000,
    *,
    active: bool = True,
    confirmed: int = 50_000_000,
    obstacle: WaitReason | None = None,
    decoded: int | None = None,
    xmin: int | None = None,
) -> SlotState:
    conditions = {
        C.STALLED: SlotCondition.STALLED,
        C.INVALIDATED: SlotCondition.LOST,
        C.TRANSACTION: SlotCondition.RETAINED,
        C.CONSUMER: SlotCondition.RETAINED,
    }
    slot = SLOT._replace(restart_position=restart, confirmed_position=confirmed, active=active, total_bytes=decoded)
    slot = slot._replace(catalog_xmin=xmin)
    return SlotState(
        conditions.get(cause, SlotCondition.USABLE), slot=slot, cause=cause, obstacle=obstacle, on_primary=True
    )


def temporary(
    restart: int = 1000,
    *,
    confirmed: int = 1060,
    active: bool = True,
    obstacle: WaitReason | None = None,
    blocked: bool = False,
) -> SlotState:
    """Return a standby's temporary copy; `restart`, `confirmed` and `active` belong to the primary's slot."""
    copy = SLOT._replace(synced=True, temporary=True, active=True, restart_position=900, confirmed_position=None)
    original = SLOT._replace(restart_position=restart, confirmed_position=confirmed, active=active)
    return SlotState(
        SlotCondition.NOT_PERSISTED,
        slot=copy,
        obstacle=obstacle,
        original=original,
        not_ready_reason=NotReadyReason.NOT_PERSISTED,
        blocker=TRANSACTION if blocked else None,
    )


def persistent(restart: int, condition: SlotCondition = SlotCondition.USABLE) -> SlotState:
    """Return a standby's copy that would survive a promotion."""
    original = SLOT._replace(restart_position=restart)
    return SlotState(condition, slot=original._replace(synced=True), cause=C.NONE, original=original)


def without_copy(reason: NotReadyReason = NotReadyReason.WORKER_DOWN, restart: int = 1000) -> SlotState:
    original = SLOT._replace(restart_position=restart)
    return SlotState(SlotCondition.UNREADY, original=original, not_ready_reason=reason)


def lsn(position: int) -> str:
    """Return a number of bytes since 0/0 as the server writes an LSN."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"
