"""
What earlier snapshots of a node showed: where its WAL stood when, and how long each slot's restart_lsn has not moved.

A single snapshot cannot tell a pinned slot from one that is about to move: every healthy slot is "pinned" between two
running-xacts records. So the snapshots are recorded, in bounded space: some 70 samples a node, and one tuple a slot.
Times are seconds of one monotonic clock, the same for all nodes of a process; WAL positions are bytes since 0/0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cmp_to_key
from typing import NamedTuple

from pgslot.postgres.types import xid_precedes
from pgslot.snapshot.rows import NodeFacts, Slot, Transaction

SEGMENT_BYTES = 16 * 1024 * 1024
"""On a healthy server less than this lies between two running-xacts records, or between two confirmations."""

BEYOND_BYTES = 8192
"""WAL this far beyond the start of a running-xacts record is certainly not part of that record."""

MIN_SAMPLE_SECONDS = 3.0
"""Samples that are followed by newer ones are at least this far apart."""
SAMPLE_SPACING = 0.2
"""Samples are thinned out as they age: the distance between two of them is about this fraction of their age."""
MAX_SAMPLES = 100
MAX_RECORDS = 20

DECODING_SNAPSHOTS = 3
"""A single snapshot shows what a session does at one moment; of several most have to agree."""

OLDEST_XIDS = 5
"""Of each kind of transaction a snapshot shows those with the oldest xids: so many, or more (transactions.sql)."""

UNKNOWN_XID = 0
"""InvalidTransactionId (transam.h), used for an xid that is not known."""


class Sample(NamedTuple):
    """Where a node's WAL stood at one moment, and which transactions were open."""

    at: float
    """When the snapshot ended."""
    position: int
    """Written on a primary, replayed on a standby."""
    oldest_xid: int | None
    """
    The oldest xid of any open or prepared transaction, in this sample and in those dropped since the previous one.

    None: none was open. UNKNOWN_XID: the transactions are not known.
    """
    next_xid: int | None
    """The next xid that would be assigned, 32-bit; None on a standby. It was read before the transactions were."""
    second_xid: int | None = UNKNOWN_XID
    """The second oldest xid, as `oldest_xid`. None: no second transaction was open."""
    began: float = 0.0
    """When the snapshot began; 0.0: not known."""
    oldest_xids: tuple[int, ...] = ()
    """The oldest xids, oldest first, at most OLDEST_XIDS, as `oldest_xid`. Empty also if they are not known."""

    def holds_only(self, xid: int, bound: int) -> bool:
        """Return whether this was certainly the only open transaction with an xid older than `bound`."""
        return self.oldest_xid == xid and (self.second_xid is None or not is_older(self.second_xid, bound))

    def holds_only_since(self, since: int, xid: int, bound: int) -> bool:
        """Return whether this certainly was the only open transaction with an xid from `since` on before `bound`."""
        older = [oldest for oldest in self.oldest_xids if xid_precedes(oldest, bound)]
        complete = self.oldest_xid != UNKNOWN_XID and len(older) < OLDEST_XIDS
        return complete and [oldest for oldest in older if not xid_precedes(oldest, since)] == [xid]

    def may_hold(self, bound: int) -> bool:
        """Return whether a transaction with an xid older than this one was open, or may have been."""
        return self.oldest_xid is not None and is_older(self.oldest_xid, bound)


class LoggedRecords(NamedTuple):
    """
    Running-xacts records that were certainly logged, as the server showed when it was asked.

    Two of them prove what one does not: the first one after a crash or a promotion still counts transactions that ended
    with it (ReorderBufferAbortOld() follows SnapBuildProcessRunningXacts() in decode.c).
    """

    after: float
    """At least two of them were logged after this time, monotonic; infinite: that is not known of two."""
    before: float
    """All of them were logged before this time."""
    start: int
    """They begin here or later."""
    end: int
    """They end here or before."""


class DeliveryState(NamedTuple):
    """What the consumer of a logical slot was sent and has not confirmed, as far as snapshots can show it."""

    outstanding: bool | None
    """Something was decoded for the consumer that it has not confirmed. None: not known."""
    txns: int | None
    """pg_stat_replication_slots.total_txns: transactions of the slot's own database alone, published or not."""
    confirmed: int
    """confirmed_flush_lsn."""
    sent: int | None
    """pg_stat_replication.sent_lsn."""
    step: int
    """By how much `txns` rose when it last rose."""
    after: int | None
    """The latest position at which the transactions that had been counted before that rise can end."""
    reply: float | None
    """pg_stat_replication.reply_time."""
    answered: float
    """When a snapshot last showed another reply than the snapshot before it; at first, when the slot was first seen."""


class SlotHistory(NamedTuple):
    """What the snapshots so far showed of one logical slot. A tuple, like Slot: there may be 1,000 of them."""

    restart: int
    """restart_lsn."""
    seen: float
    """When a snapshot first showed restart_lsn at this position."""
    moved_here: bool
    """Snapshots showed restart_lsn move here. False: it already was here when the slot was first seen."""
    pinned_since: float | None
    """When confirmed_flush_lsn was first seen more than a segment ahead of restart_lsn; None: it is not."""
    pinned_at: int
    """Where the node's WAL stood at `pinned_since`; 0 without it."""
    delivery: DeliveryState
    most_pinned: int = 0
    """The most bytes that snapshots showed between restart_lsn, where it is now, and confirmed_flush_lsn."""
    usual_pinned: int = 0
    """What `most_pinned` usually came to before restart_lsn moved. 0: snapshots have not shown it move twice."""
    decoding: int = 0
    """Rises by 1, to DECODING_SNAPSHOTS at most, with a snapshot of a session that decodes; falls by 1 otherwise."""


@dataclass(frozen=True, slots=True)
class History:
    """The samples and slots of one node, up to its last snapshot that showed where WAL stands."""

    at: float = 0.0
    """When that snapshot ended."""
    samples: tuple[Sample, ...] = ()
    """Oldest first."""
    in_recovery: bool = False
    slots: Mapping[str, SlotHistory] = field(default_factory=dict)
    """By slot name: the logical slots of that snapshot, except those that are lost or in creation."""
    rewound: int = 0
    """Bytes of WAL that one snapshot showed and the next did not: pg_rewind, a crash, another server."""
    records: tuple[LoggedRecords, ...] = ()
    """The last MAX_RECORDS that the server confirmed, oldest first. A process that only observes has none."""

    def position_before(self, time: float) -> int | None:
        """Return where WAL stood at this time or shortly before; None: no sample is that old."""
        sample = self.last_until(time)
        return None if sample is None else sample.position

    def reached(self, position: int) -> float | None:
        """Return a time by which WAL up to this position had been written; None: it has not been."""
        return next((sample.at for sample in self.samples if sample.position >= position), None)

    def first_from(self, time: float) -> Sample | None:
        """Return the first sample at this time or later; None: there is none yet."""
        return next((sample for sample in self.samples if sample.at >= time), None)

    def last_until(self, time: float) -> Sample | None:
        """Return the last sample at this time or earlier; None: no sample is that old."""
        return next((sample for sample in reversed(self.samples) if sample.at <= time), None)

    def last_before(self, position: int) -> Sample | None:
        """Return the last sample before WAL beyond this position was written; None: no sample is that old."""
        return next((sample for sample in reversed(self.samples) if sample.position <= position), None)


EMPTY_HISTORY = History()


def extend_history(
    before: History,
    facts: NodeFacts,
    slots: Sequence[Slot] | None,
    transactions: Iterable[Transaction] | None,
    now: float,
    *,
    began: float = 0.0,
) -> History:
    """
    Return the history with one more snapshot, which began at `began` and ended just now.

    `slots` and `transactions` None: that query failed.
    """
    if facts.wal_written_bytes is None:
        return before
    last = before.samples[-1] if before.samples else None
    rewound = before.rewound + (max(0, last.position - facts.wal_written_bytes) if last is not None else 0)
    if last is not None and (rewound > before.rewound or facts.in_recovery != before.in_recovery):
        # Another server at the same address, one that lost WAL in a crash, or a promoted one, which so far has had no
        # transactions of its own: nothing recorded before applies to it.
        before = EMPTY_HISTORY
    oldest_xid, second_xid = _open_xids(transactions)
    xids = _oldest_xids(transaction.xid for transaction in transactions or ())
    sample = Sample(now, facts.wal_written_bytes, oldest_xid, facts.next_xid, second_xid, began, xids)
    samples = _thin((*before.samples, sample), now)
    if slots is None:
        return History(now, samples, facts.in_recovery, before.slots, rewound, before.records)
    slot_histories = {
        slot.slot_name: _extend_slot(before.slots.get(slot.slot_name), slot, sample)
        for slot in slots
        if slot.slot_type == "logical" and slot.restart_position is not None and slot.confirmed_position is not None
    }
    return History(now, samples, facts.in_recovery, slot_histories, rewound, before.records)


def add_records(history: History, records: LoggedRecords) -> History:
    """Return the history with these records; the same ones, as the last checkpoint shows them again, are kept once."""
    if any(
        (logged.after, logged.start, logged.end) == (records.after, records.start, records.end)
        for logged in history.records
    ):
        return history
    return replace(history, records=(*history.records, records)[-MAX_RECORDS:])


def is_older(xid: int, bound: int) -> bool:
    """Return whether an xid precedes another one, or is unknown."""
    return xid == UNKNOWN_XID or xid_precedes(xid, bound)


def record_seconds(facts: NodeFacts) -> float:
    """
    Return within how many seconds after any WAL the background writer has logged a running-xacts record.

    It logs at most one every 15 s (LOG_SNAPSHOT_INTERVAL_MS in bgwriter.c), and checks after every bgwriter_delay, or
    after 50 of them when nothing happened (HIBERNATE_FACTOR); 5 s are added for the record to be written out. That is
    30 s by default.
    """
    return 15.0 + 50.0 * facts.bgwriter_delay_seconds + 5.0


def _extend_slot(previous: SlotHistory | None, slot: Slot, sample: Sample) -> SlotHistory:
    restart, confirmed = slot.restart_position, slot.confirmed_position
    assert restart is not None  # noqa: S101 - extend_history() has checked
    assert confirmed is not None  # noqa: S101
    if previous is not None and previous.restart == restart:
        unchanged = (False, slot.total_txns, confirmed, slot.sent_position, 0, None, slot.reply_time)
        if previous.delivery[:-1] == unchanged and not (slot.decoding or previous.decoding):
            # The rest would come to the same. This is so for most of 1,000 slots, and saves most of the time.
            return previous
    recreated = previous is None or (previous.delivery.txns or 0) > (slot.total_txns or 0)
    pinned_since: float | None = None
    pinned_at = 0
    if previous is not None and previous.restart == restart:
        seen, moved_here = previous.seen, previous.moved_here
        most_pinned, usual_pinned = max(previous.most_pinned, confirmed - restart), previous.usual_pinned
        pinned_since, pinned_at = previous.pinned_since, previous.pinned_at
    else:
        seen, moved_here = sample.at, not recreated
        most_pinned = max(0, confirmed - restart)
        usual_pinned = 0 if previous is None or recreated else _usual_pinned(previous)
    if confirmed - restart <= SEGMENT_BYTES:
        pinned_since, pinned_at = None, 0
    elif pinned_since is None:
        pinned_since, pinned_at = sample.at, sample.position
    delivery = _extend_delivery(None if previous is None else previous.delivery, slot, confirmed, sample.at)
    decoding = 0 if previous is None else previous.decoding
    decoding = min(DECODING_SNAPSHOTS, decoding + 1) if slot.decoding else max(0, decoding - 1)
    return SlotHistory(
        restart, seen, moved_here, pinned_since, pinned_at, delivery, most_pinned, usual_pinned, decoding
    )


def _usual_pinned(before: SlotHistory) -> int:
    """Return the usual distance once restart_lsn has moved again; one long pin at most doubles it."""
    if not before.moved_here:
        return 0
    if before.usual_pinned == 0:
        return before.most_pinned
    return max(min(before.most_pinned, 2 * before.usual_pinned), before.usual_pinned * 7 // 8)


def _extend_delivery(previous: DeliveryState | None, slot: Slot, confirmed: int, now: float) -> DeliveryState:
    txns, sent, reply = slot.total_txns, slot.sent_position, slot.reply_time
    answered = previous.answered if previous is not None and previous.reply == reply else now
    if txns is not None and (not slot.active or (sent is not None and sent <= confirmed)):
        # A consumer that comes back is sent again what it has not confirmed: that is counted again, and noticed then.
        return DeliveryState(False, txns, confirmed, sent, 0, None, reply, answered)
    if previous is None or previous.txns is None or txns is None or txns < previous.txns:
        return DeliveryState(None, txns, confirmed, sent, 0, None, reply, answered)
    outstanding, step, after = previous.outstanding, previous.step, previous.after
    if txns > previous.txns:
        before = previous.confirmed if previous.outstanding is False else previous.sent
        outstanding, step, after = True, txns - previous.txns, before
    if outstanding and step == 1 and after is not None and confirmed > after:
        # Only one transaction ends beyond `after`, and its end is all that there was to confirm.
        outstanding = False
    return DeliveryState(outstanding, txns, confirmed, sent, step, after, reply, answered)


def _open_xids(transactions: Iterable[Transaction] | None) -> tuple[int | None, int | None]:
    """Return the two oldest xids; None in their place: no such transaction is open."""
    if transactions is None:
        return UNKNOWN_XID, UNKNOWN_XID
    return _two_oldest(transaction.xid for transaction in transactions)


def _two_oldest(xids: Iterable[int | None]) -> tuple[int | None, int | None]:
    oldest: int | None = None
    second: int | None = None
    for xid in xids:
        if xid == UNKNOWN_XID:
            return UNKNOWN_XID, UNKNOWN_XID
        if xid is None or xid in (oldest, second):
            continue
        if oldest is None or xid_precedes(xid, oldest):
            oldest, second = xid, oldest
        elif second is None or xid_precedes(xid, second):
            second = xid
    return oldest, second


def _oldest_xids(xids: Iterable[int | None]) -> tuple[int, ...]:
    known = {xid for xid in xids if xid is not None}
    return tuple(sorted(known, key=_AGE)[:OLDEST_XIDS])


def _compare_ages(first: int, second: int) -> int:
    return -1 if xid_precedes(first, second) else 1


_AGE = cmp_to_key(_compare_ages)


def _thin(samples: tuple[Sample, ...], now: float) -> tuple[Sample, ...]:
    """
    Drop samples that are too close to the previous one for their age.

    The oldest xids of a dropped sample are added to the next one that is kept.
    """
    *older, newest = samples
    kept: list[Sample] = []
    dropped: tuple[int | None, int | None] = (None, None)
    dropped_xids: tuple[int, ...] = ()
    for sample in older:
        dropped = _two_oldest((*dropped, sample.oldest_xid, sample.second_xid))
        dropped_xids = _oldest_xids((*dropped_xids, *sample.oldest_xids))
        if not kept or sample.at - kept[-1].at >= max(MIN_SAMPLE_SECONDS, SAMPLE_SPACING * (now - sample.at)):
            kept.append(sample._replace(oldest_xid=dropped[0], second_xid=dropped[1], oldest_xids=dropped_xids))
            dropped, dropped_xids = (None, None), ()
    oldest, second = _two_oldest((*dropped, newest.oldest_xid, newest.second_xid))
    xids = _oldest_xids((*dropped_xids, *newest.oldest_xids))
    kept.append(newest._replace(oldest_xid=oldest, second_xid=second, oldest_xids=xids))
    return tuple(kept[-MAX_SAMPLES:])
