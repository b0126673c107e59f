"""
Why a slot retains WAL: a pure function of what the nodes of its cluster show now, and showed before.

What is retained has two parts: what the consumer has not confirmed, and what is pinned although it has. The larger
part names the cause. Little of either is no trouble, and neither is much of it that moves as it should: a server that
writes 100 MB/s has a gigabyte of both between two confirmations.
"""

import re
from dataclasses import dataclass
from enum import StrEnum

from pgslot.postgres.types import xid_precedes
from pgslot.snapshot.history import BEYOND_BYTES, SEGMENT_BYTES, DeliveryState, History, SlotHistory, record_seconds
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.snapshot.rows import Slot, Transaction

CONFIRM_SECONDS = 90.0
"""Consumers confirm each second to each minute (Debezium); with a running-xacts record each 15 s this is calm."""

SKIPS_EMPTY_TRANSACTIONS = 15
"""From this major version on pgoutput sends nothing of a transaction that its publications have nothing of."""

NOBODY_STREAMS_FROM = "pg_conflict_detection"
"""A physical slot that PostgreSQL 19 keeps for itself (retain_dead_tuples), and reserves the name of."""

_WAITS_FOR_STANDBY = "waitforstandbyconfirmation"


class RetentionCause(StrEnum):
    """Why a slot retains WAL."""

    INVALIDATED = "invalidated"
    CREATION = "creation"
    INACTIVE = "inactive"
    """Nobody uses it at this moment, and only its consumer's next read can move it."""
    CONSUMER = "consumer"
    """Its consumer is there, and has not confirmed what it was sent, or takes what there is too slowly."""
    IDLE_PUBLICATION = "idle_publication"
    """All was sent, none of it concerned the slot, and its consumer confirms nothing but changes."""
    STANDBY = "standby"
    """Its walsender waits for a standby that synchronized_standby_slots names."""
    TRANSACTION = "transaction"
    STALLED = "stalled"
    """Pinned, though no transaction is the reason and its consumer has confirmed enough: a record is missing."""
    UNKNOWN = "unknown"
    """It cannot be told, or not yet."""
    NONE = "none"
    """It retains no more than a healthy slot does."""


@dataclass(frozen=True, slots=True)
class Retention:
    """The cause, and who it is where that has a name."""

    cause: RetentionCause
    blocker: Transaction | None = None
    """The oldest transaction that pins it."""
    standby_slot: str | None = None
    """The physical slot that its walsender waits for."""


_PLAIN = {cause: Retention(cause) for cause in RetentionCause}


def retention_cause(slot: Slot, node: NodeSnapshot, cluster: ClusterSnapshot) -> RetentionCause:
    """Return why this slot retains WAL."""
    return diagnose_retention(slot, node, cluster).cause


def diagnose_retention(slot: Slot, node: NodeSnapshot, cluster: ClusterSnapshot) -> Retention:
    """Return why this slot retains WAL, and who is to blame."""
    if slot.invalidated:
        return _PLAIN[RetentionCause.INVALIDATED]
    if slot.in_creation:
        return _PLAIN[RetentionCause.CREATION]
    pinned, unconfirmed = slot.pinned_wal_bytes or 0, slot.unconfirmed_wal_bytes or 0
    if slot.slot_type == "physical" and slot.active and (slot.retained_wal_bytes or 0) > SEGMENT_BYTES:
        # Its restart_lsn is what the receiver has confirmed: all that it retains is unconfirmed.
        return _PLAIN[RetentionCause.CONSUMER]
    if pinned <= SEGMENT_BYTES and unconfirmed <= SEGMENT_BYTES:
        # A promoted standby goes on calling its slots synced, though nobody does that any more.
        nobody = not slot.active and not (slot.synced and not node.is_primary)
        away = nobody and slot.slot_name != NOBODY_STREAMS_FROM
        return _PLAIN[RetentionCause.INACTIVE if away else RetentionCause.NONE]
    if slot.synced and not node.is_primary:
        return _of_a_copy(slot, cluster)
    if unconfirmed >= pinned and unconfirmed > SEGMENT_BYTES:
        behind = _behind(slot, node)
        if behind is not None:
            return behind
    if pinned <= SEGMENT_BYTES:
        return _PLAIN[RetentionCause.NONE]
    return _pinned(slot, node, cluster)


def retains_beyond_segment(slot: Slot) -> bool:
    """Return whether its cause may have to be looked for on the primary."""
    return max(slot.pinned_wal_bytes or 0, (slot.unconfirmed_wal_bytes or 0) if slot.synced else 0) > SEGMENT_BYTES


def _awaited_standby(slot: Slot, node: NodeSnapshot) -> Retention | None:
    """
    Name the one of synchronized_standby_slots that a walsender waits for; None when that is not what holds it up.

    It waits for all of them (StandbySlotsHaveCaughtup() in slot.c): so for the one that has received least. It does so
    for a moment after each commit; it is held up if that one lacks what is to be sent, and the consumer lacks nothing.
    """
    if (slot.consumer_wait_event or "").lower() != _WAITS_FOR_STANDBY or node.facts is None:
        return None
    confirmed = slot.confirmed_position or 0
    sent = confirmed if slot.sent_position is None else slot.sent_position
    names = [name for name in re.split(r'[\s,"]+', node.facts.synchronized_standby_slots) if name]
    awaited = min(names, key=lambda name: _received(node.slot(name)), default=None)
    if awaited is None or confirmed < sent or _received(node.slot(awaited)) > sent:
        return None
    return Retention(RetentionCause.STANDBY, standby_slot=awaited)


def _received(standby_slot: Slot | None) -> int:
    """Return up to where the standby of this slot has received; less than anything if it never can."""
    if standby_slot is None or standby_slot.slot_type != "physical" or standby_slot.restart_position is None:
        return -1
    return standby_slot.restart_position


def _of_a_copy(slot: Slot, cluster: ClusterSnapshot) -> Retention:
    """A standby's synced slot follows that of its primary: what holds that one back holds this one back."""
    primary = cluster.primary
    original = primary.slot(slot.slot_name) if primary is not None else None
    if primary is None or original is None:
        return _PLAIN[RetentionCause.UNKNOWN]
    found = diagnose_retention(original, primary, cluster)
    if found.cause is RetentionCause.INACTIVE:
        # Nobody ever uses the copy: that its consumer is away is told of the original.
        return _PLAIN[RetentionCause.CONSUMER]
    return _PLAIN[RetentionCause.UNKNOWN] if found.cause is RetentionCause.NONE else found


def _behind(slot: Slot, node: NodeSnapshot) -> Retention | None:
    """Why is so much not confirmed? None when it was written so lately that nobody could have confirmed it."""
    if not slot.active:
        return _PLAIN[RetentionCause.INACTIVE]
    history, confirmed = node.history, slot.confirmed_position or 0
    earlier = history.position_before(history.at - CONFIRM_SECONDS)
    if earlier is not None and confirmed >= earlier:
        return None
    standby = _awaited_standby(slot, node)
    if standby is not None:
        return standby
    if node.facts is None or not node.facts.reads_all_stats or earlier is None:
        return _PLAIN[RetentionCause.UNKNOWN]
    return _PLAIN[_answers_and_confirms_nothing(slot, node)]


def _answers(slot: Slot, delivery: DeliveryState, now: float) -> bool:
    if slot.received_position is None:
        return False
    # Who sends no time with its replies is believed: wal_sender_timeout ends a consumer that answers no more.
    return delivery.reply is None or now - delivery.answered <= CONFIRM_SECONDS


def _answers_and_confirms_nothing(slot: Slot, node: NodeSnapshot) -> RetentionCause:
    """Has the consumer something to confirm? It has nothing if nothing was decoded for it."""
    movement = node.history.slots.get(slot.slot_name)
    all_sent = slot.sent_position is not None and slot.sent_position >= node.history.samples[-2].position
    if movement is None or not all_sent or not _answers(slot, movement.delivery, node.history.at):
        return RetentionCause.CONSUMER
    if movement.delivery.outstanding is False:
        return RetentionCause.IDLE_PUBLICATION
    if movement.delivery.outstanding is None or _may_be_unpublished(slot, node):
        return RetentionCause.UNKNOWN
    return RetentionCause.CONSUMER


def _may_be_unpublished(slot: Slot, node: NodeSnapshot) -> bool:
    """
    Was something decoded that may not have been sent, as it is not published, or not confirmed: who could tell?

    Not write_lsn, if the consumer says that it has received nothing, or everything: some report one position for all,
    others (pgjdbc, of Debezium) the end of the WAL that keepalives name. What stands in between is something received.
    """
    history = node.history
    skips = slot.plugin == "pgoutput" and node.facts is not None and node.facts.major >= SKIPS_EMPTY_TRANSACTIONS
    received, confirmed = slot.received_position, slot.confirmed_position or 0
    everything = history.position_before(history.at - CONFIRM_SECONDS)
    return skips and received is not None and not confirmed < received < (everything or 0)


def _pinned(slot: Slot, node: NodeSnapshot, cluster: ClusterSnapshot) -> Retention:
    """
    Why does restart_lsn stand although the consumer has confirmed so much behind it?

    What keeps it there is a transaction whose first WAL comes before the record that follows restart_lsn
    (ReorderBufferGetOldestTXN and restart_decoding_lsn, in SnapBuildProcessRunningXacts): whether in this database or
    another, in a session, a subtransaction or prepared. Its xid was assigned before that. To compare it with
    catalog_xmin tells nothing: that follows one record at a time, and may be older than the xid. But by when that
    record was logged is known: within record_seconds() after the first other WAL behind restart_lsn. Whoever has an xid
    of before then, is the reason; nobody else can be.

    All of this is about times and xids of the primary; positions are the same on a standby, whose replay may be late.
    """
    movement = node.history.slots.get(slot.slot_name)
    undecided = _PLAIN[RetentionCause.UNKNOWN if slot.active else RetentionCause.INACTIVE]
    writer = node if node.is_primary else cluster.primary
    if movement is None or writer is None or writer.transactions is None or writer.facts is None:
        return undecided
    patience, history, confirmed = record_seconds(writer.facts), writer.history, slot.confirmed_position or 0
    due = _due(movement, history, patience)
    if due is None or confirmed < due:
        return _not_due(slot, node, movement)
    followed_by = history.reached(movement.restart + BEYOND_BYTES)
    if followed_by is not None and not movement.moved_here:
        # Where a slot's creation began, or where it stood before anybody looked: then that record may be a later one.
        followed_by = max(followed_by, movement.seen)
    followed = None if followed_by is None else history.first_from(followed_by + patience)
    if followed is None or followed.next_xid is None:
        return undecided
    blocker = _who_pins(writer, followed.next_xid, movement.restart)
    if blocker is not None:
        return Retention(RetentionCause.TRANSACTION, blocker)
    # The last record that the consumer has confirmed was logged after this: was anybody still open then?
    written = history.last_before(confirmed)
    then = None if written is None else history.last_until(written.at - patience)
    if then is None or then.at < followed.at or then.may_hold(followed.next_xid):
        return undecided
    return _PLAIN[RetentionCause.STALLED]


def _due(movement: SlotHistory, history: History, patience: float) -> int | None:
    """
    Return what a consumer must have confirmed to have moved restart_lsn, if a record could; None: it is too early.

    With each running-xacts record the decoder offers a new restart_lsn (logical.c). It holds one offer at a time
    (LogicalIncreaseRestartDecodingForSlot), and takes it when the consumer confirms that record or more. So while
    restart_lsn is here no offer is held over; the first record that is decoded from here on is offered; it is in the
    WAL that is written within `patience` from here; and whoever has confirmed all of that has confirmed the record.
    """
    reached = history.reached(movement.pinned_at)
    sample = None if reached is None else history.first_from(reached + patience)
    return None if sample is None else sample.position


def _not_due(slot: Slot, node: NodeSnapshot, movement: SlotHistory) -> Retention:
    if not slot.active:
        return _PLAIN[RetentionCause.INACTIVE]
    behind = _behind(slot, node)
    if behind is not None and behind.cause is not RetentionCause.UNKNOWN:
        return behind
    lately = movement.moved_here and node.history.at - movement.seen <= CONFIRM_SECONDS
    return _PLAIN[RetentionCause.NONE if lately else RetentionCause.UNKNOWN]


def _who_pins(writer: NodeSnapshot, bound: int, restart: int) -> Transaction | None:
    """
    Return the open transaction that has written first of those with an older xid than this: the one with the oldest.

    An xid is assigned for the first write. Whoever had one before restart_lsn's record, and has not kept restart_lsn
    from coming here, had not written by then (pg_current_xact_id() alone does that): it comes last.
    """
    early = [one for one in writer.transactions or () if one.xid is not None and xid_precedes(one.xid, bound)]
    before = writer.history.last_before(restart)
    known = None if before is None else before.next_xid
    later = [one for one in early if known is None or not xid_precedes(one.xid or 0, known)]
    return max(later or early, key=lambda transaction: transaction.xid_age or 0, default=None)
