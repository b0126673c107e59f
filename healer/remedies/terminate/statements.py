"""
The remedy: the session of a transaction that is about to cost a slot is ended, by its owner's rules.

The statement is a constant, in end_transaction.sql. What it is asked with are parameters: what a look has shown, and
what the configuration allows.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.resources import files

from healer.remedies.attempt import Call, CallResult, Capability, Said, Unavailable
from healer.remedies.terminate.blocker import HolderSession, Suspect
from pgslot.config.model import TerminationPolicy
from pgslot.postgres.types import quote_identifier


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
    """User and application are those of a replication connection, or of whoever creates the slot."""
    HOUR_SPENT = "hour_spent"
    """As many as may be have been ended within the hour, by whatever healer."""
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
"""It will not be ended, however long one waits; the others are asked again."""


@dataclass(frozen=True, slots=True)
class EnderFacts:
    """What decides whether this session could end another role's."""

    in_recovery: bool
    role: str
    database: str
    may_signal: bool
    reads_all_stats: bool
    may_note: bool


FACTS = """
SELECT
  pg_catalog.pg_is_in_recovery() AS in_recovery,
  current_user::pg_catalog.text AS role,
  pg_catalog.current_database()::pg_catalog.text AS database,
  pg_catalog.pg_has_role(current_user, 'pg_signal_backend', 'USAGE') AS may_signal,
  pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS reads_all_stats,
  coalesce(pg_catalog.has_schema_privilege(notes.relnamespace, 'USAGE')
    AND pg_catalog.has_table_privilege(notes.oid, 'SELECT')
    AND pg_catalog.has_any_column_privilege(notes.oid, 'INSERT'), false) AS may_note
FROM (SELECT) once
LEFT JOIN pg_catalog.pg_class notes
  ON notes.relname = 'ended'
  AND notes.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'pgslot')
"""

ACT = files(__package__).joinpath("end_transaction.sql").read_text("utf-8")


@dataclass(frozen=True, slots=True)
class Answer:
    """The one row of ACT."""

    refusal: str | None
    """None: nothing speaks against it."""
    pid: int | None
    """None: there is no such session."""
    usename: str
    application_name: str
    datname: str
    state: str
    backend_start: str
    xact_start: str
    state_change: str
    ended: bool | None
    """What pg_terminate_backend() returned; None: it was not called."""


def parameters(
    suspect: Suspect, seen: HolderSession | None, policy: TerminationPolicy, *, act: bool, why: str = ""
) -> Sequence[str]:
    """Return what ACT is asked with; `seen`: what the primary showed of the session before, None: nothing yet."""
    as_seen = ("", "", "", "") if seen is None else (seen.backend_start, seen.xact_start, seen.state_change, seen.state)
    user, application = suspect.consumer
    return (
        f"{suspect.pid}",
        f"{suspect.xid}",
        *as_seen,
        f"{policy.idle_in_transaction_for}",
        json.dumps(policy.users, ensure_ascii=False),
        json.dumps(policy.applications, ensure_ascii=False),
        json.dumps(policy.databases, ensure_ascii=False),
        f"{policy.at_most_per_hour}",
        suspect.way,
        suspect.slot_name,
        f"{suspect.restart}",
        user,
        application,
        "true" if act else "false",
        why,
    )


def unasked(suspect: Suspect) -> Refusal | None:
    """Return why nobody has to be asked about it; None: the primary decides."""
    if suspect.pid is None:
        return Refusal.PREPARED
    return None if suspect.held_by == "client backend" else Refusal.NOT_A_CLIENT


def judge(facts: EnderFacts) -> Capability:
    """Return whether a session with these facts could end another role's."""
    if facts.in_recovery:
        return Capability(
            Unavailable.NO_PRIMARY,
            "Its conninfo leads to a standby: list all nodes in it and add target_session_attrs=read-write.",
        )
    role, database = quote_identifier(facts.role), quote_identifier(facts.database)
    wanted = {"pg_signal_backend": facts.may_signal, "pg_read_all_stats": facts.reads_all_stats}
    lacking = [name for name, held in wanted.items() if not held]
    if lacking:
        return Capability(Unavailable.MISSING_PRIVILEGE, f"GRANT {', '.join(lacking)} TO {role};")
    if not facts.may_note:
        return Capability(
            Unavailable.MISSING_PRIVILEGE,
            f"In database {database} role {role} lacks the table pgslot.ended, or its privileges on it:"
            " run what pg-slot-healer grants --end-transactions prints.",
        )
    return Capability(None)


def say(call: Call) -> Said:
    """Return what is told of an attempt."""
    reason = call.capability.reason if call.capability is not None else None
    who = call.session.shown if call.session is not None else call.suspect.shown if call.suspect is not None else None
    match call.result:
        case CallResult.ENDED:
            line, message = f"ended {who}: {call.why}", "ended a transaction"
        case CallResult.DRY_RUN:
            line, message = f"would have ended {who}: {call.why} (dry run)", "would have ended a transaction"
        case CallResult.SEEN:
            line, message = f"may be ended, if it is the same at the next look: {who}", "a transaction is in the way"
        case CallResult.REFUSED:
            line, message = f"not ended: {call.refusal}: {who}", "refused to end a transaction"
        case CallResult.LOCKED:
            line, message = "not ended: another healer is at it", "could not end a transaction"
        case _:
            line, message = f"not ended: {reason or call.error}", "could not end a transaction"
    done = call.result in (CallResult.ENDED, CallResult.DRY_RUN, CallResult.SEEN)
    fields = {
        "who": who,
        "refusal": call.refusal,
        "why": call.why or None,
        "rule": call.rule or None,
        "reason": f"{reason}" if reason else None,
        "remedy": call.capability.remedy or None if call.capability else None,
        "error": call.error or None,
    }
    # A session that is at work is asked about for as long as the slot waits.
    return Said(line, message, done, fields, once=call.result is CallResult.REFUSED)
