"""The connection of an episode to the primary: connect, check the capability, act; and check it in advance."""

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

import psycopg

from healer.remedies.attempt import APPLICATION_NAME, Act, Attempt, AttemptResult, Capability, Unavailable
from pgslot.cli.errors import ConfigError
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import HealerConfig
from pgslot.postgres.connect import LoginFailedError
from pgslot.postgres.login import open_session
from pgslot.postgres.login_advice import login_advice
from pgslot.postgres.session import Session, SessionQuery
from pgslot.snapshot.identity import IDENTITY, Identity

# Timeouts, in seconds.
PRIMARY_TIMEOUT = 5.0
"""For connecting, and for each statement."""
MIN_IDLE_TIMEOUT = 60.0
MAX_IDLE_TIMEOUT = 3600.0
"""Bounds of the time without a statement after which the server ends the session."""
CANCEL_TIMEOUT = 2.0
"""For asking the server to cancel the statement in flight."""
MIN_STATEMENT_TIMEOUT = 0.1
"""For a statement whose connecting took almost all of PRIMARY_TIMEOUT."""

INTERRUPTED = "the episode was stopped before anything was done"
"""The error of an attempt that was interrupted before its statement was sent."""

ActT = TypeVar("ActT", bound=Act)
AttemptT = TypeVar("AttemptT", bound=Attempt)


@dataclass(frozen=True, slots=True)
class _Setting:
    set_config: str


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int


@dataclass(frozen=True, slots=True)
class _Mode:
    read_only: bool


_PROCESS = "SELECT pg_catalog.pg_backend_pid() AS pid"
# What target_session_attrs=read-write asks: `on` in recovery, too.
_MODE = "SELECT pg_catalog.current_setting('transaction_read_only')::pg_catalog.bool AS read_only"

# The server ends the session of a healer that hangs or whose host is gone.
_KEEPALIVES = """
SELECT pg_catalog.set_config(name, setting, false)
FROM (VALUES ('tcp_keepalives_idle', '15'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'))
  AS wanted (name, setting)
"""
_IDLE_TIMEOUT = "SELECT pg_catalog.set_config('idle_session_timeout', '{}ms', false)"

STATEMENTS = (_PROCESS, _MODE, _KEEPALIVES, _IDLE_TIMEOUT)
"""Every statement of this module."""

_SHARED_POOLER = Capability(
    Unavailable.POOLER,
    "The healer's conninfo leads to a connection pooler in transaction mode, whose server sessions are not the healer's"
    " own: name the servers themselves in it (host and port of PostgreSQL).",
)
_ANY_POOLER = Capability(
    Unavailable.POOLER,
    "Its conninfo leads to a connection pooler: name the servers themselves in it (host and port of PostgreSQL).",
)


class PrimaryConnection(ABC, Generic[ActT, AttemptT]):
    """
    The only connection of an episode that acts on the primary; leaving its context closes it.

    Each remedy has a subclass, which decides whether a session may act, and acts.
    """

    facts: ClassVar[SessionQuery]
    """The query, with one row for `judge`, that shows whether a session may act."""
    warm_up: ClassVar[SessionQuery | None] = None
    """The act's statement without its effect: fills a new session's catalog caches. None: not needed."""
    recent_acts: ClassVar[SessionQuery | None] = None
    """Returns the age in seconds of each act of healers within the last hour. None: the primary keeps no record."""
    through_pooler: ClassVar[bool] = True
    """It may act through a pooler in session mode, which gives each client a server session of its own."""

    def __init__(self, target: HealerConfig, *, idle_timeout: float = MIN_IDLE_TIMEOUT) -> None:
        """`idle_timeout`: seconds without a statement after which the server ends the session; kept within bounds."""
        self.target = target
        self.session: Session | None = None
        """None: not connected."""
        self.capability = Capability(None)
        """As the session's facts last showed it."""
        self.interrupted = False
        """No further act may be sent; what was sent is waited for."""
        self.expected_identifier: str | None = None
        """The system identifier of the cluster that snapshots show: no other server is acted on. None: not known."""
        self._identifier: str | None = None
        """The server's; None: not known."""
        self._idle_timeout = min(idle_timeout, MAX_IDLE_TIMEOUT)
        self._preparation: asyncio.Task[AttemptT | None] | None = None
        """Started before it is known whether an attempt is needed."""

    @staticmethod
    @abstractmethod
    def judge(facts: Any) -> Capability:
        """Return whether a session with these facts could act."""

    @abstractmethod
    async def _act(self, step: ActT) -> AttemptT:
        """Act on the prepared session. Raises psycopg.Error, TimeoutError."""

    @abstractmethod
    def _not_made(self, result: AttemptResult, capability: Capability | None, error: str) -> AttemptT:
        """Return the attempt that stands for one that was not made."""

    @classmethod
    def _has_fallback(cls, target: HealerConfig, capability: Capability) -> bool:
        """Return whether it has a fallback where it lacks this capability."""
        del target, capability
        return False

    async def _set_up(self, session: Session) -> None:
        """Prepare a new session for what this remedy needs."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.cancel_preparation()
        await self.close()

    @property
    def ready(self) -> bool:
        """Connected and checked: the next attempt takes one round trip."""
        if self._preparation is not None or self.session is None or self.session.stale:
            return False
        return self.session.renew_at is None or time.monotonic() < self.session.renew_at

    def prepare_in_background(self) -> None:
        """Start to connect while the first snapshot is taken; prepare() returns the result."""
        self._preparation = asyncio.create_task(self._guarded(self._prepare))

    async def prepare(self) -> AttemptT | None:
        """Connect and check the capability. Return None, or an attempt that says why that failed; never raises."""
        if self._preparation is not None:
            failed = await self._preparation
            self._preparation = None
            if failed is not None or self.ready:
                return failed
        return await self._guarded(self._prepare)

    async def cancel_preparation(self) -> None:
        """Cancel a preparation that no attempt has waited for yet; a connection that was used is kept."""
        if self._preparation is not None:
            self._preparation.cancel()
            await asyncio.wait({self._preparation})
            self._preparation = None
            await self.close()

    async def act(self, step: ActT) -> AttemptT:
        """Make one attempt, after preparing for it if necessary. Never raises for errors of servers or the network."""
        attempt = None if self.ready else await self.prepare()
        if attempt is None and self.interrupted:
            return self._not_made(AttemptResult.ERROR, None, INTERRUPTED)
        identifiers = {self._identifier, self.expected_identifier} - {None}
        if attempt is None and len(identifiers) > 1:
            await self.close()
            return self._not_made(AttemptResult.ERROR, None, self._foreign())
        if attempt is None:
            attempt = await self._guarded(lambda: self._act(step))
        assert attempt is not None  # noqa: S101 - _act always returns one
        return attempt

    def _foreign(self) -> str:
        return (
            f"its conninfo leads to a server of another cluster: expected the system identifier"
            f" {self.expected_identifier}, found {self._identifier}"
        )

    async def interrupt(self) -> None:
        """
        Cancel the statement in flight on the server, and send no further act.

        The pending act() returns as soon as the server has answered, and says what was done.
        """
        self.interrupted = True
        if self.session is not None:
            # If the server cannot be asked, the statement's own timeout ends it.
            with contextlib.suppress(psycopg.Error, TimeoutError, OSError):
                await self.session.cancel(CANCEL_TIMEOUT)

    async def close(self) -> None:
        """End the session; the next attempt connects again."""
        if self.session is not None:
            await self.session.close()
            self.session = None

    async def _guarded(self, step: Callable[[], Awaitable[AttemptT | None]]) -> AttemptT | None:
        try:
            return await step()
        except (psycopg.Error, TimeoutError, OSError, ConfigError) as error:
            if self.interrupted:
                # There is no time to find out more about the server: the healer may be about to stop.
                await self.close()
                return self._not_made(AttemptResult.ERROR, None, _text(error))
            connected = self.session is not None
            await self.close()
            if connected:
                # The server's facts give the reason; the SQLSTATE does not: 55000 has two causes. A connection that
                # broke says nothing about the role of the server, which may answer again already.
                capability = await check_capability(self.target, type(self))
            else:
                capability = await _not_connected(self.target, error)
            usable = capability.reason is None or self._has_fallback(self.target, capability)
            result = AttemptResult.ERROR if usable else AttemptResult.UNAVAILABLE
            return self._not_made(result, capability, _text(error))

    async def _prepare(self) -> AttemptT | None:
        await self.close()
        idle_timeout = _IDLE_TIMEOUT.format(int(self._idle_timeout * 1000))
        settings: list[SessionQuery] = [(_KEEPALIVES, _Setting), (idle_timeout, _Setting)]
        if self.warm_up is not None:
            settings.append(self.warm_up)
        self.session, self.capability = await _open(self.target, type(self), *settings)
        if self.capability.reason is not None and not self._has_fallback(self.target, self.capability):
            await self.close()
            return self._not_made(AttemptResult.UNAVAILABLE, self.capability, "")
        self._identifier = await _identify(self.session)
        await self._set_up(self.session)
        return None


AnyConnection = PrimaryConnection[Any, Any]


class _CheckFailedError(psycopg.OperationalError):
    """A server that has the target_session_attrs let the session in; then the check failed, or the connection broke."""


async def check_capability(target: HealerConfig, connection: type[AnyConnection]) -> Capability:
    """Return whether a remedy could act; writes nothing and takes no lock."""
    if not target.enabled:
        where = "healer.enabled" if target.disabled_everywhere else "enabled"
        why = f" ({target.disabled_reason})" if target.disabled_reason else ""
        return Capability(Unavailable.DISABLED, f"{where}: false in the configuration{why}.")
    try:
        session, capability = await _open(target, connection)
    except (psycopg.Error, TimeoutError, OSError, ConfigError) as error:
        return await _not_connected(target, error)
    await session.close()
    return capability


async def _open(
    target: HealerConfig, connection: type[AnyConnection], *settings: SessionQuery
) -> tuple[Session, Capability]:
    """
    Connect, and return whether this session could act; `settings` are made in the same round trip.

    Raises _CheckFailedError if a server let the session in, and what Session.connect() does if none did.
    """
    deadline = time.monotonic() + PRIMARY_TIMEOUT
    conninfo = target.conninfo
    session = await open_session(conninfo, application_name=APPLICATION_NAME, timeout=PRIMARY_TIMEOUT)
    try:
        shared = await _is_shared_pooler(session, conninfo, deadline)
        if shared or (session.pooled and not connection.through_pooler):
            return session, _SHARED_POOLER if connection.through_pooler else _ANY_POOLER
        [[facts], *_] = await session.fetch([connection.facts, *settings], _left(deadline))
        capability = connection.judge(facts)
        if connection.recent_acts is not None and capability.reason is None:
            [acts] = await session.fetch([connection.recent_acts], _left(deadline))
            now = time.monotonic()
            capability = replace(capability, recent_acts=tuple(now - act.age for act in acts))
    except BaseException as error:
        await session.close()
        if isinstance(error, psycopg.Error | TimeoutError | OSError) and not isinstance(error, LoginFailedError):
            raise _CheckFailedError(_text(error)) from error
        raise
    return session, capability


async def _identify(session: Session) -> str | None:
    """Return the server's system identifier; None: it may not be read."""
    try:
        [[row]] = await session.fetch([(IDENTITY, Identity)], PRIMARY_TIMEOUT)
    except psycopg.Error:
        if session.closed:
            raise
        return None
    return str(row.system_identifier)


async def _is_shared_pooler(session: Session, conninfo: Conninfo, deadline: float) -> bool:
    """
    Return whether a pooler shares the server's sessions between transactions; called before anything is set in one.

    The process ID that a pooler sends when a client connects is not the one of a server process. A pooler in session
    mode is harmless: two connections have two server sessions, and neither changes.
    """
    if not await session.detect_pooler(_left(deadline)):
        return False
    [[first]] = await session.fetch([(_PROCESS, _Process)], _left(deadline), bare=True)
    second_session = await open_session(conninfo, application_name=APPLICATION_NAME, timeout=_left(deadline))
    try:
        [[second]] = await second_session.fetch([(_PROCESS, _Process)], _left(deadline), bare=True)
        [[again]] = await session.fetch([(_PROCESS, _Process)], _left(deadline), bare=True)
    finally:
        await second_session.close()
    return bool(second.pid == first.pid or again.pid != first.pid)


async def _not_connected(target: HealerConfig, error: Exception) -> Capability:
    """
    Return LOGIN_FAILED if a server refuses the role, NO_PRIMARY if only standbys let it in, otherwise UNREACHABLE.

    UNREACHABLE is also a primary that answered too late, or whose connection broke before the check was over.
    """
    if isinstance(error, LoginFailedError):
        return _login_failed(error)
    if isinstance(error, _CheckFailedError):
        return _primary_failed(error)
    try:
        read_only = await _is_read_only(target.conninfo)
    except LoginFailedError as refusal:
        return _login_failed(refusal)
    except (psycopg.Error, TimeoutError, OSError, ConfigError):
        return Capability(Unavailable.UNREACHABLE, f"No server answers: {_text(error)}")
    if not read_only:
        return _primary_failed(error)
    return Capability(Unavailable.NO_PRIMARY, "Servers answer, but none of them is a primary.")


async def _is_read_only(conninfo: Conninfo) -> bool:
    """Return whether the first server that answers accepts no writes, as a standby. Raises what connect() does."""
    session = await open_session(
        conninfo, application_name=APPLICATION_NAME, timeout=PRIMARY_TIMEOUT, target_session_attrs="any"
    )
    try:
        # Bare: a session of ours is read-only everywhere.
        [[mode]] = await session.fetch([(_MODE, _Mode)], PRIMARY_TIMEOUT, bare=True)
    finally:
        await session.close()
    return bool(mode.read_only)


def _primary_failed(error: Exception) -> Capability:
    return Capability(Unavailable.UNREACHABLE, f"The connection to the primary failed: {_text(error)}")


def _login_failed(error: LoginFailedError) -> Capability:
    text = _text(error)
    return Capability(Unavailable.LOGIN_FAILED, f"A server refuses the login: {text}. {login_advice(text)}")


def _left(deadline: float) -> float:
    return max(MIN_STATEMENT_TIMEOUT, deadline - time.monotonic())


def _text(error: Exception) -> str:
    """Return the error as one line that is never empty: a TimeoutError has no text."""
    return " ".join(str(error).split()) or f"{type(error).__name__} after {PRIMARY_TIMEOUT:.0f} s"
