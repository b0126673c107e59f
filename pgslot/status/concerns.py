"""Which slots need a person: a pure function of a slot's status."""

from collections.abc import Iterator

from pgslot.diagnosis.retention import RetentionCause
from pgslot.snapshot.history import SEGMENT_BYTES
from pgslot.status.growth import FORECAST_SECONDS
from pgslot.status.slot_status import Concern, RoomLimit, SlotState, SlotStatus

CREATION_SECONDS = 5.0
"""A creation takes less where nothing is in its way."""
INACTIVE_SECONDS = 60.0
"""A consumer that is restarted is back by then, where the server shows for how long nobody has used the slot (17)."""
SOON_SECONDS = 4 * 3600.0
"""As in PgSlotLossPredicted and PgSlotVolumeFullSoon."""
LOW_HEADROOM = 0.25
"""As in PgSlotWalHeadroomLow."""

LASTING_CAUSES = frozenset(
    {
        RetentionCause.CONSUMER,
        RetentionCause.IDLE_PUBLICATION,
        RetentionCause.STANDBY,
        RetentionCause.TRANSACTION,
        RetentionCause.STALLED,
    }
)
"""Causes that do not end by themselves. An inactive slot has a concern of its own."""


def concerns(status: SlotStatus) -> tuple[Concern, ...]:
    """Return why the slot needs a person, worst first; `status.concerns` is not read."""
    return tuple(sorted(_concerns(status), key=list(Concern).index))


def _concerns(status: SlotStatus) -> Iterator[Concern]:
    if status.state is SlotState.LOST:
        if not _is_copy(status):
            yield Concern.LOST
        return
    if status.creation is not None:
        age = status.creation.creation.wait_seconds
        if age is None or age >= CREATION_SECONDS:
            yield Concern.CREATION_WAITS
    yield from _of_room(status)
    yield from _of_cause(status)
    if status.broken_feedback is not None:
        yield Concern.CATALOG_UNPROTECTED
    if status.not_ready:
        yield Concern.NOT_FAILOVER_READY
    if status.leftover is not None:
        yield Concern.LEFTOVER


def _of_cause(status: SlotStatus) -> Iterator[Concern]:
    # What holds back the primary's slot holds its copy back, too: that is shown once, for the original.
    if _is_copy(status) or status.retention is None:
        return
    if status.retention.cause in LASTING_CAUSES:
        yield Concern.RETAINS
    if status.retention.cause is RetentionCause.INACTIVE and status.leftover is None and not _left_just_now(status):
        yield Concern.INACTIVE


def _of_room(status: SlotStatus) -> Iterator[Concern]:
    if status.room is None or (status.held_bytes or 0) <= SEGMENT_BYTES:
        return
    long_enough = status.growth is not None and status.growth.seconds >= FORECAST_SECONDS
    left = status.seconds_left
    soon = status.room.left_bytes <= 0 or (long_enough and left is not None and left < SOON_SECONDS)
    if status.room.limit is RoomLimit.VOLUME:
        if soon or _share_left(status) < LOW_HEADROOM / 2:
            yield Concern.VOLUME_FULL
    elif soon or _share_left(status) < LOW_HEADROOM:
        yield Concern.NEAR_LOSS


def _share_left(status: SlotStatus) -> float:
    """Return what is left of the room that the slot had at first."""
    left = 0 if status.room is None else max(0, status.room.left_bytes)
    return left / max(1, left + (status.held_bytes or 0))


def _is_copy(status: SlotStatus) -> bool:
    return bool(status.slot is not None and status.slot.synced) and not status.on_primary


def _left_just_now(status: SlotStatus) -> bool:
    """Return whether a consumer was there a moment ago, as far as the server shows it."""
    since = None if status.slot is None else status.slot.inactive_since
    return since is not None and status.facts is not None and status.facts.server_time - since < INACTIVE_SECONDS
