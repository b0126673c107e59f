"""Check on the primary, as a separate role, whether a blocking transaction may be ended, and terminate its session."""

import asyncio
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from healer.remedies.attempt import Act, Attempt, AttemptResult, Capability
from healer.remedies.connection import INTERRUPTED, MIN_IDLE_TIMEOUT, PRIMARY_TIMEOUT, PrimaryConnection
from healer.remedies.server_clock import ClockReading, ClockStep, added_seconds
from healer.remedies.terminate.blocking_transaction import BlockingTransaction, BlockKind, HolderSession
from healer.remedies.terminate.checkpoints import CHECKPOINT, Checkpoint, CheckpointHistory
from healer.remedies.terminate.guards import Refusal, precheck
from healer.remedies.terminate.progress import TerminationTarget
from healer.remedies.terminate.statements import (
    ACT,
    FACTS,
    FORCE,
    HOUR_SECONDS,
    POSITION,
    RECENT_ACTS,
    ClockLimits,
    ForcedRecords,
    Position,
    RecentAct,
    TerminationRow,
    TerminatorFacts,
    judge,
    parameters,
)
from pgslot.config.model import HealerConfig
from pgslot.postgres.pipeline import Statement
from pgslot.postgres.session import Session, SessionQuery
from pgslot.snapshot.history import LoggedRecords

_WHY = {
    BlockKind.CREATION: "slot {} waits for it in its creation",
    BlockKind.CREATION_ON_STANDBY: "slot {} waits for it in its creation on a standby",
    BlockKind.RETENTION: "slot {} keeps WAL because of it",
}


@dataclass(frozen=True, slots=True)
class Terminate(Act):
    """The next step is to check this transaction, or to end it."""

    target: TerminationTarget
    act: bool = False
    """End it, if the statement that does so finds everything as it was. False: only check."""
    clock_steps: tuple[ClockStep, ...] = ()
    """When the primary's clock was set forward, as far as this process has noticed."""


@dataclass(frozen=True, slots=True)
class TerminationAttempt(Attempt):
    """An attempt to end a transaction."""

    blocker: BlockingTransaction | None = None
    """The transaction; None: the attempt failed before it was checked."""
    session: HolderSession | None = None
    """The transaction's session; None: the primary did not show it."""
    why: str = ""
    """Which slot it blocked, and how."""
    rule: str = ""
    """The rule of the configuration that allowed it."""
    rivals: tuple[str, ...] = ()
    """Descriptions of the other transactions that could be the cause, if it was refused as ambiguous."""
    lock_holder: str | None = None
    """Description of the session that holds the lock; None: a healer holds it, or nobody does any more."""
    position: int | None = None
    """Where the primary's WAL stood after the check, in bytes since 0/0; None: not asked for."""
    records: tuple[LoggedRecords, ...] = ()

    @property
    def logged_records(self) -> tuple[LoggedRecords, ...]:
        return self.records


@dataclass(frozen=True, slots=True)
class _Setting:
    setting: str


@dataclass(frozen=True, slots=True)
class _Lock:
    locked: bool
    holder: str | None
    holder_is_healer: bool | None


@dataclass(frozen=True, slots=True)
class _MayForce:
    may_force: bool


@dataclass(frozen=True, slots=True)
class _Trace:
    recorded: bool
    alive: bool


# The role's privileges limit what the session can write to one row in one table. The commit does not wait for a
# standby, because the lock would be held for as long.
_WRITES = """
SELECT
  pg_catalog.set_config('default_transaction_read_only', 'off', false)
  || pg_catalog.set_config('synchronous_commit', 'local', false) AS setting
"""
_MAY_FORCE = """
SELECT coalesce(pg_catalog.has_function_privilege(
  pg_catalog.to_regprocedure('pg_catalog.pg_log_standby_snapshot()')::pg_catalog.oid, 'EXECUTE'), false) AS may_force
"""
# In a statement before the act, whose snapshot has to include what other healers did. The lock ends with the session.
_LOCK = """
SELECT lock.locked, holder.name AS holder, holder.is_healer AS holder_is_healer
FROM (SELECT pg_catalog.pg_try_advisory_lock(x'706773656e64'::pg_catalog.int8) AS locked OFFSET 0) lock
LEFT JOIN LATERAL (
  SELECT
    pg_catalog.format('pid=%s user=%s application=%s', a.pid, a.usename, a.application_name) AS name,
    a.usename = current_user AS is_healer
  FROM pg_catalog.pg_locks l
  JOIN pg_catalog.pg_stat_activity a ON a.pid = l.pid
  WHERE NOT lock.locked
    AND l.locktype = 'advisory' AND l.granted AND l.objsubid = 1
    AND l.classid = x'00007067'::pg_catalog.int4::pg_catalog.oid
    AND l.objid = x'73656e64'::pg_catalog.int4::pg_catalog.oid
    AND a.datname = pg_catalog.current_database()
  LIMIT 1
) holder ON true
"""
# What an act without an answer has left: $1 pid, $2 xid, $3 backend_start.
_TRACE = """
SELECT
  EXISTS (
    SELECT FROM pgslot.ended e
    WHERE e.pid = $1::pg_catalog.int4 AND e.xid = $2
      AND e.ended_at > pg_catalog.clock_timestamp() - pg_catalog.make_interval(mins => 1)
  ) AS recorded,
  EXISTS (
    SELECT FROM pg_catalog.pg_stat_activity a
    WHERE a.pid = $1::pg_catalog.int4 AND extract(epoch FROM a.backend_start)::pg_catalog.text = $3
  ) AS alive
"""

STATEMENTS = (_WRITES, _MAY_FORCE, _LOCK, _TRACE)
"""Every statement of this module."""

TRACE_SECONDS = 5.0
"""How long to wait, after an act without an answer, for what it has left: the server ends its statement before that."""
INTERRUPTED_TRACE_SECONDS = 1.0
_TRACE_INTERVAL = 0.2


class TerminationConnection(PrimaryConnection[Terminate, TerminationAttempt]):
    """Terminates one session at a time; it is closed after each act, which releases the lock."""

    facts: ClassVar[SessionQuery] = (FACTS, TerminatorFacts)
    recent_acts: ClassVar[SessionQuery | None] = (RECENT_ACTS, RecentAct)
    through_pooler: ClassVar[bool] = False

    def __init__(self, target: HealerConfig, *, idle_timeout: float = MIN_IDLE_TIMEOUT) -> None:
        """Raises ValueError for a target without the section end_transactions."""
        super().__init__(target, idle_timeout=idle_timeout)
        if target.termination is None:
            raise ValueError("there is no section end_transactions")
        self._policy = target.termination.policy
        self._checkpoints = CheckpointHistory()
        self._may_force = False
        self._sent = False
        """The statement that ends a session was sent in this attempt."""

    @staticmethod
    def judge(facts: TerminatorFacts) -> Capability:
        return replace(judge(facts), clock=ClockReading(time.monotonic(), facts.clock))

    async def act(self, step: Terminate) -> TerminationAttempt:
        """Check the target; end it if an earlier check showed the same session. Never raises for a server error."""
        blocker = step.target.blocker
        refusal = precheck(blocker)
        if refusal is not None:
            return TerminationAttempt(AttemptResult.REFUSED, blocker=blocker, refusal=refusal)
        self._sent = False
        attempt = await super().act(step)
        if self._sent and attempt.result in (AttemptResult.ERROR, AttemptResult.UNAVAILABLE):
            attempt = await self._follow_up(step.target, attempt)
        return replace(attempt, blocker=blocker)

    def _not_made(self, result: AttemptResult, capability: Capability | None, error: str) -> TerminationAttempt:
        return TerminationAttempt(result, capability=capability, error=error)

    async def _set_up(self, session: Session) -> None:
        _, [row] = await session.fetch([(_WRITES, _Setting), (_MAY_FORCE, _MayForce)], PRIMARY_TIMEOUT)
        self._may_force = row.may_force and not self.target.dry_run

    async def _act(self, step: Terminate) -> TerminationAttempt:
        assert self.session is not None  # noqa: S101 - act() has prepared
        target = step.target
        if not step.act or target.session is None:
            return await self._check(self.session, step)
        if self.target.dry_run:
            attempt = await self._check(self.session, step)
            return replace(attempt, result=AttemptResult.DRY_RUN) if attempt.refusal is None else attempt
        # Not from when the session began: the table may have been changed since.
        [[lock], [facts]] = await self.session.fetch([(_LOCK, _Lock), self.facts], PRIMARY_TIMEOUT)
        self.capability = self.judge(facts)
        if self.capability.reason is not None:
            await self.close()
            return TerminationAttempt(AttemptResult.UNAVAILABLE, capability=self.capability)
        if not lock.locked:
            await self.close()
            holder = None if lock.holder_is_healer is not False else lock.holder
            return TerminationAttempt(AttemptResult.LOCKED, capability=self.capability, lock_holder=holder)
        if self.interrupted:
            await self.close()
            return self._not_made(AttemptResult.ERROR, None, INTERRUPTED)
        statement = self._statement(step, act=True)
        self._sent = True
        [[row]] = await self.session.fetch([statement], PRIMARY_TIMEOUT)
        await self.close()
        return self._attempt(row, target)

    async def _check(self, session: Session, step: Terminate) -> TerminationAttempt:
        """Check, without acting. What can become the proof is asked for after that, in statements of its own."""
        [[row], [here]] = await session.fetch([self._statement(step, act=False), (POSITION, Position)], PRIMARY_TIMEOUT)
        attempt = replace(self._attempt(row, step.target), position=here.position)
        wants_records = step.target.blocker.kind is BlockKind.RETENTION and not step.target.proven
        if attempt.refusal is not None or not wants_records:
            return attempt
        return replace(attempt, records=await self._records(session, here.position))

    async def _records(self, session: Session, position: int) -> tuple[LoggedRecords, ...]:
        """Return what is known to be logged: two records that are forced now; before 16, those of checkpoints."""
        after = time.monotonic()
        if self._may_force:
            [[forced]] = await session.fetch([(FORCE, ForcedRecords)], PRIMARY_TIMEOUT)
            end = max(forced.first_end, forced.second_end)
            return (LoggedRecords(after, time.monotonic(), position, end),)
        [[checkpoint]] = await session.fetch([(CHECKPOINT, Checkpoint)], PRIMARY_TIMEOUT)
        return self._checkpoints.add(checkpoint, position, after, time.monotonic())

    def _statement(self, step: Terminate, *, act: bool) -> Statement:
        target, now = step.target, time.monotonic()
        reading = self.capability.clock
        idle = self._policy.idle_in_transaction_for
        clock = ClockLimits(
            latest=math.inf if reading is None else reading.latest(now),
            idle=added_seconds(step.clock_steps, idle, now),
            hour=added_seconds(step.clock_steps, HOUR_SECONDS, now),
        )
        why = _why(target.blocker)
        values = parameters(target.blocker, target.session, self._policy, clock=clock, act=act, why=why)
        return Statement(ACT, TerminationRow, values)

    async def _follow_up(self, target: TerminationTarget, failed: TerminationAttempt) -> TerminationAttempt:
        """Return what an act without an answer has done, as far as the primary shows it."""
        session = target.session
        assert session is not None  # noqa: S101 - it was acted on
        values = (f"{session.pid}", f"{session.xid}", session.backend_start)
        ended = replace(failed, session=session, why=_why(target.blocker), rule=self._policy.rule)
        # A cancel request is answered when all is over; a lost connection leaves a statement that may still run.
        deadline = time.monotonic() + (INTERRUPTED_TRACE_SECONDS if self.interrupted else TRACE_SECONDS)
        while True:
            trace = await self._trace(values)
            if trace is not None and trace.recorded:
                return replace(ended, result=AttemptResult.ENDED, error=f"{failed.error} (its row is there)")
            if trace is not None and not trace.alive:
                return replace(ended, result=AttemptResult.IN_DOUBT)
            if time.monotonic() >= deadline:
                return failed if trace is not None else replace(ended, result=AttemptResult.IN_DOUBT)
            await asyncio.sleep(_TRACE_INTERVAL)

    async def _trace(self, values: Sequence[str]) -> _Trace | None:
        """Return what is to be seen of an act; None: the primary did not answer."""
        traces: list[_Trace] = []

        async def ask() -> None:
            assert self.session is not None  # noqa: S101 - it is prepared
            [rows] = await self.session.fetch([Statement(_TRACE, _Trace, values)], PRIMARY_TIMEOUT)
            traces.extend(rows)

        if self.ready or await self.prepare() is None:
            await self._guarded(ask)
        return next(iter(traces), None)

    def _attempt(self, row: TerminationRow, target: TerminationTarget) -> TerminationAttempt:
        reading = ClockReading(time.monotonic(), row.clock)
        self.capability = replace(self.capability, clock=reading)
        attempt = TerminationAttempt(
            AttemptResult.REFUSED,
            session=_session(row, target.blocker.xid),
            refusal=row.refusal,
            capability=self.capability,
            rivals=tuple(row.rivals),
        )
        if row.refusal is not None:
            return attempt
        if row.ended is False:
            # Its transaction ended by itself between the check and pg_terminate_backend().
            return replace(attempt, refusal=Refusal.GONE)
        attempt = replace(attempt, why=_why(target.blocker), rule=self._policy.rule)
        return replace(attempt, result=AttemptResult.ENDED if row.ended else AttemptResult.SEEN)


def _session(row: TerminationRow, xid: int) -> HolderSession | None:
    if row.pid is None:
        return None
    return HolderSession(
        row.pid,
        row.usename,
        row.application_name,
        row.datname,
        row.state,
        row.backend_start,
        row.xact_start,
        row.state_change,
        xid,
    )


def _why(blocker: BlockingTransaction) -> str:
    return _WHY[blocker.kind].format(blocker.slot_name)
