"""The primary of a cluster: found, proven, locked and called; and why that cannot be, before it is needed."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from types import TracebackType
from typing import Self

import psycopg
from psycopg.conninfo import make_conninfo

from exporter.config import HealerTarget
from exporter.postgres import Session
from exporter.yamlfile import ConfigError

APPLICATION_NAME = "pg_slot_healer"
TIMEOUT = 5.0
"""Seconds for connecting, and for each statement."""


class Unavailable(StrEnum):
    """Why the function cannot be called."""

    SERVER_TOO_OLD = "server_too_old"
    MISSING_FUNCTION = "missing_function"
    MISSING_PRIVILEGE = "missing_privilege"
    WAL_LEVEL = "wal_level"
    NO_PRIMARY = "no_primary"
    UNREACHABLE = "unreachable"
    DISABLED = "disabled"


REPLACEABLE = frozenset({Unavailable.SERVER_TOO_OLD, Unavailable.MISSING_FUNCTION, Unavailable.MISSING_PRIVILEGE})
"""What `fallback: emit_message` helps against: the server logs the record without the function then, only later."""

PASSING = frozenset({Unavailable.NO_PRIMARY, Unavailable.UNREACHABLE})
"""What a failover looks like from outside: worth another try within the same episode."""


@dataclass(frozen=True, slots=True)
class Capability:
    """Whether the healer could act on a cluster; `reason` None: it could."""

    reason: Unavailable | None
    remedy: str = ""
    """What to do about it; for a missing privilege the exact GRANT."""


@dataclass(frozen=True, slots=True)
class PrimaryFacts:
    """What decides whether this session may force a running-xacts record."""

    in_recovery: bool
    version_num: int
    role: str
    database: str
    wal_level: str
    has_function: bool
    may_execute: bool


_FACTS = """
SELECT
  pg_catalog.pg_is_in_recovery() AS in_recovery,
  pg_catalog.current_setting('server_version_num')::int4 AS version_num,
  current_user::text AS role,
  pg_catalog.current_database()::text AS database,
  pg_catalog.current_setting('wal_level') AS wal_level,
  function.oid IS NOT NULL AS has_function,
  coalesce(pg_catalog.has_function_privilege(function.oid::oid, 'EXECUTE'), false) AS may_execute
FROM pg_catalog.to_regprocedure('pg_catalog.pg_log_standby_snapshot()') function (oid)
"""


@dataclass(frozen=True, slots=True)
class _Lock:
    taken: bool


@dataclass(frozen=True, slots=True)
class _Setting:
    set_config: str


# One key for all healers and clusters: an advisory lock lives inside one database of one server.
_LOCK = "SELECT pg_catalog.pg_try_advisory_lock(x'7067736c6f74'::int8) AS taken"

# No lock outlives its holder by long: the server ends a session whose healer hangs, or whose host is gone.
_KEEPALIVES = """
SELECT pg_catalog.set_config(name, setting, false)
FROM (VALUES ('tcp_keepalives_idle', '15'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'))
  AS wanted (name, setting)
"""
_IDLE_TIMEOUT = "SELECT pg_catalog.set_config('idle_session_timeout', '{}ms', false)"


@dataclass(frozen=True, slots=True)
class _Record:
    lsn: str | None


# Proof and act in one statement: in recovery the function is not even called.
_CALL = """
SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_log_standby_snapshot() END::text AS lsn
"""

# Any WAL makes the background writer log the record, at the latest 15 s after its last one, or 10 s after its nap.
_EMIT = """
SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery()
  THEN pg_catalog.pg_logical_emit_message(false, 'pg_slot_healer', 'a running-xacts record is wanted')
END::text AS lsn
"""


class CallResult(StrEnum):
    """How an attempt to call ended."""

    OK = "ok"
    EMITTED = "emitted"
    """The fallback: a message was written in place of the record, which the server logs by itself then."""
    LOCKED = "locked"
    """Another healer acts on this cluster."""
    UNAVAILABLE = "unavailable"
    ERROR = "error"


WROTE = frozenset({CallResult.OK, CallResult.EMITTED})
"""A record was forced, or the message written in its place."""


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt."""

    result: CallResult
    lsn: str | None = None
    """What pg_log_standby_snapshot() returned: the end of the record; or pg_logical_emit_message(), of the message."""
    capability: Capability | None = None
    """None when the attempt does not tell."""
    error: str = ""


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
            f"PostgreSQL {facts.version_num // 10000} has no pg_log_standby_snapshot(); it came with 16.",
        )
    if not facts.has_function:
        return Capability(Unavailable.MISSING_FUNCTION, "No pg_log_standby_snapshot() here: ask the server's provider.")
    if facts.wal_level == "minimal":
        return Capability(Unavailable.WAL_LEVEL, "Set wal_level = logical and restart the server.")
    if not facts.may_execute:
        return Capability(
            Unavailable.MISSING_PRIVILEGE,
            f"In database {_quoted(facts.database)}: "
            f"GRANT EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot() TO {_quoted(facts.role)};",
        )
    return Capability(None)


async def check(target: HealerTarget) -> Capability:
    """Find out whether the healer could act, without acting: nothing is written and no lock is taken."""
    if not target.enabled:
        where = "healer.enabled" if target.disabled_everywhere else "enabled"
        why = f" ({target.disabled_reason})" if target.disabled_reason else ""
        return Capability(Unavailable.DISABLED, f"{where}: false in the configuration{why}.")
    try:
        session, capability = await _open(target)
    except (psycopg.Error, TimeoutError, ConfigError) as error:
        return await _not_connected(target, error)
    await session.close()
    return capability


class Primary:
    """The one short connection of an episode to the primary; leaving its context closes it and so frees the lock."""

    def __init__(self, target: HealerTarget, *, lock_ttl: float = 60.0) -> None:
        """`lock_ttl`: seconds after which the server ends a session that does nothing, and so frees the lock."""
        self._target = target
        self._lock_ttl = lock_ttl
        self._session: Session | None = None
        self._capability = Capability(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self._close()

    @property
    def ready(self) -> bool:
        """Connected, proven and locked: nobody else calls now, and a look from here on shows what others have done."""
        return self._session is not None and not self._session.stale

    async def prepare(self) -> Call | None:
        """Connect, prove and lock; None when that worked, else why not, as a call that was not made. Never raises."""
        return await self._guarded(self._prepare)

    async def call(self) -> Call:
        """
        Force one record on the primary, preparing for it first if need be; never raises for it.

        Where that is not possible and the fallback is chosen, write a message in its place.
        """
        result = None if self.ready else await self.prepare()
        if result is None:
            result = await self._guarded(self._call)
        assert result is not None  # noqa: S101 - _call always returns one
        return result

    async def _guarded(self, step: Callable[[], Awaitable[Call | None]]) -> Call | None:
        try:
            return await step()
        except (psycopg.Error, TimeoutError, ConfigError) as error:
            connected = self._session is not None and not self._session.closed
            await self._close()
            if connected:
                # The reason is read from the server's facts, not from the SQLSTATE: 55000 stands for two causes.
                capability = await check(self._target)
            else:
                capability = await _not_connected(self._target, error)
            usable = capability.reason is None or self._replaces(capability)
            result = CallResult.ERROR if usable else CallResult.UNAVAILABLE
            return Call(result, capability=capability, error=" ".join(str(error).split()))

    async def _prepare(self) -> Call | None:
        await self._close()
        self._session, self._capability = await _open(self._target)
        if self._capability.reason is not None and not self._replaces(self._capability):
            await self._close()
            return Call(CallResult.UNAVAILABLE, capability=self._capability)
        idle = _IDLE_TIMEOUT.format(int(self._lock_ttl * 1000))
        await self._session.ask([(_KEEPALIVES, _Setting), (idle, _Setting)], TIMEOUT)
        # By itself, see Session: the idle timeout runs from here on.
        [[lock]] = await self._session.ask([(_LOCK, _Lock)], TIMEOUT)
        if not lock.taken:
            await self._close()
            return Call(CallResult.LOCKED)
        return None

    async def _call(self) -> Call:
        assert self._session is not None  # noqa: S101 - call() has prepared
        if self._capability.reason is not None:
            # By way of the fallback so far; a GRANT is noticed.
            [[facts]] = await self._session.ask([(_FACTS, PrimaryFacts)], TIMEOUT)
            self._capability = judge(facts)
        capability = self._capability
        if capability.reason is not None and not self._replaces(capability):
            await self._close()
            return Call(CallResult.UNAVAILABLE, capability=capability)
        act, result = (_CALL, CallResult.OK) if capability.reason is None else (_EMIT, CallResult.EMITTED)
        [[record]] = await self._session.ask([(act, _Record)], TIMEOUT)
        if record.lsn is None:
            await self._close()
            return Call(CallResult.UNAVAILABLE, capability=Capability(Unavailable.NO_PRIMARY, "It is a standby now."))
        return Call(result, lsn=record.lsn, capability=capability)

    def _replaces(self, capability: Capability) -> bool:
        return self._target.fallback and capability.reason in REPLACEABLE

    async def _close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _open(target: HealerTarget) -> tuple[Session, Capability]:
    deadline = time.monotonic() + TIMEOUT
    session = await Session.connect(target.conninfo.read(), application_name=APPLICATION_NAME, timeout=TIMEOUT)
    try:
        [[facts]] = await session.ask([(_FACTS, PrimaryFacts)], max(0.1, deadline - time.monotonic()))
    except BaseException:
        await session.close()
        raise
    return session, judge(facts)


async def _not_connected(target: HealerTarget, error: Exception) -> Capability:
    """Tell a cluster without a primary from one that cannot be reached: does any of its servers answer?"""
    try:
        anywhere = make_conninfo(target.conninfo.read(), target_session_attrs="any")
        session = await Session.connect(anywhere, application_name=APPLICATION_NAME, timeout=TIMEOUT)
    except (psycopg.Error, TimeoutError, ConfigError):
        return Capability(Unavailable.UNREACHABLE, f"No server answers: {' '.join(str(error).split())}")
    await session.close()
    return Capability(Unavailable.NO_PRIMARY, "Servers answer, but none of them is a primary.")


def _quoted(identifier: str) -> str:
    return '"' + identifier.replace('"', '""') + '"'
