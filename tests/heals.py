"""Sights for the tables of cases: a creation that waits, a slot that exists."""

from dataclasses import replace

from exporter.diagnosis import Wait, WaitReason
from exporter.retention import RetentionCause
from healer.sights import Sight, State
from tests.snapshots import CREATION, SLOT

R = WaitReason
C = RetentionCause


def waiting(reason: WaitReason, *, on_primary: bool = False, reserved: bool = True) -> Sight:
    wait = Wait("n", replace(CREATION, wal_reserved=reserved), reason)
    return Sight(State.WAITING, wait, on_primary=on_primary)


def existing(
    cause: RetentionCause,
    restart: int | None = 1000,
    *,
    active: bool = True,
    confirmed: int = 50_000_000,
    obstacle: WaitReason | None = None,
    decoded: int | None = None,
) -> Sight:
    states = {
        C.STALLED: State.STALLED,
        C.INVALIDATED: State.LOST,
        C.TRANSACTION: State.HELD,
        C.CONSUMER: State.HELD,
    }
    slot = SLOT._replace(restart_position=restart, confirmed_position=confirmed, active=active, total_bytes=decoded)
    return Sight(states.get(cause, State.USABLE), slot=slot, cause=cause, obstacle=obstacle, on_primary=True)


def lsn(position: int) -> str:
    """Return bytes since 0/0 as the server writes them."""
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"
