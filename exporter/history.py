"""
What earlier looks at a node showed: where its WAL stood when, and since when each slot's restart_lsn has stood still.

One look cannot tell a slot that is pinned from one that is about to move: each healthy slot is "pinned" between two
running-xacts records. So the looks are remembered, in bounded space: some 70 samples for a node, one tuple for a slot.
Times are seconds of one monotonic clock, the same for all nodes of a process; WAL positions are bytes since 0/0.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from exporter.probes import NodeFacts, Slot, Transaction

SEGMENT_BYTES = 16 * 1024 * 1024
"""Less than that is what lies between two running-xacts records, or two confirmations, on a healthy server."""

BEYOND_BYTES = 8192
"""WAL that far beyond a running-xacts record is other WAL than the record itself."""

CLOSEST_SAMPLES = 3.0
RESOLUTION = 0.2
"""Samples are thinned out as they age: their distance is some such part of their age."""
MOST_SAMPLES = 100


class Sample(NamedTuple):
    """Where a node's WAL stood at one look, and who was open since the sample before it."""

    at: float
    position: int
    """Written on a primary, replayed on a standby."""
    oldest_start: float
    """When the oldest transaction with an xid began; inf without one, -inf when that is unknown."""
    next_xid: int | None
    """Each older xid had been assigned; None on a standby."""


class Delivery(NamedTuple):
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


class Movement(NamedTuple):
    """What looks so far showed of one logical slot. A tuple, as Slot is one: there may be 1,000 of them."""

    restart: int
    """restart_lsn."""
    seen: float
    """The first look that showed restart_lsn here."""
    arrived: bool
    """It was seen to come here; False: it was here already at the first look of all."""
    pinned_since: float | None
    """The first look that showed more than a segment between restart_lsn and confirmed_flush_lsn; None: it is less."""
    followed_by: float | None
    """By when the first WAL after restart_lsn's own record was written; None as pinned_since."""
    due: int | None
    """Who has confirmed this must have moved restart_lsn, if a record could; None: too early to tell."""
    delivery: Delivery


@dataclass(frozen=True, slots=True)
class History:
    """The memory of one node, as of its last look that told anything."""

    at: float = 0.0
    samples: tuple[Sample, ...] = ()
    """The oldest first."""
    movements: Mapping[str, Movement] = field(default_factory=dict)
    """By slot name: the logical slots that the last look showed, except those that are lost or in creation."""

    def position_before(self, time: float) -> int | None:
        """Return where WAL stood at this time or a little before it; None when nothing is remembered of then."""
        return next((sample.position for sample in reversed(self.samples) if sample.at <= time), None)

    def written_by(self, position: int) -> float | None:
        """Return a time by which WAL beyond this position had been written; None if there is none yet."""
        return next((sample.at for sample in self.samples if sample.position > position), None)

    def written_from(self, position: int) -> float | None:
        """Return a time at which no WAL beyond this position had been written; None when it is too long ago."""
        return next((sample.at for sample in reversed(self.samples) if sample.position <= position), None)

    def next_xid_before(self, position: int) -> int | None:
        """Return an xid such that all older ones had been assigned before this position was written; None: unknown."""
        return next((sample.next_xid for sample in reversed(self.samples) if sample.position <= position), None)

    def oldest_start_since(self, time: float) -> float:
        """Return when the oldest transaction with an xid began that was open then or later; -inf if that is unknown."""
        if not self.samples or self.samples[0].at > time:
            return -math.inf
        return min((sample.oldest_start for sample in self.samples if sample.at >= time), default=math.inf)


NOTHING = History()


def remember(
    before: History,
    facts: NodeFacts,
    slots: Sequence[Slot] | None,
    transactions: Iterable[Transaction] | None,
    now: float,
) -> History:
    """Return the history after another look, which ended just now; None: that probe failed."""
    if facts.wal_written_bytes is None:
        return before
    if before.samples and facts.wal_written_bytes < before.samples[-1].position:
        # Another server behind the same address, or one that lost WAL in a crash: nothing of before holds for it.
        before = NOTHING
    sample = Sample(now, facts.wal_written_bytes, _oldest_start(transactions, now), facts.next_xid)
    samples = _thinned((*before.samples, sample), now)
    if slots is None:
        return History(now, samples, before.movements)
    after = History(now, samples)
    patience = record_seconds(facts)
    movements = {
        slot.slot_name: _moved(before.movements.get(slot.slot_name), slot, after, patience)
        for slot in slots
        if slot.slot_type == "logical" and slot.restart_position is not None and slot.confirmed_position is not None
    }
    return History(now, samples, movements)


def record_seconds(facts: NodeFacts) -> float:
    """
    Return within how many seconds after any WAL the background writer has logged a running-xacts record.

    At most one in 15 s (LOG_SNAPSHOT_INTERVAL_MS in bgwriter.c), which it looks for after each bgwriter_delay, or 50 of
    them when all was quiet (HIBERNATE_FACTOR); and 5 s for the record to be written out. That is 30 s by default.
    """
    return 15.0 + 50.0 * facts.bgwriter_delay_seconds + 5.0


def _moved(was: Movement | None, slot: Slot, history: History, patience: float) -> Movement:
    """
    Return what is known of the slot after this look.

    Why `due` is right (logical.c, snapbuild.c): with each running-xacts record the decoder offers a new restart_lsn,
    unless a transaction is still open whose first WAL comes before the record that follows restart_lsn
    (ReorderBufferGetOldestTXN). It holds one offer at a time (LogicalIncreaseRestartDecodingForSlot) and takes it when
    the consumer confirms that record or more. So while restart_lsn is here no offer is held over; the first record that
    is decoded from here on is offered; it is in the WAL that is written within `patience` from now; and whoever has
    confirmed all of that has confirmed the record.
    """
    restart, confirmed, now = slot.restart_position, slot.confirmed_position, history.at
    assert restart is not None  # noqa: S101 - remember() has looked
    assert confirmed is not None  # noqa: S101
    pinned_since: float | None = None
    followed_by: float | None = None
    due: int | None = None
    if was is not None and was.restart == restart:
        seen, arrived, pinned_since, followed_by, due = (
            was.seen,
            was.arrived,
            was.pinned_since,
            was.followed_by,
            was.due,
        )
    else:
        seen, arrived = now, was is not None
    if confirmed - restart <= SEGMENT_BYTES:
        pinned_since = followed_by = due = None
    elif pinned_since is None:
        pinned_since, followed_by = now, history.written_by(restart + BEYOND_BYTES)
    elif due is None and now - pinned_since >= patience:
        due = history.samples[-1].position
    delivery = _delivered(None if was is None else was.delivery, slot, confirmed, now)
    return Movement(restart, seen, arrived, pinned_since, followed_by, due, delivery)


def _delivered(was: Delivery | None, slot: Slot, confirmed: int, now: float) -> Delivery:
    txns, sent, reply = slot.total_txns, slot.sent_position, slot.reply_time
    answered = was.answered if was is not None and was.reply == reply else now
    if txns is not None and (not slot.active or (sent is not None and sent <= confirmed)):
        # A consumer that comes back is given anew what it has not confirmed: that counts again, and is seen then.
        return Delivery(False, txns, confirmed, sent, 0, None, reply, answered)
    if was is None or was.txns is None or txns is None or txns < was.txns:
        return Delivery(None, txns, confirmed, sent, 0, None, reply, answered)
    outstanding, step, after = was.outstanding, was.step, was.after
    if txns > was.txns:
        before = was.confirmed if was.outstanding is False else was.sent
        outstanding, step, after = True, txns - was.txns, before
    if outstanding and step == 1 and after is not None and confirmed > after:
        # The only one that ends behind there: its end is all that there could be to confirm.
        outstanding = False
    return Delivery(outstanding, txns, confirmed, sent, step, after, reply, answered)


def _oldest_start(transactions: Iterable[Transaction] | None, now: float) -> float:
    if transactions is None:
        return -math.inf
    return min((began(one, now) for one in transactions if one.xid is not None), default=math.inf)


def began(transaction: Transaction, now: float) -> float:
    """Return when a transaction began at the earliest; -inf when that is unknown, as of a walsender's."""
    if transaction.age_seconds is None or transaction.held_by == "walsender":
        return -math.inf
    return now - transaction.age_seconds


def _thinned(samples: tuple[Sample, ...], now: float) -> tuple[Sample, ...]:
    """Leave samples out that are too close to the one before them for their age; who was open then counts as later."""
    *older, newest = samples
    kept: list[Sample] = []
    open_since = math.inf
    for sample in older:
        open_since = min(open_since, sample.oldest_start)
        if not kept or sample.at - kept[-1].at >= max(CLOSEST_SAMPLES, RESOLUTION * (now - sample.at)):
            kept.append(sample._replace(oldest_start=open_since))
            open_since = math.inf
    kept.append(newest._replace(oldest_start=min(open_since, newest.oldest_start)))
    return tuple(kept[-MOST_SAMPLES:])
