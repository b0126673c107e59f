"""
What to do about a slot: pure functions of its status, in the words of the runbooks.

Each statement is guarded, so that it does nothing once the state that it is for is over. A slot is dropped only if it
is lost, or if nobody uses it.
"""

from collections.abc import Callable

from pgslot.cli.amounts import size
from pgslot.diagnosis.failover_readiness import NotReadyReason
from pgslot.diagnosis.leftover_slots import LeftoverReason
from pgslot.diagnosis.retention import RetentionCause
from pgslot.postgres.types import format_lsn, quote_literal
from pgslot.status.advice_for_creations import creation_advice
from pgslot.status.commands import drop_slot, end_transaction, force_record
from pgslot.status.slot_status import Concern, SlotStatus, Unseen
from pgslot.status.step import Step

__all__ = ["Step", "advice"]

NEEDS_NEW_COPY = "its consumer needs a new slot and a new copy of its data"


def advice(status: SlotStatus) -> tuple[Step, ...]:
    """Return what to do, first things first; empty: nothing, or nothing is known that would help."""
    for concern in status.concerns:
        steps = _STEPS[concern](status)
        if steps:
            return steps
    if Unseen.SECOND_LOOK in status.unseen:
        return (Step("Look again with --watch: what keeps its WAL shows within three minutes.", None, None),)
    return ()


def _near_loss(status: SlotStatus) -> tuple[Step, ...]:
    """Return what ends the cause, and how to buy time."""
    buy_time = Step(
        "Buy time: raise max_slot_wal_keep_size in postgresql.conf, and reload",
        "SELECT pg_reload_conf();",
        status.node,
        costs="pg_wal may grow by that much; a full disk stops the server",
        runbook="PgSlotWalHeadroomLow",
    )
    return (*_of_cause(status), buy_time)


def _volume_full(status: SlotStatus) -> tuple[Step, ...]:
    return (*_of_cause(status), _drop_unused(status))


def _of_cause(status: SlotStatus) -> tuple[Step, ...]:
    if status.creation is not None:
        return creation_advice(status)
    if status.retention is None:
        return ()
    make = _BY_CAUSE.get(status.retention.cause)
    return () if make is None else make(status)


def _lost(status: SlotStatus) -> tuple[Step, ...]:
    drop = drop_slot(status.slot_name, "wal_status = 'lost'")
    what = "its standby may have to be built again" if status.slot_type == "physical" else NEEDS_NEW_COPY
    return (
        Step(
            "Drop the lost slot: it does not come back, and its name blocks a new slot",
            drop,
            status.node,
            costs=f"nothing more: {what} in any case",
            frees="no WAL, which is released already",
            runbook="PgSlotLost",
        ),
    )


def _inactive(status: SlotStatus) -> tuple[Step, ...]:
    what = "standby or pg_receivewal" if status.slot_type == "physical" else "consumer"
    start = Step(
        f"Start its {what}: it continues where it stopped, and the slot releases its WAL by itself",
        None,
        None,
        costs="nothing",
        frees=_frees(status),
        runbook="PgSlotInactive",
    )
    return (start, _drop_unused(status))


def _drop_unused(status: SlotStatus) -> Step:
    drop = drop_slot(status.slot_name, "NOT active")
    what = "its standby may have to be built again" if status.slot_type == "physical" else NEEDS_NEW_COPY
    return Step(
        "Only if nobody needs it any more, drop it",
        drop,
        status.node,
        costs=f"{what}; this cannot be undone",
        frees=_frees(status),
        runbook="PgSlotInactive",
    )


def _consumer(status: SlotStatus) -> tuple[Step, ...]:
    who = "the standby's log" if status.slot_type == "physical" else "its consumer's log"
    return (
        Step(
            f"Read {who}: if it shows the same error again and again, fix that error. Otherwise restart it",
            None,
            None,
            costs="it receives again what it has not confirmed",
            frees=_frees(status),
            runbook="PgSlotNotConfirmed",
        ),
    )


def _idle_publication(status: SlotStatus) -> tuple[Step, ...]:
    return (
        Step(
            f"Write to a table that the slot publishes, in database {status.database}: a heartbeat table, every minute",
            None,
            status.primary,
            costs="nothing",
            frees=_frees(status),
            runbook="PgSlotWalHeadroomLow",
        ),
    )


def _standby(status: SlotStatus) -> tuple[Step, ...]:
    awaited = None if status.retention is None else status.retention.standby_slot
    return (
        Step(
            f"Start the standby that uses slot {awaited}, or remove it from synchronized_standby_slots and reload",
            None,
            status.node,
            costs="without it in the setting, a failover to that standby may lose what consumers already have",
            frees=_frees(status),
            runbook="PgSlotWalHeadroomLow",
        ),
    )


def _transaction(status: SlotStatus) -> tuple[Step, ...]:
    if status.culprit is not None:
        return (end_transaction(status.culprit, status.primary, frees=_frees(status)),)
    return (
        Step(
            "Find out which of these transactions pins it before you end one: the oldest is no more likely than the"
            " others, and --watch may show which",
            None,
            status.primary,
            frees=_frees(status),
            runbook="PgSlotPinnedByTransaction",
        ),
    )


def _stalled(status: SlotStatus) -> tuple[Step, ...]:
    return (force_record(status, frees=_frees(status), runbook="PgSlotStalled"),)


def _wait(status: SlotStatus) -> tuple[Step, ...]:
    return (Step("Let that finish: the slot goes on by itself", None, None, frees=_frees(status)),)


def _not_failover_ready(status: SlotStatus) -> tuple[Step, ...]:
    first = status.not_ready[0]
    reason = first.not_ready_reason
    if reason in (NotReadyReason.SYNC_OFF, NotReadyReason.WORKER_DOWN, NotReadyReason.STALE):
        text = (
            "Let the standby keep a copy: it needs sync_replication_slots and hot_standby_feedback = on,"
            " primary_slot_name, and a dbname in primary_conninfo"
        )
        command = "ALTER SYSTEM SET sync_replication_slots = on;" if reason is NotReadyReason.SYNC_OFF else None
        return (Step(text, command, first.node, costs="nothing", runbook="PgSlotNotFailoverReady"),)
    if reason is NotReadyReason.NAME_CLASH:
        drop = drop_slot(status.slot_name, "failover AND NOT synced AND NOT active AND pg_is_in_recovery()")
        text = "Drop the slot of the same name that a switchover has left on the standby, if no consumer reads there"
        return (Step(text, drop, first.node, costs="this cannot be undone", runbook="PgSlotNotFailoverReady"),)
    if reason is NotReadyReason.INVALIDATED:
        return ()
    wait = (
        "The standby makes the copy once the consumer has confirmed a new running-xacts record: let the consumer read"
    )
    return (Step(wait, None, None, costs="nothing", runbook="PgSlotNotPersisted"),)


def _leftover(status: SlotStatus) -> tuple[Step, ...]:
    if status.leftover is not None and status.leftover.reason is LeftoverReason.ORPHANED_COPY:
        command: str | None = "ALTER SYSTEM SET sync_replication_slots = on;"
        text = "Let the standby synchronize again: it then drops the copy itself"
    else:
        text = "Drop the slot that a switchover has left behind, if no consumer reads from this standby"
        at = None if status.slot is None else status.slot.confirmed_position
        guard = "" if at is None else f" AND confirmed_flush_lsn = {quote_literal(format_lsn(at))}"
        command = drop_slot(status.slot_name, f"NOT active{guard} AND pg_is_in_recovery()")
    return (
        Step(
            text,
            command,
            status.node,
            costs="a consumer that still reads from it needs a new copy of its data; this cannot be undone",
            frees=_frees(status),
            runbook="PgSlotLeftover",
        ),
    )


def _catalog_unprotected(status: SlotStatus) -> tuple[Step, ...]:
    broken = status.broken_feedback
    node = status.node if broken is None else broken.broken_at
    return (
        Step(
            "Let the primary keep the catalog rows: switch on hot_standby_feedback, and give the standby a physical"
            " slot (primary_slot_name)",
            "ALTER SYSTEM SET hot_standby_feedback = on;",
            node,
            costs="long queries on the standby hold back vacuum on the primary",
            runbook="PgSlotCatalogUnprotected",
        ),
    )


def _frees(status: SlotStatus) -> str:
    """Return what the server can remove afterwards."""
    if status.frees_bytes is not None and status.frees_bytes > 0:
        return size(status.frees_bytes)
    if status.frees_bytes == 0:
        return "nothing yet: the last checkpoint, another slot or a setting keeps older WAL"
    return "" if status.held_bytes is None else f"up to {size(status.held_bytes)}"


_BY_CAUSE: dict[RetentionCause, Callable[[SlotStatus], tuple[Step, ...]]] = {
    RetentionCause.INACTIVE: _inactive,
    RetentionCause.CONSUMER: _consumer,
    RetentionCause.IDLE_PUBLICATION: _idle_publication,
    RetentionCause.STANDBY: _standby,
    RetentionCause.TRANSACTION: _transaction,
    RetentionCause.STALLED: _stalled,
    RetentionCause.DECODING: _wait,
    RetentionCause.TABLE_COPY: _wait,
}

_STEPS: dict[Concern, Callable[[SlotStatus], tuple[Step, ...]]] = {
    Concern.NEAR_LOSS: _near_loss,
    Concern.VOLUME_FULL: _volume_full,
    Concern.CREATION_WAITS: creation_advice,
    Concern.LOST: _lost,
    Concern.RETAINS: _of_cause,
    Concern.INACTIVE: _inactive,
    Concern.CATALOG_UNPROTECTED: _catalog_unprotected,
    Concern.NOT_FAILOVER_READY: _not_failover_ready,
    Concern.LEFTOVER: _leftover,
}
