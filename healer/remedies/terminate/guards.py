"""
The guards: each reason for which a transaction is not ended.

A guard is a line of end_transaction.sql, a member of Refusal, and a case in tests/support/termination_guards.py that
survives on every version.
"""

from enum import StrEnum

from healer.remedies.terminate.blocker import BlockingTransaction


class Refusal(StrEnum):
    """Why a transaction is not ended."""

    PREPARED = "prepared"
    """It has no session, and its transaction manager decides."""
    NOT_A_CLIENT = "not_a_client"
    """An autovacuum worker, a walsender, a background worker."""
    OWN = "own"
    """One of ours: the healer's or the exporter's."""
    SUPERUSER = "superuser"
    USER_NOT_ALLOWED = "user_not_allowed"
    APPLICATION_NOT_ALLOWED = "application_not_allowed"
    DATABASE_NOT_ALLOWED = "database_not_allowed"
    CONSUMER = "consumer"
    """User and application are those of a replication connection, or of the session that creates the slot."""
    HOUR_SPENT = "hour_spent"
    """The hour's limit of ended sessions is spent, whichever healer ended them."""
    ACTIVE = "active"
    """It is not idle in transaction: a statement runs, or the transaction is over."""
    TOO_YOUNG = "too_young"
    """It has not been idle in transaction for long enough."""
    CHANGED = "changed"
    """Session, transaction or state are not those that were seen."""
    OTHER_TRANSACTION = "other_transaction"
    NOT_IN_THE_WAY = "not_in_the_way"
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
"""These do not pass with time; the primary is asked again about the others."""


def precheck(blocker: BlockingTransaction) -> Refusal | None:
    """Return the guard that refuses without a question to the primary; None: the primary decides."""
    if blocker.pid is None:
        return Refusal.PREPARED
    return None if blocker.held_by == "client backend" else Refusal.NOT_A_CLIENT
