"""
The guards: the reasons for which a transaction is not ended.

A guard is a line of end_transaction.sql, a member of Refusal, and a case in tests/support/termination_guards.py, whose
session has to survive on every version of PostgreSQL.
"""

from enum import StrEnum

from healer.remedies.terminate.blocking_transaction import BlockingTransaction


class Refusal(StrEnum):
    """Why a transaction is not ended."""

    PREPARED = "prepared"
    """A prepared transaction has no session; its transaction manager has to end it."""
    NOT_A_CLIENT = "not_a_client"
    """An autovacuum worker, a walsender or a background worker."""
    OWN = "own"
    """A session of the healer or the exporter."""
    SUPERUSER = "superuser"
    USER_NOT_ALLOWED = "user_not_allowed"
    APPLICATION_NOT_ALLOWED = "application_not_allowed"
    DATABASE_NOT_ALLOWED = "database_not_allowed"
    CONSUMER = "consumer"
    """A replication connection, or the session that creates the slot, has the same user and application."""
    HOUR_SPENT = "hour_spent"
    """Healers have terminated as many sessions in the last hour as `at_most_per_hour` allows."""
    ACTIVE = "active"
    """Not idle in transaction: a statement runs, or the transaction has ended."""
    TOO_YOUNG = "too_young"
    """Idle in transaction for less time than `idle_in_transaction_for`."""
    CHANGED = "changed"
    """The session, its transaction or its state differs from the earlier check."""
    OTHER_TRANSACTION = "other_transaction"
    NOT_IN_THE_WAY = "not_in_the_way"
    AMBIGUOUS = "ambiguous"
    """Several transactions can pin the slot: people get all of them, and none is ended."""
    UNPROVEN = "unproven"
    """Nothing proves yet that it blocks the slot: what was logged since it was first seen has not been confirmed."""
    CLOCK = "clock"
    """The primary's clock was set forward a moment ago."""
    GONE = "gone"
    HIDDEN = "hidden"
    """The role may not see it."""


LASTING = frozenset(
    {
        Refusal.PREPARED,
        Refusal.NOT_A_CLIENT,
        Refusal.OWN,
        Refusal.SUPERUSER,
        Refusal.USER_NOT_ALLOWED,
        Refusal.APPLICATION_NOT_ALLOWED,
        Refusal.DATABASE_NOT_ALLOWED,
        Refusal.CONSUMER,
        Refusal.HOUR_SPENT,
    }
)
"""These refusals do not end by themselves; after any other, the primary is asked again."""


def precheck(blocker: BlockingTransaction) -> Refusal | None:
    """Return the guard that refuses without asking the primary; None: the primary decides."""
    if blocker.rivals:
        return Refusal.AMBIGUOUS
    if blocker.pid is None:
        return Refusal.PREPARED
    return None if blocker.backend_type == "client backend" else Refusal.NOT_A_CLIENT
