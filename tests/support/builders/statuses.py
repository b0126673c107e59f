"""Statuses of slots for tests of pure functions: one slot or creation on a primary, or on a standby beside it."""

from dataclasses import replace
from typing import Any

from pgslot.snapshot.model import NodeSnapshot
from pgslot.snapshot.rows import Slot
from pgslot.status.assessment import slot_statuses
from pgslot.status.slot_status import SlotStatus
from tests.support.builders.retention import EARLY, HERE, LAGGING, PINNED, RECORD, SLOT_HISTORY, primary_with
from tests.support.builders.snapshots import CREATION, SLOT, STANDBY, cluster, node

GIB = 1024**3
HEALTHY = SLOT._replace(slot_name="healthy")
UNUSED = SLOT._replace(
    slot_name="unused", active=False, inactive_since=1_000_000.0 - 7200, retained_wal_bytes=3 * GIB,
    unconfirmed_wal_bytes=3 * GIB, pinned_wal_bytes=0,
)  # fmt: skip
LOST = SLOT._replace(
    slot_name="gone", active=False, wal_status="lost", invalidation_reason="wal_removed", retained_wal_bytes=None,
    unconfirmed_wal_bytes=None, pinned_wal_bytes=None, restart_position=None,
)  # fmt: skip
PINNED_SLOT = SLOT._replace(slot_name="cdc", restart_position=RECORD, retained_wal_bytes=HERE - RECORD, **PINNED)
LAGGING_SLOT = SLOT._replace(slot_name="cdc", restart_position=RECORD, retained_wal_bytes=HERE - RECORD, **LAGGING)


def statuses_of(*nodes: NodeSnapshot, **options: Any) -> tuple[SlotStatus, ...]:
    return slot_statuses(cluster(*nodes), **options)


def status_of(*slots: Slot, **rows: Any) -> SlotStatus:
    """Return the worst status of a primary with these slots."""
    return statuses_of(node("p", recovery=False, slots=slots, **rows))[0]


def pinned_status() -> SlotStatus:
    """Return the status of a slot that one transaction is proven to pin."""
    [status] = statuses_of(primary_with(PINNED_SLOT, SLOT_HISTORY, (EARLY,)))
    assert status.retention is not None
    return replace(status, retention=replace(status.retention, blocker=EARLY))


def creation_on_standby(**changes: Any) -> SlotStatus:
    """Return the status of a creation on a standby of an idle primary."""
    creation = replace(CREATION, **{"wait_event": "WalSenderWaitForWAL"} | changes)
    slot = SLOT._replace(slot_name="w", in_creation=True, confirmed_position=None, pinned_wal_bytes=None)
    standby = node("s", recovery=True, slots=(slot,), creations=(creation,), standby=STANDBY)
    return statuses_of(node("p", recovery=False), standby)[0]


LATE_ROW = status_of(UNUSED)
"""A row that needs somebody."""
