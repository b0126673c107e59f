"""
Which transactions can pin an existing slot's restart_lsn, and whether it is proven that one of them does.

What pins it is a transaction whose first WAL comes before the record that follows restart_lsn
(ReorderBufferGetOldestTXN and restart_decoding_lsn, in SnapBuildProcessRunningXacts): in this database or another one,
in a session, a subtransaction or prepared. Its xid was assigned before that record was logged, so it is older than the
next xid of any later moment: the bound. Seniority among those that are older proves nothing, as a transaction may have
an xid and write no WAL, and the transaction that pinned the slot may have ended a moment ago.

It is proven of one transaction if it was the only open one older than the bound, and running-xacts records that were
logged after that have been decoded and confirmed while restart_lsn did not move: with every such record the decoder
offers the restart_lsn that the transactions then open allow.

All of these times and xids are the primary's. Positions are the same on a standby, whose replay may be late.
"""

import math
from dataclasses import dataclass

from pgslot.postgres.types import xid_precedes
from pgslot.snapshot.history import BEYOND_BYTES, History, Sample, SlotHistory, record_seconds
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.snapshot.rows import Slot, Transaction


@dataclass(frozen=True, slots=True)
class Pinning:
    """Which transactions can pin a slot's restart_lsn."""

    bound: int
    """Every transaction that can pin it had its xid before this one could be assigned. 32-bit."""
    bound_at: float
    """When the sample that shows the bound was taken: monotonic, as in History."""
    candidates: tuple[Transaction, ...]
    """The open and prepared transactions with an older xid, oldest first; at least the first five of both kinds."""
    certain: bool
    """The bound and the proof depend on records that the server says it logged. False: on when it usually logs them."""
    awaited: int | None
    """
    What the consumer has to confirm for the proof: later records end here, logged when there was only one candidate.

    None: there are several candidates or none, or such records have not been logged yet.
    """
    proven: bool
    """The only candidate pins it: `awaited` was decoded and confirmed, and restart_lsn has not moved."""
    named: Transaction | None = None
    """
    Which candidate the snapshots show to pin it: the only one if that is proven, or by its xid.

    Candidates that had an xid before restart_lsn moved to where it is had not written by then, and held nothing back.
    If only one candidate got its xid later, and later records were confirmed as for the proof, it is that one. None:
    the snapshots do not show it, and every candidate may be the one.
    """


def pinning(slot: Slot, node: NodeSnapshot, cluster: ClusterSnapshot) -> Pinning | None:
    """Return which transactions can pin this logical slot; None: the snapshots do not show the bound yet."""
    slot_history = node.history.slots.get(slot.slot_name)
    writer = node if node.is_primary else cluster.primary
    if slot_history is None or writer is None or writer.transactions is None or writer.facts is None:
        return None
    within, history = record_seconds(writer.facts), writer.history
    sample, certain = _certain_bound(slot_history, history), True
    if sample is None:
        sample, certain = _usual_bound(slot_history, history, within), False
    if sample is None or sample.next_xid is None:
        return None
    candidates = _older_than(sample.next_xid, writer.transactions)
    awaited = None
    if len(candidates) == 1 and candidates[0].xid is not None:
        alone = _first_alone(candidates[0].xid, sample, history)
        awaited = None if alone is None else _later_records(alone, history, within, certain=certain)
    reached = min(slot.confirmed_position or 0, _decoded(slot))
    stands = slot.restart_position == slot_history.restart
    proven = awaited is not None and reached >= awaited and stands
    named, shown_by = _only_later_xid(candidates, sample, slot_history, writer)
    if proven:
        named = candidates[0]
    elif shown_by is None or reached < shown_by or not stands:
        named = None
    return Pinning(sample.next_xid, sample.at, candidates, certain, awaited, proven, named)


def _only_later_xid(
    candidates: tuple[Transaction, ...], bound: Sample, slot_history: SlotHistory, writer: NodeSnapshot
) -> tuple[Transaction | None, int | None]:
    """
    Return the only candidate that got its xid after restart_lsn's record, and what has to be confirmed to show it.

    (None, None): there is none or there are several, it is not known, or too early.
    """
    history = writer.history
    before = history.last_before(slot_history.restart) if slot_history.moved_here else None
    since = None if before is None else before.next_xid
    if since is None or writer.facts is None:
        return None, None
    later = [candidate for candidate in candidates if not xid_precedes(candidate.xid or 0, since)]
    xid = later[0].xid if len(later) == 1 else None
    if xid is None:
        return None, None
    samples = (sample for sample in history.samples if sample.at >= bound.at)
    alone = next((sample for sample in samples if sample.holds_only_since(since, xid, bound.next_xid or 0)), None)
    if alone is None:
        return None, None
    return later[0], _later_records(alone, history, record_seconds(writer.facts), certain=False)


def _certain_bound(slot_history: SlotHistory, history: History) -> Sample | None:
    """Return the first sample that was taken after a record beyond restart_lsn's own was certainly logged."""
    logged = next((records.before for records in history.records if records.start > slot_history.restart), None)
    if logged is None:
        return None
    return next((sample for sample in history.samples if sample.began >= logged), None)


def _usual_bound(slot_history: SlotHistory, history: History, within: float) -> Sample | None:
    """Return the first sample by which the background writer has usually logged the record that follows restart_lsn."""
    left_behind = history.reached(slot_history.restart + BEYOND_BYTES)
    if left_behind is not None and not slot_history.moved_here:
        # restart_lsn is where the slot's creation began, or where it was when first seen: the record that follows it
        # may have been logged later.
        left_behind = max(left_behind, slot_history.seen)
    return None if left_behind is None else history.first_from(left_behind + within)


def _older_than(bound: int, transactions: tuple[Transaction, ...]) -> tuple[Transaction, ...]:
    # A transaction that was prepared during the query is in its rows twice.
    older: dict[int, Transaction] = {}
    for transaction in transactions:
        if transaction.xid is not None and xid_precedes(transaction.xid, bound):
            older[transaction.xid] = transaction
    return tuple(sorted(older.values(), key=lambda transaction: transaction.xid_age or 0, reverse=True))


def _first_alone(xid: int, bound: Sample, history: History) -> Sample | None:
    """Return the first sample at the bound or later in which no other transaction older than the bound was open."""
    return next(
        (
            sample
            for sample in history.samples
            if (sample.began >= bound.at or sample == bound) and sample.holds_only(xid, bound.next_xid or 0)
        ),
        None,
    )


def _later_records(alone: Sample, history: History, within: float, *, certain: bool) -> int | None:
    """Return by which position two records end that were logged after this sample; None: not yet."""
    if certain:
        later = (records.end for records in history.records if alone.at <= records.after < math.inf)
        return next(later, None)
    written = next((sample for sample in history.samples if sample.position > alone.position), None)
    sample = None if written is None else history.first_from(written.at + 2 * within)
    return None if sample is None else sample.position


def _decoded(slot: Slot) -> int:
    """Return up to where WAL was decoded for the slot's consumer: a function confirms only what it has decoded."""
    return (slot.confirmed_position or 0) if slot.sent_position is None else slot.sent_position
