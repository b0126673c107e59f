"""Check on the primary, as a separate role, whether a blocking transaction may be ended, and terminate its session."""

from dataclasses import dataclass, replace
from typing import ClassVar

from healer.remedies.attempt import Act, Attempt, AttemptResult, Capability
from healer.remedies.connection import MIN_IDLE_TIMEOUT, PRIMARY_TIMEOUT, PrimaryConnection
from healer.remedies.terminate.blocking_transaction import BlockingTransaction, BlockKind, HolderSession
from healer.remedies.terminate.guards import precheck
from healer.remedies.terminate.progress import TerminationTarget
from healer.remedies.terminate.statements import ACT, FACTS, TerminationRow, TerminatorFacts, judge, parameters
from pgslot.config.model import HealerConfig
from pgslot.postgres.pipeline import Statement
from pgslot.postgres.session import Session, SessionQuery

_WHY = {
    BlockKind.CREATION: "slot {} waits for it in its creation",
    BlockKind.CREATION_ON_STANDBY: "slot {} waits for it in its creation on a standby",
    BlockKind.RETENTION: "slot {} keeps WAL because of it",
}


@dataclass(frozen=True, slots=True)
class Terminate(Act):
    """The next step is to check this transaction, or to end it."""

    target: TerminationTarget


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


@dataclass(frozen=True, slots=True)
class _Setting:
    setting: str


@dataclass(frozen=True, slots=True)
class _Locked:
    locked: bool


# The role's privileges limit what the session can write to one row in one table. The commit does not wait for a
# standby, because the lock would be held for as long.
_WRITES = """
SELECT
  pg_catalog.set_config('default_transaction_read_only', 'off', false)
  || pg_catalog.set_config('synchronous_commit', 'local', false) AS setting
"""
# In a statement before the act, whose snapshot has to include what other healers did. The lock ends with the session.
_LOCK = "SELECT pg_catalog.pg_try_advisory_lock(x'706773656e64'::pg_catalog.int8) AS locked"

STATEMENTS = (_WRITES, _LOCK)
"""Every statement of this module."""


class TerminationConnection(PrimaryConnection[Terminate, TerminationAttempt]):
    """Terminates one session at a time; it is closed after each act, which releases the lock."""

    facts: ClassVar[SessionQuery] = (FACTS, TerminatorFacts)
    through_pooler: ClassVar[bool] = False

    def __init__(self, target: HealerConfig, *, idle_timeout: float = MIN_IDLE_TIMEOUT) -> None:
        """Raises ValueError for a target without the section end_transactions."""
        super().__init__(target, idle_timeout=idle_timeout)
        if target.termination is None:
            raise ValueError("there is no section end_transactions")
        self._policy = target.termination.policy

    @staticmethod
    def judge(facts: TerminatorFacts) -> Capability:
        return judge(facts)

    async def act(self, step: Terminate) -> TerminationAttempt:
        """Check the target; end it if an earlier check showed the same session. Never raises for a server error."""
        blocker = step.target.blocker
        refusal = precheck(blocker)
        if refusal is not None:
            return TerminationAttempt(AttemptResult.REFUSED, blocker=blocker, refusal=refusal)
        return replace(await super().act(step), blocker=blocker)

    def _not_made(self, result: AttemptResult, capability: Capability | None, error: str) -> TerminationAttempt:
        return TerminationAttempt(result, capability=capability, error=error)

    async def _set_up(self, session: Session) -> None:
        await session.fetch([(_WRITES, _Setting)], PRIMARY_TIMEOUT)

    async def _act(self, step: Terminate) -> TerminationAttempt:
        assert self.session is not None  # noqa: S101 - act() has prepared
        target = step.target
        if target.session is None or self.target.dry_run:
            return self._attempt(await self._check(self.session, target, act=False), target)
        [[lock]] = await self.session.fetch([(_LOCK, _Locked)], PRIMARY_TIMEOUT)
        row = await self._check(self.session, target, act=True) if lock.locked else None
        await self.close()
        return TerminationAttempt(AttemptResult.LOCKED) if row is None else self._attempt(row, target)

    async def _check(self, session: Session, target: TerminationTarget, *, act: bool) -> TerminationRow:
        values = parameters(target.blocker, target.session, self._policy, act=act, why=_why(target.blocker))
        [[row]] = await session.fetch([Statement(ACT, TerminationRow, values)], PRIMARY_TIMEOUT)
        result: TerminationRow = row
        return result

    def _attempt(self, row: TerminationRow, target: TerminationTarget) -> TerminationAttempt:
        attempt = TerminationAttempt(
            AttemptResult.REFUSED,
            session=_session(row, target.blocker.xid),
            refusal=row.refusal,
            capability=self.capability,
        )
        if row.refusal is not None:
            return attempt
        if row.ended is False:
            # It ended by itself between the check and pg_terminate_backend().
            return replace(attempt, refusal="gone")
        attempt = replace(attempt, why=_why(target.blocker), rule=self._policy.rule)
        if row.ended:
            return replace(attempt, result=AttemptResult.ENDED)
        return replace(attempt, result=AttemptResult.DRY_RUN if target.session is not None else AttemptResult.SEEN)


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
