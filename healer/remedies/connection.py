"""The primary of a cluster: found, proven and called; and why that cannot be, before it is needed."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ClassVar, Self

import psycopg
from psycopg.conninfo import make_conninfo

from healer.remedies.attempt import APPLICATION_NAME, REPLACEABLE, Call, CallResult, Capability, Unavailable
from healer.remedies.force_snapshot.statements import FACTS, REHEARSAL, Act, PrimaryFacts, act, judge
from pgslot.cli.errors import ConfigError
from pgslot.config.model import HealerConfig
from pgslot.postgres.session import Session, SessionQuery

TIMEOUT = 5.0
"""Seconds for connecting, and for each statement."""
OTHERS_MISS = 1.5
"""A call of another healer stands for ours for so many of our paces: it has to miss one by half before we step in."""
SHORTEST_IDLE = 60.0
LONGEST_IDLE = 3600.0


@dataclass(frozen=True, slots=True)
class _Setting:
    set_config: str


@dataclass(frozen=True, slots=True)
class _Process:
    pid: int


_PROCESS = "SELECT pg_catalog.pg_backend_pid() AS pid"

# No session outlives its healer by long: the server ends one whose healer hangs, or whose host is gone.
_KEEPALIVES = """
SELECT pg_catalog.set_config(name, setting, false)
FROM (VALUES ('tcp_keepalives_idle', '15'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'))
  AS wanted (name, setting)
"""
_IDLE_TIMEOUT = "SELECT pg_catalog.set_config('idle_session_timeout', '{}ms', false)"

_POOLED = Capability(
    Unavailable.POOLER,
    "The healer's conninfo leads to a connection pooler in transaction mode, whose server sessions are not the healer's"
    " own: name the servers themselves in it (host and port of PostgreSQL).",
)
_POOLED_AT_ALL = Capability(
    Unavailable.POOLER,
    "Its conninfo leads to a connection pooler: name the servers themselves in it (host and port of PostgreSQL).",
)


@dataclass(frozen=True, slots=True)
class Proof:
    """What shows whether a session may act: a question, and the judgement of the one row that answers it."""

    query: SessionQuery
    judge: Callable[[Any], Capability]
    rehearsal: SessionQuery | None = None
    """Makes a new session acquainted with the act, and does nothing."""
    through_pooler: bool = True
    """It may also act through a pooler that gives it a session of its own."""


RECORD = Proof((FACTS, PrimaryFacts), judge, rehearsal=(REHEARSAL, Act))


async def check(target: HealerConfig, proof: Proof = RECORD) -> Capability:
    """Find out whether the healer could act, without acting: nothing is written and no lock is taken."""
    if not target.enabled:
        where = "healer.enabled" if target.disabled_everywhere else "enabled"
        why = f" ({target.disabled_reason})" if target.disabled_reason else ""
        return Capability(Unavailable.DISABLED, f"{where}: false in the configuration{why}.")
    try:
        session, capability = await _open(target, proof)
    except (psycopg.Error, TimeoutError, OSError, ConfigError) as error:
        return await _not_connected(target, error)
    await session.close()
    return capability


class Primary:
    """The one short connection of an episode to the primary; leaving its context closes it."""

    proof: ClassVar[Proof] = RECORD

    def __init__(self, target: HealerConfig, *, idle: float = SHORTEST_IDLE) -> None:
        """`idle`: seconds after which the server ends a session that does nothing; kept within sensible bounds."""
        self._target = target
        self._idle = min(idle, LONGEST_IDLE)
        self._session: Session | None = None
        self._capability = Capability(None)
        self._ahead: asyncio.Task[Call | None] | None = None
        """Preparing that was begun before it is known to be needed."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.not_needed()
        await self._close()

    @property
    def ready(self) -> bool:
        """Connected and proven: the next call takes one round trip."""
        return self._ahead is None and self._session is not None and not self._session.stale

    def prepare_ahead(self) -> None:
        """Begin to connect and prove while something else is waited for; prepare() tells what came of it."""
        self._ahead = asyncio.create_task(self._guarded(self._prepare))

    async def prepare(self) -> Call | None:
        """Connect and prove; None when that worked, else why not, as a call that was not made. Never raises."""
        if self._ahead is not None:
            failed = await self._ahead
            self._ahead = None
            if failed is not None or self.ready:
                return failed
        return await self._guarded(self._prepare)

    async def not_needed(self) -> None:
        """Take back what was begun ahead, if nobody has waited for it; a connection that was needed once is kept."""
        if self._ahead is not None:
            self._ahead.cancel()
            await asyncio.wait({self._ahead})
            self._ahead = None
            await self._close()

    async def call(self, pace: float = 0.0) -> Call:
        """
        Force one record on the primary, preparing for it first if need be; never raises for it.

        Where that is not possible and the fallback is chosen, write a message in its place. `pace`: seconds between our
        calls; a call that another healer has made within about as many stands for ours.
        """
        result = None if self.ready else await self.prepare()
        if result is None:
            result = await self._guarded(lambda: self._call(pace))
        assert result is not None  # noqa: S101 - _call always returns one
        return result

    async def _guarded(self, step: Callable[[], Awaitable[Call | None]]) -> Call | None:
        try:
            return await step()
        except (psycopg.Error, TimeoutError, OSError, ConfigError) as error:
            connected = self._session is not None and not self._session.closed
            await self._close()
            if connected:
                # The reason is read from the server's facts, not from the SQLSTATE: 55000 stands for two causes.
                capability = await check(self._target, self.proof)
            else:
                capability = await _not_connected(self._target, error)
            usable = capability.reason is None or self._replaces(capability)
            result = CallResult.ERROR if usable else CallResult.UNAVAILABLE
            return Call(result, capability=capability, error=_text(error))

    async def _prepare(self) -> Call | None:
        await self._close()
        idle = _IDLE_TIMEOUT.format(int(self._idle * 1000))
        settings: list[SessionQuery] = [(_KEEPALIVES, _Setting), (idle, _Setting)]
        if self.proof.rehearsal is not None:
            settings.append(self.proof.rehearsal)
        self._session, self._capability = await _open(self._target, self.proof, *settings)
        if self._capability.reason is not None and not self._replaces(self._capability):
            await self._close()
            return Call(CallResult.UNAVAILABLE, capability=self._capability)
        return None

    async def _call(self, pace: float) -> Call:
        assert self._session is not None  # noqa: S101 - call() has prepared
        if self._capability.reason is not None:
            # By way of the fallback so far; a GRANT is noticed.
            [[facts]] = await self._session.fetch([(FACTS, PrimaryFacts)], TIMEOUT)
            self._capability = judge(facts)
        capability = self._capability
        if capability.reason is not None and not self._replaces(capability):
            await self._close()
            return Call(CallResult.UNAVAILABLE, capability=capability)
        by_message = capability.reason is not None
        statement = act(by_message=by_message, recent=OTHERS_MISS * pace)
        # By itself, see Session: the idle timeout runs from here on.
        [[done]] = await self._session.fetch([(statement, Act)], TIMEOUT)
        if done.state == "recovery":
            await self._close()
            return Call(CallResult.UNAVAILABLE, capability=Capability(Unavailable.NO_PRIMARY, "It is a standby now."))
        if done.state != "open":
            return Call(CallResult.LOCKED, stranger=None if done.holder_is_healer is not False else done.holder)
        result = CallResult.EMITTED if by_message else CallResult.OK
        return Call(result, lsn=done.lsn, before=done.before, capability=capability)

    def _replaces(self, capability: Capability) -> bool:
        return self._target.fallback and capability.reason in REPLACEABLE

    async def _close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _open(target: HealerConfig, proof: Proof, *ahead: SessionQuery) -> tuple[Session, Capability]:
    """Connect, and find out whether this session could act; in the same round trip `ahead` is asked."""
    deadline = time.monotonic() + TIMEOUT
    conninfo = target.conninfo.read()
    session = await Session.connect(conninfo, application_name=APPLICATION_NAME, timeout=TIMEOUT)
    try:
        if await _is_pooled(session, conninfo, deadline) or (session.pooled and not proof.through_pooler):
            return session, _POOLED if proof.through_pooler else _POOLED_AT_ALL
        [[facts], *_] = await session.fetch([proof.query, *ahead], _left(deadline))
    except BaseException:
        await session.close()
        raise
    return session, proof.judge(facts)


async def _is_pooled(session: Session, conninfo: str, deadline: float) -> bool:
    """
    Return whether a pooler shares the server's sessions between transactions; asked before anything is set in one.

    A pooler is known by the process that it names at the start, which is none of the server's. One in session mode does
    no harm: there two connections have two sessions, of which neither changes.
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
    """Tell a cluster without a primary from one that cannot be reached: does any of its servers answer?"""
    try:
        anywhere = make_conninfo(target.conninfo.read(), target_session_attrs="any")
        session = await Session.connect(anywhere, application_name=APPLICATION_NAME, timeout=TIMEOUT)
    except (psycopg.Error, TimeoutError, OSError, ConfigError):
        return Capability(Unavailable.UNREACHABLE, f"No server answers: {_text(error)}")
    await session.close()
    return Capability(Unavailable.NO_PRIMARY, "Servers answer, but none of them is a primary.")


def _left(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())


def _text(error: Exception) -> str:
    """Return the error in one line, never an empty one: a timeout has no text of its own."""
    return " ".join(str(error).split()) or f"{type(error).__name__} after {TIMEOUT:.0f} s"
