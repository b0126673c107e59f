"""
Why a slot retains WAL: a pure function of what the nodes of its cluster show now, and showed before.

Retained WAL has two parts: what the consumer has not confirmed, and what is pinned although the consumer has confirmed
it. The larger part decides the cause. A small amount of either is healthy, and so is a large one that moves as it
should: a server that writes 100 MB/s has a gigabyte of both between two confirmations.
"""

from dataclasses import dataclass
from enum import StrEnum

from pgslot.diagnosis.pinning import Pinning, pinning
from pgslot.diagnosis.synchronized_standbys import listed_slots
from pgslot.snapshot.history import (
    DECODING_SNAPSHOTS,
    SEGMENT_BYTES,
    DeliveryState,
    History,
    SlotHistory,
    record_seconds,
)
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.snapshot.rows import Slot, Transaction

CONFIRM_SECONDS = 90.0
"""
Consumers confirm every second to every minute (Debezium), and running-xacts records come every 15 s.

A slot that has not moved for this long does not move as it should.
"""

SKIPS_EMPTY_TRANSACTIONS = 15
"""From this major version on pgoutput sends nothing for a transaction without changes to published tables."""

CONFLICT_DETECTION_SLOT = "pg_conflict_detection"
"""A physical slot, of a reserved name, that PostgreSQL 19 keeps for itself (retain_dead_tuples): it has no consumer."""

MANY_BYTES = 4 * SEGMENT_BYTES
"""So much may lie between restart_lsn and confirmed_flush_lsn of any slot whose restart_lsn has just moved."""

MAX_CANDIDATES = 10
"""So many transactions are shown as candidates for one slot."""

_WAITS_FOR_STANDBY = "waitforstandbyconfirmation"


class RetentionCause(StrEnum):
    """Why a slot retains WAL."""

    INVALIDATED = "invalidated"
    CREATION = "creation"
    INACTIVE = "inactive"
    """No consumer is connected, and only the consumer's next read can move it."""
    CONSUMER = "consumer"
    """Its consumer is connected, but has not confirmed what it was sent, or reads too slowly."""
    DECODING = "decoding"
    """Its session is busy with decoding, such as of a large transaction: its consumer cannot have more yet."""
    TABLE_COPY = "table_copy"
    """A subscription's table copy was given this slot, is running, and uses the slot again when it has ended."""
    IDLE_PUBLICATION = "idle_publication"
    """Everything was sent, none of it was for this slot, and its consumer confirms nothing but changes."""
    STANDBY = "standby"
    """Its walsender waits for a standby in synchronized_standby_slots."""
    TRANSACTION = "transaction"
    STALLED = "stalled"
    """Pinned by no transaction, and its consumer has confirmed enough: a running-xacts record is missing."""
    UNKNOWN = "unknown"
    """The snapshots do not show the cause, or not yet."""
    NONE = "none"
    """It retains no more than a healthy slot does."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Why a slot retains WAL, and the transaction or standby to blame for it."""

    cause: RetentionCause
    blocker: Transaction | None = None
    """The transaction that pins it. None: the cause is not a transaction, or it is not known which one."""
    standby_slot: str | None = None
    """The physical slot that its walsender waits for."""
    pinning: Pinning | None = None
    """Which transactions can pin it, and whether that is proven; None unless the cause is a transaction."""

    @property
    def candidates(self) -> tuple[Transaction, ...]:
        """The transactions that may pin it, oldest xid first: only the blocker if that is known. Empty: none may."""
        if self.blocker is not None:
            return (self.blocker,)
        return () if self.pinning is None else self.pinning.candidates[:MAX_CANDIDATES]


_WITHOUT_CULPRIT = {cause: Retention(cause) for cause in RetentionCause}
"""One object per cause, for most of 1,000 slots."""


def diagnose_retention(slot: Slot, node: NodeSnapshot, cluster: ClusterSnapshot) -> Retention:
    """Return why this slot retains WAL, and who is to blame."""
    if slot.invalidated:
        return _WITHOUT_CULPRIT[RetentionCause.INVALIDATED]
    if slot.in_creation:
        return _WITHOUT_CULPRIT[RetentionCause.CREATION]
    pinned, unconfirmed = slot.pinned_wal_bytes or 0, slot.unconfirmed_wal_bytes or 0
    if slot.slot_type == "physical" and slot.active:
        return _WITHOUT_CULPRIT[_receiver_cause(slot, node)]
    if not slot.active and slot.table_copy_running is not False:
        return _WITHOUT_CULPRIT[RetentionCause.TABLE_COPY if slot.table_copy_running else RetentionCause.UNKNOWN]
    if pinned <= SEGMENT_BYTES and unconfirmed <= SEGMENT_BYTES:
        return _WITHOUT_CULPRIT[_cause_of_little(slot, node)]
    if slot.synced and not node.is_primary:
        return _diagnose_copy(slot, cluster)
    if unconfirmed >= pinned and unconfirmed > SEGMENT_BYTES:
        unconfirmed_retention = _diagnose_unconfirmed(slot, node)
        if unconfirmed_retention is not None:
            return unconfirmed_retention
    if pinned <= SEGMENT_BYTES:
        return _WITHOUT_CULPRIT[RetentionCause.NONE]
    return _diagnose_pinned(slot, node, cluster)


def _cause_of_little(slot: Slot, node: NodeSnapshot) -> RetentionCause:
    """Return the cause of a slot that retains no more than a healthy one, as far as that is known."""
    # A promoted standby still calls its slots synced, although they no longer are.
    unused = not slot.active and not (slot.synced and not node.is_primary)
    if unused and slot.slot_name != CONFLICT_DETECTION_SLOT:
        return RetentionCause.INACTIVE
    return RetentionCause.UNKNOWN if _end_unknown(slot) else RetentionCause.NONE


def _end_unknown(slot: Slot) -> bool:
    """Return whether the slot retains WAL up to an unknown position: the server refuses to say where its WAL ends."""
    return slot.restart_position is not None and slot.retained_wal_bytes is None


def _receiver_cause(slot: Slot, node: NodeSnapshot) -> RetentionCause:
    """
    Return the cause of an active physical slot: its restart_lsn is what the receiver has confirmed.

    A standby confirms what it has flushed; pg_receivewal, by default, a segment when it is complete.
    """
    if _end_unknown(slot):
        return RetentionCause.UNKNOWN
    segment = SEGMENT_BYTES if node.facts is None else node.facts.wal_segment_size_bytes
    if (slot.retained_wal_bytes or 0) <= max(SEGMENT_BYTES, segment):
        return RetentionCause.NONE
    earlier = node.history.position_before(node.history.at - CONFIRM_SECONDS)
    if earlier is None:
        return RetentionCause.UNKNOWN
    complete = earlier // segment * segment
    return RetentionCause.NONE if (slot.restart_position or 0) >= complete else RetentionCause.CONSUMER


def retains_beyond_segment(slot: Slot) -> bool:
    """Return whether the cause of what a standby's slot retains may be on the primary."""
    return max(slot.pinned_wal_bytes or 0, (slot.unconfirmed_wal_bytes or 0) if slot.synced else 0) > SEGMENT_BYTES


def _awaited_standby(slot: Slot, node: NodeSnapshot) -> Retention | None:
    """
    Return the slot in synchronized_standby_slots that a walsender waits for; None: that is not what holds it up.

    The walsender waits for all of them (StandbySlotsHaveCaughtup() in slot.c), so for the one that has received least.
    It does so for a moment after every commit. It is held up only if that standby lacks what is to be sent, and the
    consumer lacks nothing. The cause is unknown if the setting's grammar is: nobody is blamed then.
    """
    if (slot.consumer_wait_event or "").lower() != _WAITS_FOR_STANDBY or node.facts is None:
        return None
    confirmed = slot.confirmed_position or 0
    sent = confirmed if slot.sent_position is None else slot.sent_position
    names = listed_slots(node.facts)
    if names is None:
        return None if confirmed < sent else _WITHOUT_CULPRIT[RetentionCause.UNKNOWN]
    awaited = min(names, key=lambda name: _received(node.slot(name)), default=None)
    if awaited is None or confirmed < sent or _received(node.slot(awaited)) > sent:
        return None
    return Retention(RetentionCause.STANDBY, standby_slot=awaited)


def _received(standby_slot: Slot | None) -> int:
    """Return the position up to which this slot's standby has received WAL; -1 if it never can receive any."""
    if standby_slot is None or standby_slot.slot_type != "physical" or standby_slot.restart_position is None:
        return -1
    return standby_slot.restart_position


def _diagnose_copy(slot: Slot, cluster: ClusterSnapshot) -> Retention:
    """Diagnose a standby's synced slot: what holds the primary's slot back holds the copy back, too."""
    primary = cluster.primary
    original = primary.slot(slot.slot_name) if primary is not None else None
    if primary is None or original is None:
        return _WITHOUT_CULPRIT[RetentionCause.UNKNOWN]
    retention = diagnose_retention(original, primary, cluster)
    if retention.cause is RetentionCause.INACTIVE:
        # A copy never has a consumer. That the consumer is gone is reported for the original.
        return _WITHOUT_CULPRIT[RetentionCause.CONSUMER]
    return _WITHOUT_CULPRIT[RetentionCause.UNKNOWN] if retention.cause is RetentionCause.NONE else retention


def _diagnose_unconfirmed(slot: Slot, node: NodeSnapshot) -> Retention | None:
    """Return why so much is not confirmed; None: it was written too recently to have been confirmed."""
    if not slot.active:
        return _WITHOUT_CULPRIT[RetentionCause.INACTIVE]
    history, confirmed = node.history, slot.confirmed_position or 0
    earlier = history.position_before(history.at - CONFIRM_SECONDS)
    if earlier is not None and confirmed >= earlier:
        return None
    standby = _awaited_standby(slot, node)
    if standby is not None:
        return standby
    if node.facts is None or not node.facts.reads_all_stats or earlier is None:
        return _WITHOUT_CULPRIT[RetentionCause.UNKNOWN]
    return _WITHOUT_CULPRIT[_consumer_cause(slot, node)]


def _replies(slot: Slot, delivery: DeliveryState, now: float) -> bool:
    """Return whether the consumer still sends replies."""
    if slot.received_position is None:
        return False
    # Replies without a time are taken as recent: wal_sender_timeout ends the connection of a consumer that sends none.
    return delivery.reply is None or now - delivery.answered <= CONFIRM_SECONDS


def _consumer_cause(slot: Slot, node: NodeSnapshot) -> RetentionCause:
    """Return the cause by whether the consumer has anything to confirm: it has not if nothing was decoded for it."""
    slot_history = node.history.slots.get(slot.slot_name)
    if slot_history is not None and slot_history.decoding > DECODING_SNAPSHOTS // 2:
        return RetentionCause.DECODING
    all_sent = slot.sent_position is not None and slot.sent_position >= node.history.samples[-2].position
    if slot_history is None or not all_sent or not _replies(slot, slot_history.delivery, node.history.at):
        return RetentionCause.CONSUMER
    if slot_history.delivery.outstanding is False:
        return RetentionCause.IDLE_PUBLICATION
    if slot_history.delivery.outstanding is None or _may_be_unpublished(slot, node):
        return RetentionCause.UNKNOWN
    return RetentionCause.CONSUMER


def _may_be_unpublished(slot: Slot, node: NodeSnapshot) -> bool:
    """
    Return whether what was decoded may never have been sent, because it is not published.

    write_lsn does not show it if the consumer says that it has received nothing, or everything: some consumers report
    one position for everything, others (pgjdbc, used by Debezium) the end of WAL that keepalives name. Any position
    between the two proves that something was received.
    """
    history = node.history
    skips = slot.plugin == "pgoutput" and node.facts is not None and node.facts.major >= SKIPS_EMPTY_TRANSACTIONS
    received, confirmed = slot.received_position, slot.confirmed_position or 0
    everything = history.position_before(history.at - CONFIRM_SECONDS)
    return skips and received is not None and not confirmed < received < (everything or 0)


def _diagnose_pinned(slot: Slot, node: NodeSnapshot, cluster: ClusterSnapshot) -> Retention:
    """
    Return why restart_lsn has not moved although the consumer has confirmed so much beyond it.

    If a transaction that was open before the record that follows restart_lsn still is, a transaction is the cause
    (pinning.py). If none was when the last confirmed record was logged, only a record is missing.
    """
    slot_history = node.history.slots.get(slot.slot_name)
    undecided = _WITHOUT_CULPRIT[RetentionCause.UNKNOWN if slot.active else RetentionCause.INACTIVE]
    writer = node if node.is_primary else cluster.primary
    if slot_history is None or writer is None or writer.transactions is None or writer.facts is None:
        return undecided
    within, history, confirmed = record_seconds(writer.facts), writer.history, slot.confirmed_position or 0
    required = _required_confirm_lsn(slot_history, history, within)
    if required is None or confirmed < required:
        return _diagnose_insufficiently_confirmed(slot, node, slot_history)
    pinned = pinning(slot, node, cluster)
    if pinned is None:
        return undecided
    if pinned.candidates:
        return Retention(RetentionCause.TRANSACTION, pinned.named, pinning=pinned)
    # The last record that the consumer has confirmed was logged after `latest`: was such a transaction still open then?
    written = history.last_before(confirmed)
    latest = None if written is None else history.last_until(written.at - within)
    if latest is None or latest.at < pinned.bound_at or latest.may_hold(pinned.bound):
        return undecided
    return _WITHOUT_CULPRIT[RetentionCause.STALLED]


def _required_confirm_lsn(slot_history: SlotHistory, history: History, within: float) -> int | None:
    """
    Return what the consumer must have confirmed for a record, if any could, to move restart_lsn; None: it is too early.

    With every running-xacts record the decoder offers a new restart_lsn (logical.c). It holds one offer at a time
    (LogicalIncreaseRestartDecodingForSlot), and takes it when the consumer confirms that record or more. So while
    restart_lsn stays here, no earlier offer is pending; the first record decoded from here on is offered; that record
    is in the WAL written `within` seconds from here; and a consumer that has confirmed all of that has confirmed the
    record.
    """
    reached = history.reached(slot_history.pinned_at)
    sample = None if reached is None else history.first_from(reached + within)
    return None if sample is None else sample.position


def _diagnose_insufficiently_confirmed(slot: Slot, node: NodeSnapshot, slot_history: SlotHistory) -> Retention:
    """Return why a pinned slot's consumer has not confirmed what would move restart_lsn."""
    if not slot.active:
        return _WITHOUT_CULPRIT[RetentionCause.INACTIVE]
    unconfirmed = _diagnose_unconfirmed(slot, node)
    if unconfirmed is not None and unconfirmed.cause is not RetentionCause.UNKNOWN:
        return unconfirmed
    moved_recently = slot_history.moved_here and node.history.at - slot_history.seen <= CONFIRM_SECONDS
    usual = (slot.pinned_wal_bytes or 0) <= max(MANY_BYTES, 2 * slot_history.usual_pinned)
    return _WITHOUT_CULPRIT[RetentionCause.NONE if moved_recently and usual else RetentionCause.UNKNOWN]
