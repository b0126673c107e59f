"""
The statements that force a running-xacts record, by pg_log_standby_snapshot() or, as the fallback, by a message.

They are constants, into which only numbers of our own and one of two fixed calls are inserted.
"""

from dataclasses import dataclass

from healer.remedies.attempt import Capability, Unavailable
from pgslot.postgres.types import quote_identifier


@dataclass(frozen=True, slots=True)
class PrimaryFacts:
    """What decides whether this session may force a running-xacts record; the row of FACTS."""

    in_recovery: bool
    version_num: int
    role: str
    database: str
    wal_level: str
    has_function: bool
    may_execute: bool


FACTS = """
SELECT
  pg_catalog.pg_is_in_recovery() AS in_recovery,
  pg_catalog.current_setting('server_version_num')::pg_catalog.int4 AS version_num,
  current_user::pg_catalog.text AS role,
  pg_catalog.current_database()::pg_catalog.text AS database,
  pg_catalog.current_setting('wal_level') AS wal_level,
  function.oid IS NOT NULL AS has_function,
  coalesce(pg_catalog.has_function_privilege(function.oid::pg_catalog.oid, 'EXECUTE'), false) AS may_execute
FROM pg_catalog.to_regprocedure('pg_catalog.pg_log_standby_snapshot()') function (oid)
"""


@dataclass(frozen=True, slots=True)
class ActRow:
    """The row of act_statement() and WARM_UP."""

    state: str
    """open: it acted. Otherwise why not: rehearsed, recovery, locked (by another session), recent (a healer's call)."""
    before: str | None
    lsn: str | None
    holder: str | None
    """Description of the session that holds the lock. None: not locked, or free again by now."""
    holder_is_healer: bool | None


# Check and act in one statement. In recovery the function is not called. The lock is held only during this statement,
# so that no pooler and no hung healer can keep it. The three levels are evaluated from the inside out: OFFSET 0 keeps
# the planner from merging them.
#
# All healers of all clusters use one key, because an advisory lock is local to one database of one server. The lock
# lets one healer act at a time. `recent` keeps several healers from making more calls than one healer would: each
# leaves the time of its last call in its session's application_name, where the others read it until the session ends.
_ACT = """
SELECT
  gate.state,
  gate.before::pg_catalog.text AS before,
  CASE WHEN gate.state = 'open' THEN {act} END::pg_catalog.text AS lsn,
  holder.name AS holder,
  holder.is_healer AS holder_is_healer
FROM (
  SELECT
    lock.state,
    CASE WHEN lock.state = 'open' THEN pg_catalog.pg_current_wal_insert_lsn() END AS before,
    CASE WHEN lock.state = 'open' THEN pg_catalog.set_config('application_name', 'pg_slot_healer called '
      || pg_catalog.to_char(pg_catalog.clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS'), false)
    END AS said
  FROM (
    SELECT CASE
      WHEN {rehearsed} THEN 'rehearsed'
      WHEN pg_catalog.pg_is_in_recovery() THEN 'recovery'
      WHEN NOT pg_catalog.pg_try_advisory_xact_lock(x'7067736c6f74'::pg_catalog.int8) THEN 'locked'
      WHEN EXISTS (
        SELECT FROM pg_catalog.pg_stat_activity a
        WHERE a.pid <> pg_catalog.pg_backend_pid()
          AND a.usename = current_user
          AND a.application_name COLLATE pg_catalog."C" LIKE 'pg_slot_healer called %'
          AND a.application_name COLLATE pg_catalog."C" > 'pg_slot_healer called '
            || pg_catalog.to_char((pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => {recent}))
              AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS')
          -- A time in the future is from before the clock was set back: it says nothing about how recent the call was.
          AND a.application_name COLLATE pg_catalog."C" <= 'pg_slot_healer called '
            || pg_catalog.to_char((pg_catalog.clock_timestamp() + pg_catalog.make_interval(secs => 1))
              AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS')
      ) THEN 'recent'
      ELSE 'open' END AS state
    OFFSET 0
  ) lock
  OFFSET 0
) gate
LEFT JOIN LATERAL (
  SELECT
    pg_catalog.format('pid=%s user=%s application=%s', a.pid, a.usename, a.application_name) AS name,
    a.application_name LIKE 'pg_slot_healer%' AS is_healer
  FROM pg_catalog.pg_locks l
  JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
  WHERE gate.state = 'locked'
    AND l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
    AND l.classid = x'00007067'::pg_catalog.int4::pg_catalog.oid
    AND l.objid = x'736c6f74'::pg_catalog.int4::pg_catalog.oid
    AND a.datname = pg_catalog.current_database()
  LIMIT 1
) holder ON true
"""

_FUNCTION = "pg_catalog.pg_log_standby_snapshot()"
# After any new WAL the background writer logs the record, within 15 s of its last record, or 10 s after its nap.
_MESSAGE = "pg_catalog.pg_logical_emit_message(false, 'pg_slot_healer', 'a running-xacts record is wanted')"


def act_statement(*, by_message: bool, recent: float) -> str:
    """Return the statement that acts unless another healer has acted within `recent` seconds."""
    return _ACT.format(act=_MESSAGE if by_message else _FUNCTION, recent=round(float(recent), 3), rehearsed="false")


# With a constant condition the planner would remove what has to be warmed up. Every version has the message function.
WARM_UP = _ACT.format(act=_MESSAGE, recent=0.0, rehearsed="pg_catalog.pg_backend_pid() IS NOT NULL")
"""
The act's statement without its effect. The first time that a session runs it, it looks up dozens of names in the system
catalogs, which takes several times as long as running it; this is done while the first snapshot is taken.
"""


def judge(facts: PrimaryFacts) -> Capability:
    """Return whether a session with these facts can force a record."""
    if facts.in_recovery:
        return Capability(
            Unavailable.NO_PRIMARY,
            "The healer's conninfo leads to a standby: list all nodes in it and add target_session_attrs=read-write.",
        )
    if facts.version_num < 160000:
        return Capability(
            Unavailable.SERVER_TOO_OLD,
            f"PostgreSQL {facts.version_num // 10000} has no pg_log_standby_snapshot(); it exists from 16 on.",
        )
    if not facts.has_function:
        return Capability(Unavailable.MISSING_FUNCTION, "No pg_log_standby_snapshot() here: ask the server's provider.")
    if facts.wal_level == "minimal":
        return Capability(Unavailable.WAL_LEVEL, "Set wal_level = logical and restart the server.")
    if not facts.may_execute:
        grant = f"GRANT EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot() TO {quote_identifier(facts.role)};"
        where = f"In database {quote_identifier(facts.database)}:"
        return Capability(Unavailable.MISSING_PRIVILEGE, f"{where} {grant}", grant)
    return Capability(None)
