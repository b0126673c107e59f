"""
Two constant statements: FACTS shows whether a role may act, and ACT, end_transaction.sql, checks and acts.

The parameters of ACT are what earlier snapshots and checks showed, and what the configuration allows.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files

from healer.remedies.attempt import Capability, Unavailable
from healer.remedies.terminate.blocking_transaction import BlockingTransaction, HolderSession
from pgslot.config.model import TerminationPolicy
from pgslot.postgres.types import quote_identifier


@dataclass(frozen=True, slots=True)
class TerminatorFacts:
    """What decides whether this session could terminate another role's session; the row of FACTS."""

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
class TerminationRow:
    """The row of ACT."""

    refusal: str | None
    """The guard that refuses; None: none does."""
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
    blocker: BlockingTransaction, seen: HolderSession | None, policy: TerminationPolicy, *, act: bool, why: str = ""
) -> Sequence[str]:
    """Return the parameters of ACT; `seen`: the session in the earlier check, None: this is the first check."""
    as_seen = ("", "", "", "") if seen is None else (seen.backend_start, seen.xact_start, seen.state_change, seen.state)
    user, application = blocker.creator
    return (
        f"{blocker.pid}",
        f"{blocker.xid}",
        *as_seen,
        f"{policy.idle_in_transaction_for}",
        json.dumps(policy.users, ensure_ascii=False),
        json.dumps(policy.applications, ensure_ascii=False),
        json.dumps(policy.databases, ensure_ascii=False),
        f"{policy.at_most_per_hour}",
        blocker.kind,
        blocker.slot_name,
        f"{blocker.restart}",
        user,
        application,
        "true" if act else "false",
        why,
    )


def judge(facts: TerminatorFacts) -> Capability:
    """Return whether a session with these facts could terminate another role's session."""
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
