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
    table_defect: str | None
    """What is wrong with the table pgslot.ended: a key of TABLE_DEFECTS. None: nothing."""
    clock: float
    """The server's time, as Unix time."""


@dataclass(frozen=True, slots=True)
class RecentAct:
    """A row of RECENT_ACTS."""

    age: float


RECENT_ACTS = """
SELECT extract(epoch FROM pg_catalog.statement_timestamp() - e.ended_at)::pg_catalog.float8 AS age
FROM pgslot.ended e
WHERE e.ended_at > pg_catalog.statement_timestamp() - pg_catalog.make_interval(hours => 1)
ORDER BY e.ended_at DESC
LIMIT 1000
"""
"""The terminations of the last hour by all healers. A crash or a failover empties the table: healers remember them."""

TABLE_DEFECTS = {
    "missing": "has no table pgslot.ended",
    "foreign": "has a schema or a table pgslot.ended that no superuser owns, who could run anything with this role's"
    " privileges",
    "armed": "has triggers, rules, policies or children on the table pgslot.ended, which would run with this role's"
    " privileges",
    "logged": "has a logged table pgslot.ended, whose rows a publication FOR ALL TABLES sends to subscribers without"
    " such a table, which stops them",
    "privileges": "does not let the role {role} read pgslot.ended and add rows",
}
"""Why a row in pgslot.ended would do harm or cannot be written, as a sentence about the database."""

FACTS = """
SELECT
  pg_catalog.pg_is_in_recovery() AS in_recovery,
  current_user::pg_catalog.text AS role,
  pg_catalog.current_database()::pg_catalog.text AS database,
  pg_catalog.pg_has_role(current_user, 'pg_signal_backend', 'USAGE') AS may_signal,
  pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AS reads_all_stats,
  CASE
    WHEN notes.oid IS NULL OR notes.relkind <> 'r' THEN 'missing'
    WHEN NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = notes.relowner AND r.rolsuper)
      OR NOT EXISTS (SELECT FROM pg_catalog.pg_roles r WHERE r.oid = notes.nspowner AND r.rolsuper) THEN 'foreign'
    WHEN notes.relrowsecurity OR notes.relispartition
      OR EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = notes.oid)
      OR EXISTS (SELECT FROM pg_catalog.pg_inherits i WHERE i.inhparent = notes.oid)
      OR EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = notes.oid)
      OR EXISTS (SELECT FROM pg_catalog.pg_policy p WHERE p.polrelid = notes.oid) THEN 'armed'
    -- Rows of an unlogged table are in no WAL: no publication and no plugin sends them anywhere.
    WHEN notes.relpersistence <> 'u' THEN 'logged'
    WHEN NOT (pg_catalog.has_schema_privilege(notes.relnamespace, 'USAGE')
      AND pg_catalog.has_table_privilege(notes.oid, 'SELECT')
      AND pg_catalog.has_any_column_privilege(notes.oid, 'INSERT')) THEN 'privileges'
  END AS table_defect,
  extract(epoch FROM pg_catalog.clock_timestamp())::pg_catalog.float8 AS clock
FROM (SELECT) once
LEFT JOIN (
  SELECT c.*, n.nspowner
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE n.nspname = 'pgslot' AND c.relname = 'ended'
) notes ON true
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
    clock: float
    """The server's time, as Unix time."""
    rivals: list[str]
    """Descriptions of the other transactions that could be the cause, if it is refused as ambiguous."""
    ended: bool | None
    """Whether the session was sent the signal; None: that was not tried."""


@dataclass(frozen=True, slots=True)
class Position:
    """The row of POSITION."""

    position: int


POSITION = """
SELECT pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_current_wal_insert_lsn(), '0/0')::pg_catalog.int8 AS position
"""
"""Where WAL stands now: what ended before the statement did so in WAL before this position."""


@dataclass(frozen=True, slots=True)
class ForcedRecords:
    """The row of FORCE."""

    first_end: int
    second_end: int


FORCE = """
SELECT
  pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_log_standby_snapshot(), '0/0')::pg_catalog.int8 AS first_end,
  pg_catalog.pg_wal_lsn_diff(pg_catalog.pg_log_standby_snapshot(), '0/0')::pg_catalog.int8 AS second_end
"""
"""Log two running-xacts records; 16 and newer."""


HOUR_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class ClockLimits:
    """What the primary's clock may show, and how much longer times are by it since it was set forward. Seconds."""

    latest: float
    """Unix time; a later one means that the clock has been set forward."""
    idle: float = 0.0
    """Added to `idle_in_transaction_for`."""
    hour: float = 0.0
    """Added to the hour of `at_most_per_hour`."""


def parameters(
    blocker: BlockingTransaction,
    seen: HolderSession | None,
    policy: TerminationPolicy,
    *,
    clock: ClockLimits,
    act: bool,
    why: str = "",
) -> Sequence[str]:
    """Return the parameters of ACT; `seen`: the session in the earlier check, None: this is the first check."""
    as_seen = ("", "", "", "") if seen is None else (seen.backend_start, seen.xact_start, seen.state_change, seen.state)
    user, application = blocker.creator
    return (
        f"{blocker.pid}",
        f"{blocker.xid}",
        *as_seen,
        f"{policy.idle_in_transaction_for + clock.idle}",
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
        f"{blocker.bound or 0}",
        f"{blocker.awaited or 0}",
        f"{HOUR_SECONDS + clock.hour}",
        f"{clock.latest}",
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
        grant = f"GRANT {', '.join(lacking)} TO {role};"
        return Capability(Unavailable.MISSING_PRIVILEGE, grant, grant)
    if facts.table_defect is not None:
        defect = TABLE_DEFECTS[facts.table_defect].format(role=role)
        advice = f"Database {database} {defect}: run what pg-slot-healer grants --end-transactions prints."
        return Capability(Unavailable.MISSING_PRIVILEGE, advice)
    return Capability(None)
