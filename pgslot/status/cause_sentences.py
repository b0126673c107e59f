"""Why a slot waits or retains WAL, with the evidence for it, in sentences: pure functions of its status."""

from collections.abc import Callable, Iterator

from pgslot.cli.amounts import duration, size
from pgslot.diagnosis.creation_wait import WaitReason
from pgslot.diagnosis.retention import Retention, RetentionCause
from pgslot.postgres.types import format_lsn
from pgslot.snapshot.rows import Slot, Transaction
from pgslot.status import wording
from pgslot.status.slot_status import SlotStatus, Unseen


def cause_sentences(status: SlotStatus) -> Iterator[str]:
    """Yield the sentences; none if nothing is wrong."""
    if status.leftover is not None:
        yield f"It is {wording.why(status)}."
    elif status.creation is not None:
        yield from _creation(status)
    elif status.retention is not None and status.slot is not None:
        explain = _BY_CAUSE.get(status.retention.cause)
        if explain is not None:
            yield from explain(status, status.slot, status.retention)
        elif status.retention.cause is RetentionCause.NONE:
            yield "That is what a healthy slot retains."
    yield from _unseen(status)


def _creation(status: SlotStatus) -> Iterator[str]:
    wait = status.creation
    if wait is None:
        return
    creation = wait.creation
    since = "" if creation.wait_seconds is None else f" for {duration(creation.wait_seconds)}"
    yield f"Its creation has been going on{since}, and {_CREATION[wait.reason]}."
    if wait.blocker is not None:
        xid = "" if wait.blocker.xid is None else f", with xid {wait.blocker.xid}"
        yield f"The transaction is that of {wording.culprit(wait.blocker)}{xid}."
    shown = " / ".join(part for part in (creation.wait_event_type, creation.wait_event) if part)
    yield f"The server shows its wait as {shown}." if shown else "The server shows no wait event for it."
    if creation.blocking_pids:
        pids = ", ".join("a prepared transaction" if pid == 0 else f"pid {pid}" for pid in creation.blocking_pids)
        yield f"It is blocked by {pids} (pg_blocking_pids)."
    if creation.retried:
        yield "Its client has begun another creation since: this one may be abandoned."


_CREATION = {
    WaitReason.TRANSACTION: "waits for a transaction to end: a slot begins once all transactions from before are over",
    WaitReason.RUNNING_XACTS: (
        "waits for a running-xacts record, which only the primary writes, and an idle primary writes none"
    ),
    WaitReason.REPLAY_PAUSED: "cannot go on while replay is paused on this standby",
    WaitReason.WAL_RECEIVER_DOWN: "cannot go on while this standby receives no WAL",
    WaitReason.REPLAY_LAG: "cannot go on before this standby has replayed what it has received",
    WaitReason.RECOVERY_CONFLICT: "cannot go on while a session on this standby stops replay",
    WaitReason.REPLAY_DELAYED: "goes on when recovery_min_apply_delay has passed",
    WaitReason.ARCHIVED_SEGMENT: "waits for a record that comes with the next archived WAL segment",
    WaitReason.UNKNOWN: "it is not known for what it waits",
}


def _invalidated(_status: SlotStatus, _slot: Slot, _retention: Retention) -> Iterator[str]:
    yield "It does not come back: its consumer needs a new slot and a new copy of its data."


def _inactive(status: SlotStatus, slot: Slot, _retention: Retention) -> Iterator[str]:
    what = "standby or pg_receivewal" if status.slot_type == "physical" else "consumer"
    yield f"Only its {what} can move it, and none is connected."
    if slot.slot_type == "logical" and status.facts is not None and status.facts.idle_replication_slot_timeout_seconds:
        limit = duration(status.facts.idle_replication_slot_timeout_seconds)
        yield f"A checkpoint invalidates it when nobody has used it for {limit} (idle_replication_slot_timeout)."


def _consumer(_status: SlotStatus, slot: Slot, _retention: Retention) -> Iterator[str]:
    yield "Its consumer is connected, and does not confirm what it is sent."
    yield from _sent(slot)


def _sent(slot: Slot) -> Iterator[str]:
    if slot.sent_position is not None:
        received = (
            "" if slot.received_position is None else f"; it reports {format_lsn(slot.received_position)} as received"
        )
        yield f"The server has sent it everything up to {format_lsn(slot.sent_position)}{received}."


def _idle_publication(_status: SlotStatus, slot: Slot, _retention: Retention) -> Iterator[str]:
    yield "Everything was sent, none of it was for this slot, and its consumer confirms nothing but changes."
    yield from _sent(slot)


def _decoding(_status: SlotStatus, slot: Slot, _retention: Retention) -> Iterator[str]:
    yield "Its session is busy with decoding, such as of a large transaction: its consumer cannot have more yet."
    if slot.spill_bytes:
        yield f"So far {size(slot.spill_bytes)} of large transactions were spilled to disk."


def _table_copy(_status: SlotStatus, _slot: Slot, _retention: Retention) -> Iterator[str]:
    yield "A subscription copies a table, and uses the slot when that has ended."


def _standby(_status: SlotStatus, _slot: Slot, retention: Retention) -> Iterator[str]:
    yield (
        f"Its session waits for the standby that uses slot {retention.standby_slot}, which is in"
        " synchronized_standby_slots and lacks what is to be sent."
    )


def _transaction(_status: SlotStatus, _slot: Slot, retention: Retention) -> Iterator[str]:
    pinning = retention.pinning
    if retention.blocker is not None:
        yield f"The transaction of {_with_xid(retention.blocker)} pins it."
    else:
        yield "A transaction pins it, and it is one of these:"
        yield "; ".join(_with_xid(transaction) for transaction in retention.candidates) + "."
    if pinning is not None:
        certain = "" if pinning.certain else ", by when the server usually logs records"
        yield (f"Whatever pins it had its xid before {pinning.bound} was the next one{certain}; no younger one can.")
        if pinning.proven:
            yield (
                "It was the only such transaction while later running-xacts records were decoded and confirmed, and"
                " restart_lsn did not move: that proves it."
            )
        elif pinning.named is not None:
            yield "The others got their xid before restart_lsn came here, and held nothing back then."


def _with_xid(transaction: Transaction) -> str:
    return wording.culprit(transaction) + ("" if transaction.xid is None else f", xid {transaction.xid}")


def _stalled(status: SlotStatus, _slot: Slot, _retention: Retention) -> Iterator[str]:
    yield (
        "No transaction pins it, and its consumer has confirmed enough: what is missing is a running-xacts record that"
        " its consumer confirms."
    )
    if status.history is not None:
        yield f"Its restart_lsn has not moved for {duration(status.observed_at - status.history.seen)} or longer."


def _unseen(status: SlotStatus) -> Iterator[str]:
    for reason in status.unseen:
        seconds = status.observed_seconds
        yield _UNSEEN[reason].format(observed=f"for {duration(seconds)}" if seconds else "once")


_UNSEEN = {
    Unseen.SECOND_LOOK: (
        "What keeps its WAL shows only by what moves and what does not, and this program has observed the server"
        " {observed}: it needs a second look (--watch), for up to three minutes."
    ),
    Unseen.PRIVILEGE: "What it waits for is hidden: the role may not see what other sessions do.",
    Unseen.PRIMARY: "The cause is on the primary, which was not seen.",
    Unseen.STANDBY: "A standby that should keep a copy of it did not answer in full.",
    Unseen.UNEXPLAINED: "The server was observed {observed}, and shows no cause.",
}

_BY_CAUSE: dict[RetentionCause, Callable[[SlotStatus, Slot, Retention], Iterator[str]]] = {
    RetentionCause.INVALIDATED: _invalidated,
    RetentionCause.INACTIVE: _inactive,
    RetentionCause.CONSUMER: _consumer,
    RetentionCause.DECODING: _decoding,
    RetentionCause.TABLE_COPY: _table_copy,
    RetentionCause.IDLE_PUBLICATION: _idle_publication,
    RetentionCause.STANDBY: _standby,
    RetentionCause.TRANSACTION: _transaction,
    RetentionCause.STALLED: _stalled,
}
