"""
What earlier looks at a node showed: where its WAL stood when, and since when each slot's restart_lsn has stood still.

One look cannot tell a slot that is pinned from one that is about to move: each healthy slot is "pinned" between two
running-xacts records. So the looks are remembered, in bounded space: some 70 samples for a node, one tuple for a slot.
Times are seconds of one monotonic clock, the same for all nodes of a process; WAL positions are bytes since 0/0.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import NamedTuple

from pgslot.postgres.types import xid_precedes
from pgslot.snapshot.rows import NodeFacts, Slot, Transaction

SEGMENT_BYTES = 16 * 1024 * 1024
"""Less than that is what lies between two running-xacts records, or two confirmations, on a healthy server."""

BEYOND_BYTES = 8192
"""WAL that far beyond a running-xacts record is other WAL than the record itself."""

CLOSEST_SAMPLES = 3.0
RESOLUTION = 0.2
"""Samples are thinned out as they age: their distance is some such part of their age."""
MAX_SAMPLES = 100


UNKNOWN_XID = 0
"""InvalidTransactionId, in place of an xid that is not known."""


class Sample(NamedTuple):
    """Where a node's WAL stood at one look, and who was open."""

    at: float
    position: int
    """Written on a primary, replayed on a standby."""
    oldest_xid: int | None
    """Of the open transactions, in sessions or prepared, at this look or the ones left out since the sample before."""
    next_xid: int | None
    """The next one that would be assigned, 32-bit; None on a standby."""

    def may_hold(self, bound: int) -> bool:
        """Return whether a transaction was open, or may have been, whose xid is older than this one."""
        return self.oldest_xid is not None and is_older(self.oldest_xid, bound)


class DeliveryState(NamedTuple):
    """What the consumer of a logical slot was given and has not confirmed, as far as looks could tell."""

    outstanding: bool | None
    """Something was decoded for it that it has not confirmed. None: it is not known."""
    txns: int | None
    """pg_stat_replication_slots.total_txns: transactions of its own database alone, published or not."""
    confirmed: int
    """confirmed_flush_lsn."""
    sent: int | None
    """pg_stat_replication.sent_lsn."""
    step: int
    """By how much `txns` rose when it last rose."""
    after: int | None
    """Where the transactions that were counted before that end at the latest."""
    reply: float | None
    """pg_stat_replication.reply_time."""
    answered: float
    """The last look that showed another reply than the look before it, or the first one of all."""


class SlotHistory(NamedTuple):
    """What looks so far showed of one logical slot. A tuple, as Slot is one: there may be 1,000 of them."""

    restart: int
    """restart_lsn."""
    seen: float
    """The first look that showed restart_lsn here."""
    moved_here: bool
    """It was seen to come here; False: it was here already at the first look of all."""
    pinned_since: float | None
    """The first look that showed more than a segment between restart_lsn and confirmed_flush_lsn; None: it is less."""
    pinned_at: int
    """Where the node's WAL stood then; 0: it is less."""
    delivery: DeliveryState


@dataclass(frozen=True, slots=True)
class History:
    """The memory of one node, as of its last look that told anything."""

    at: float = 0.0
    samples: tuple[Sample, ...] = ()
    """The oldest first."""
    in_recovery: bool = False
    slots: Mapping[str, SlotHistory] = field(default_factory=dict)
    """By slot name: the logical slots that the last look showed, except those that are lost or in creation."""
    rewound: int = 0
    """Bytes of WAL that were there at one look and not at the next: pg_rewind, a crash, another server."""

    def position_before(self, time: float) -> int | None:
        """Return where WAL stood at this time or a little before it; None when nothing is remembered of then."""
        sample = self.last_until(time)
        return None if sample is None else sample.position

    def reached(self, position: int) -> float | None:
        """Return a time by which WAL had been written up to this position; None if it has not been."""
        return next((sample.at for sample in self.samples if sample.position >= position), None)

    def first_from(self, time: float) -> Sample | None:
        """Return the first sample at this time or later; None: there is none yet."""
        return next((sample for sample in self.samples if sample.at >= time), None)

    def last_until(self, time: float) -> Sample | None:
        """Return the last sample at this time or earlier; None when nothing is remembered of then."""
        return next((sample for sample in reversed(self.samples) if sample.at <= time), None)

    def last_before(self, position: int) -> Sample | None:
        """Return the last sample when no WAL beyond this position had been written; None when it is too long ago."""
        return next((sample for sample in reversed(self.samples) if sample.position <= position), None)


EMPTY_HISTORY = History()


def extend_history(
    before: History,
    facts: NodeFacts,
    slots: Sequence[Slot] | None,
    transactions: Iterable[Transaction] | None,
    now: float,
) -> History:
    """Return the history after another look, which ended just now; None: that probe failed."""
    if facts.wal_written_bytes is None:
        return before
    last = before.samples[-1] if before.samples else None
    rewound = before.rewound + (max(0, last.position - facts.wal_written_bytes) if last is not None else 0)
    if last is not None and (rewound > before.rewound or facts.in_recovery != before.in_recovery):
        # Another server behind the same address, one that lost WAL in a crash, or one that was promoted and has had no
        # transactions of its own so far: nothing of before holds for it.
        before = EMPTY_HISTORY
    sample = Sample(now, facts.wal_written_bytes, _oldest_xid(transactions), facts.next_xid)
    samples = _thinned((*before.samples, sample), now)
    if slots is None:
        return History(now, samples, facts.in_recovery, before.slots, rewound)
    movements = {
        slot.slot_name: _moved(before.slots.get(slot.slot_name), slot, sample)
        for slot in slots
        if slot.slot_type == "logical" and slot.restart_position is not None and slot.confirmed_position is not None
    }
    return History(now, samples, facts.in_recovery, movements, rewound)


def is_older(xid: int, bound: int) -> bool:
    """Return whether an xid precedes another one, or is not known."""
    return xid == UNKNOWN_XID or xid_precedes(xid, bound)


def record_seconds(facts: NodeFacts) -> float:
    """
    Return within how many seconds after any WAL the background writer has logged a running-xacts record.

    At most one in 15 s (LOG_SNAPSHOT_INTERVAL_MS in bgwriter.c), which it looks for after each bgwriter_delay, or 50 of
    them when all was quiet (HIBERNATE_FACTOR); and 5 s for the record to be written out. That is 30 s by default.
    """
    return 15.0 + 50.0 * facts.bgwriter_delay_seconds + 5.0


def _moved(was: SlotHistory | None, slot: Slot, look: Sample) -> SlotHistory:
    restart, confirmed = slot.restart_position, slot.confirmed_position
    assert restart is not None  # noqa: S101 - remember() has looked
    assert confirmed is not None  # noqa: S101
    if was is not None and was.restart == restart:
        still = (False, slot.total_txns, confirmed, slot.sent_position, 0, None, slot.reply_time)
        if was.delivery[:-1] == still:
            # Nothing has moved: this is what all that follows comes to, and so for most of 1,000 slots.
            return was
    made_anew = was is None or (was.delivery.txns or 0) > (slot.total_txns or 0)
    pinned_since: float | None = None
    pinned_at = 0
    if was is not None and was.restart == restart:
        seen, arrived, pinned_since, pinned_at = was.seen, was.moved_here, was.pinned_since, was.pinned_at
    else:
        seen, arrived = look.at, not made_anew
    if confirmed - restart <= SEGMENT_BYTES:
        pinned_since, pinned_at = None, 0
    elif pinned_since is None:
        pinned_since, pinned_at = look.at, look.position
    delivery = _delivered(None if was is None else was.delivery, slot, confirmed, look.at)
    return SlotHistory(restart, seen, arrived, pinned_since, pinned_at, delivery)


def _delivered(was: DeliveryState | None, slot: Slot, confirmed: int, now: float) -> DeliveryState:
    txns, sent, reply = slot.total_txns, slot.sent_position, slot.reply_time
    answered = was.answered if was is not None and was.reply == reply else now
    if txns is not None and (not slot.active or (sent is not None and sent <= confirmed)):
        # A consumer that comes back is given anew what it has not confirmed: that counts again, and is seen then.
        return DeliveryState(False, txns, confirmed, sent, 0, None, reply, answered)
    if was is None or was.txns is None or txns is None or txns < was.txns:
        return DeliveryState(None, txns, confirmed, sent, 0, None, reply, answered)
    outstanding, step, after = was.outstanding, was.step, was.after
    if txns > was.txns:
        before = was.confirmed if was.outstanding is False else was.sent
        outstanding, step, after = True, txns - was.txns, before
    if outstanding and step == 1 and after is not None and confirmed > after:
        # The only one that ends behind there: its end is all that there could be to confirm.
        outstanding = False
    return DeliveryState(outstanding, txns, confirmed, sent, step, after, reply, answered)


def _oldest_xid(transactions: Iterable[Transaction] | None) -> int | None:
    if transactions is None:
        return UNKNOWN_XID
    return reduce(_older, (transaction.xid for transaction in transactions), None)


def _older(one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return one if is_older(one, other) else other


def _thinned(samples: tuple[Sample, ...], now: float) -> tuple[Sample, ...]:
    """Leave samples out that are too close to the one before them for their age; who was open then counts as later."""
    *older, newest = samples
    kept: list[Sample] = []
    left_out: int | None = None
    for sample in older:
        left_out = _older(left_out, sample.oldest_xid)
        if not kept or sample.at - kept[-1].at >= max(CLOSEST_SAMPLES, RESOLUTION * (now - sample.at)):
            kept.append(sample._replace(oldest_xid=left_out))
            left_out = None
    kept.append(newest._replace(oldest_xid=_older(left_out, newest.oldest_xid)))
    return tuple(kept[-MAX_SAMPLES:])
