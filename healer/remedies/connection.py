"""The connection of an episode to the primary: found, proven, used; and why that cannot be, before it is needed."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo

from healer.remedies.attempt import APPLICATION_NAME, Act, Attempt, AttemptResult, Capability, Unavailable
from pgslot.cli.errors import ConfigError
from pgslot.config.model import HealerConfig
from pgslot.postgres.session import Session, SessionQuery

TIMEOUT = 5.0
"""Seconds for connecting, and for each statement."""
MIN_IDLE_TIMEOUT = 60.0
MAX_IDLE_TIMEOUT = 3600.0
"""Seconds without a statement after which the server ends the session."""

ActT = TypeVar("ActT", bound=Act)
AttemptT = TypeVar("AttemptT", bound=Attempt)


@dataclass(frozen=True, slots=True)
class _Setting:
    set_config: str


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int


_PROCESS = "SELECT pg_catalog.pg_backend_pid() AS pid"

# No session outlives its healer by long: the server ends the session of a healer that hangs, or whose host is gone.
_KEEPALIVES = """
SELECT pg_catalog.set_config(name, setting, false)
FROM (VALUES ('tcp_keepalives_idle', '15'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'))
  AS wanted (name, setting)
"""
_IDLE_TIMEOUT = "SELECT pg_catalog.set_config('idle_session_timeout', '{}ms', false)"

STATEMENTS = (_PROCESS, _KEEPALIVES, _IDLE_TIMEOUT)
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
    The one short connection of an episode to the primary; leaving its context closes it.

    A remedy has a subclass that says what proves that a session may act, and how it acts.
    """

    facts: ClassVar[SessionQuery]
    """What shows whether a session may act: a query with one row, for `judge`."""
    warm_up: ClassVar[SessionQuery | None] = None
    """Makes a new session acquainted with the act, and does nothing."""
    through_pooler: ClassVar[bool] = True
    """It may also act through a pooler that gives it a session of its own."""

    def __init__(self, target: HealerConfig, *, idle_timeout: float = MIN_IDLE_TIMEOUT) -> None:
        """`idle_timeout`: seconds without a statement after which the server ends the session; kept within bounds."""
        self.target = target
        self.session: Session | None = None
        """The connection; None: there is none at this moment."""
        self.capability = Capability(None)
        """As the session's facts showed it last."""
        self._idle_timeout = min(idle_timeout, MAX_IDLE_TIMEOUT)
        self._preparation: asyncio.Task[AttemptT | None] | None = None
        """Begun before it is known to be needed."""

    @staticmethod
    @abstractmethod
    def judge(facts: Any) -> Capability:
        """Return whether a session with these facts could act."""

    @abstractmethod
    async def _act(self, step: ActT) -> AttemptT:
        """Act on the prepared session. Raises psycopg.Error, TimeoutError."""

    @abstractmethod
    def _not_made(self, result: AttemptResult, capability: Capability | None, error: str) -> AttemptT:
        """Return an attempt that was not made."""

    @classmethod
    def _has_fallback(cls, target: HealerConfig, capability: Capability) -> bool:
        """Return whether it acts in another way where it lacks this capability."""
        del target, capability
        return False

    async def _set_up(self, session: Session) -> None:
        """Prepare a new session further, if the remedy needs that."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.cancel_preparation()
        await self.close()

    @property
    def ready(self) -> bool:
        """Connected and proven: the next attempt takes one round trip."""
        return self._preparation is None and self.session is not None and not self.session.stale

    def prepare_in_background(self) -> None:
        """Begin to connect and prove while the first snapshot is taken; prepare() returns what came of it."""
        self._preparation = asyncio.create_task(self._guarded(self._prepare))

    async def prepare(self) -> AttemptT | None:
        """Connect and prove. Return None, or why that failed as an attempt that was not made; never raises."""
        if self._preparation is not None:
            failed = await self._preparation
            self._preparation = None
            if failed is not None or self.ready:
                return failed
        return await self._guarded(self._prepare)

    async def cancel_preparation(self) -> None:
        """Take back what was begun in the background, if nobody waited for it; a connection that was used is kept."""
        if self._preparation is not None:
            self._preparation.cancel()
            await asyncio.wait({self._preparation})
            self._preparation = None
            await self.close()

    async def act(self, step: ActT) -> AttemptT:
        """Make one attempt, preparing for it first if need be. Never raises for what a server or network does."""
        attempt = None if self.ready else await self.prepare()
        if attempt is None:
            attempt = await self._guarded(lambda: self._act(step))
        assert attempt is not None  # noqa: S101 - _act always returns one
        return attempt

    async def close(self) -> None:
        """End the session; the next attempt connects again."""
        if self.session is not None:
            await self.session.close()
            self.session = None

    async def _guarded(self, step: Callable[[], Awaitable[AttemptT | None]]) -> AttemptT | None:
        try:
            return await step()
        except (psycopg.Error, TimeoutError, OSError, ConfigError) as error:
            connected = self.session is not None and not self.session.closed
            await self.close()
            if connected:
                # The reason is read from the server's facts, not from the SQLSTATE: 55000 stands for two causes.
                capability = await check_capability(self.target, type(self))
            else:
                capability = await _not_connected(self.target, error)
            usable = capability.reason is None or self._has_fallback(self.target, capability)
            result = AttemptResult.ERROR if usable else AttemptResult.UNAVAILABLE
            return self._not_made(result, capability, _text(error))

    async def _prepare(self) -> AttemptT | None:
        await self.close()
        settings: list[SessionQuery] = [
            (_KEEPALIVES, _Setting),
            (_IDLE_TIMEOUT.format(int(self._idle_timeout * 1000)), _Setting),
        ]
        if self.warm_up is not None:
            settings.append(self.warm_up)
        self.session, self.capability = await _open(self.target, type(self), *settings)
        if self.capability.reason is not None and not self._has_fallback(self.target, self.capability):
            await self.close()
            return self._not_made(AttemptResult.UNAVAILABLE, self.capability, "")
        await self._set_up(self.session)
        return None


AnyConnection = PrimaryConnection[Any, Any]


async def check_capability(target: HealerConfig, connection: type[AnyConnection]) -> Capability:
    """Find out whether a remedy could act, without acting: nothing is written and no lock is taken."""
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
    """Connect, and find out whether this session could act; the settings are made in the same round trip."""
    deadline = time.monotonic() + TIMEOUT
    conninfo = target.conninfo.read()
    session = await Session.connect(conninfo, application_name=APPLICATION_NAME, timeout=TIMEOUT)
    try:
        shared = await _is_shared_pooler(session, conninfo, deadline)
        if shared or (session.pooled and not connection.through_pooler):
            return session, _SHARED_POOLER if connection.through_pooler else _ANY_POOLER
        [[facts], *_] = await session.fetch([connection.facts, *settings], _left(deadline))
    except BaseException:
        await session.close()
        raise
    return session, connection.judge(facts)


async def _is_shared_pooler(session: Session, conninfo: str, deadline: float) -> bool:
    """
    Return whether a pooler shares the server's sessions between transactions; asked before anything is set in one.

    A pooler names a process at the start that is none of the server's. A pooler in session mode is harmless: there two
    connections have two server sessions, and neither changes.
    """
    if not await session.detect_pooler(_left(deadline)):
        return False
    [[first]] = await session.fetch([(_PROCESS, _Process)], _left(deadline), bare=True)
    other = await Session.connect(conninfo, application_name=APPLICATION_NAME, timeout=_left(deadline))
    try:
        [[second]] = await other.fetch([(_PROCESS, _Process)], _left(deadline), bare=True)
        [[again]] = await session.fetch([(_PROCESS, _Process)], _left(deadline), bare=True)
    finally:
        await other.close()
    return bool(second.pid == first.pid or again.pid != first.pid)


async def _not_connected(target: HealerConfig, error: Exception) -> Capability:
    """Distinguish a cluster without a primary from one that cannot be reached: does any of its servers answer?"""
    try:
        any_server = make_conninfo(target.conninfo.read(), target_session_attrs="any")
        session = await Session.connect(any_server, application_name=APPLICATION_NAME, timeout=TIMEOUT)
    except (psycopg.Error, TimeoutError, OSError, ConfigError):
        return Capability(Unavailable.UNREACHABLE, f"No server answers: {_text(error)}")
    await session.close()
    return Capability(Unavailable.NO_PRIMARY, "Servers answer, but none of them is a primary.")


def _left(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())


def _text(error: Exception) -> str:
    """Return the error in one line, never an empty one: a timeout has no text of its own."""
    return " ".join(str(error).split()) or f"{type(error).__name__} after {TIMEOUT:.0f} s"
