"""The acts that more than one cause needs: end a transaction, force a record, cancel a creation, drop a slot."""

from pgslot.postgres.types import quote_literal
from pgslot.snapshot.rows import SlotCreation, Transaction
from pgslot.status.slot_status import SlotStatus
from pgslot.status.step import Step

LOGS_RECORD_SINCE = 16
"""The first major version that has pg_log_standby_snapshot()."""


def end_transaction(transaction: Transaction, primary: str | None, *, frees: str = "") -> Step:
    """Return how to end this transaction, after its owner was asked."""
    if transaction.pid is None:
        return _end_prepared(transaction, primary, frees)
    guard = "backend_xid IS NOT NULL"
    if transaction.xid is not None:
        guard = f"backend_xid = {quote_literal(str(transaction.xid))}::xid"
    busy = transaction.state == "active"
    text = (
        f"Ask {transaction.usename or 'its owner'} how long the transaction takes, or end it"
        if busy
        else f"End the transaction of {transaction.usename or 'unknown user'}; ask its owner if you can"
    )
    return Step(
        text,
        # A person runs it, and reads it first.
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = {transaction.pid} AND {guard};",  # noqa: S608
        primary,
        costs="what the transaction has done is rolled back, and its application gets an error",
        frees=frees,
        runbook="PgSlotPinnedByTransaction",
    )


def _end_prepared(transaction: Transaction, primary: str | None, frees: str) -> Step:
    guard = "" if transaction.xid is None else f" AND transaction = {quote_literal(str(transaction.xid))}::xid"
    select = "SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts"
    return Step(
        f"Ask its owner ({transaction.usename or 'unknown'}) whether to commit it or roll it back, then in database"
        f" {transaction.datname} (or COMMIT PREPARED)",
        f"{select} WHERE gid = {quote_literal(transaction.application_name)}{guard} \\gexec",
        primary,
        costs="if the other half was committed, rolling back leaves the two inconsistent for good",
        frees=frees,
        runbook="PgSlotPreparedTransactionForgotten",
    )


def force_record(status: SlotStatus, *, frees: str = "", runbook: str) -> Step:
    """Return how to make the primary log a running-xacts record."""
    if status.primary_major is not None and status.primary_major < LOGS_RECORD_SINCE:
        return Step(
            "Force a running-xacts record", "CHECKPOINT;", status.primary, "a burst of I/O", frees, runbook=runbook
        )
    place = "" if status.primary is not None else ", on the primary"
    return Step(
        f"Force a running-xacts record{place}: at most four times, a second apart",
        "SELECT pg_log_standby_snapshot();",
        status.primary,
        costs="nothing: 56 bytes of WAL, no lock",
        frees=frees,
        runbook=runbook,
    )


def cancel_creation(creation: SlotCreation) -> str:
    """Return the statement that cancels this creation as long as it waits."""
    guard = f"slot_name = {quote_literal(creation.slot_name)} AND active_pid = {creation.pid}"
    # A person runs it, and reads it first.
    select = "SELECT pg_cancel_backend(active_pid) FROM pg_replication_slots"
    return f"{select} WHERE {guard} AND confirmed_flush_lsn IS NULL;"


def drop_slot(slot_name: str, guard: str) -> str:
    """Return the statement that drops a slot as long as the guard, a condition on its row, holds."""
    name = quote_literal(slot_name)
    # A person runs it, and reads it first.
    select = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
    return f"{select} WHERE slot_name = {name} AND {guard};"
