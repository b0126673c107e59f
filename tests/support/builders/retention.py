"""A primary with one slot and its history, for the cases of the retention diagnosis."""

from dataclasses import replace
from typing import Any

from pgslot.snapshot.history import SEGMENT_BYTES as SEGMENT
from pgslot.snapshot.history import DeliveryState, History, Sample, SlotHistory
from pgslot.snapshot.model import NodeSnapshot
from pgslot.snapshot.rows import Slot, Transaction
from tests.support.builders.snapshots import FACTS, TRANSACTION, node

NOW = 10_000.0
HERE = 1_000 * SEGMENT
RECORD = HERE - 20 * SEGMENT
"""The restart_lsn in all cases with much pinned WAL."""
Changes = dict[str, Any]
QUIET: tuple[Sample, ...] = tuple(
    Sample(NOW - age, HERE - age * 100_000, None, max(100, 700 - age)) for age in (3600, 600, 120, 60, 30, 15, 0)
)
PINNED: Changes = {"pinned_wal_bytes": 20 * SEGMENT, "unconfirmed_wal_bytes": 0, "confirmed_position": HERE}
LAGGING: Changes = {"pinned_wal_bytes": 60, "unconfirmed_wal_bytes": 20 * SEGMENT, "confirmed_position": RECORD}
WAITING_FOR_STANDBY: Changes = {"consumer_wait_event": "WaitForStandbyConfirmation", "sent_position": RECORD}
SETTLED, OUTSTANDING, NOT_KNOWN = (
    DeliveryState(
        outstanding=outstanding, txns=1, confirmed=RECORD, sent=HERE, step=0, after=None, reply=1.8e9, answered=NOW
    )
    for outstanding in (False, True, None)
)
SLOT_HISTORY = SlotHistory(
    restart=RECORD,
    seen=NOW - 300,
    moved_here=True,
    pinned_since=NOW - 290,
    pinned_at=HERE - 5 * SEGMENT,
    delivery=NOT_KNOWN,
)
EARLY = replace(TRANSACTION, age_seconds=3000.0, xid=500, xid_age=203)
"""Had its xid before the record that follows restart_lsn, when the next xid was 580."""


def primary_with(
    slot: Slot, slot_history: SlotHistory | None, transactions: tuple[Transaction, ...], **changes: Any
) -> NodeSnapshot:
    """Return a primary with this slot and its history."""
    history = History(NOW, QUIET, slots={} if slot_history is None else {slot.slot_name: slot_history})
    facts = replace(FACTS, **{"synchronized_standby_slots": "gone"} | changes)
    return replace(node("p", recovery=False, slots=(slot,), transactions=transactions), facts=facts, history=history)
