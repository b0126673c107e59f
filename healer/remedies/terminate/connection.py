"""The primary as a role of its own asks it: is this transaction in the slot's way, may it be ended, and ends it."""

from dataclasses import dataclass, replace
from functools import partial

from healer.remedies.attempt import Call, CallResult, Capability
from healer.remedies.connection import TIMEOUT, Primary, Proof, check
from healer.remedies.force_snapshot.schedule import Attempt
from healer.remedies.progress import Aim
from healer.remedies.terminate.blocker import HolderSession, Suspect, Way
from healer.remedies.terminate.statements import ACT, FACTS, Answer, EnderFacts, judge, parameters, unasked
from pgslot.config.model import Cluster, HealerConfig, TerminationConfig
from pgslot.postgres.pipeline import Statement

PROOF = Proof((FACTS, EnderFacts), judge, through_pooler=False)

_WHY = {
    Way.CREATION: "slot {} waits for it in its creation",
    Way.CREATION_ON_STANDBY: "slot {} waits for it in its creation on a standby",
    Way.RETENTION: "slot {} keeps WAL because of it",
}


@dataclass(frozen=True, slots=True)
class _Setting:
    setting: str


@dataclass(frozen=True, slots=True)
class _Locked:
    locked: bool


# What a session may write is decided by the role's privileges: one row in one table. Nobody waits for a standby to
# confirm that row, which would keep the lock for as long.
_WRITES = """
SELECT
  pg_catalog.set_config('default_transaction_read_only', 'off', false)
  || pg_catalog.set_config('synchronous_commit', 'local', false) AS setting
"""
# By itself and before the act, whose snapshot has to show what other healers did: it ends with the session.
_LOCK = "SELECT pg_catalog.pg_try_advisory_lock(x'706773656e64'::pg_catalog.int8) AS locked"


def target(cluster: Cluster) -> HealerConfig | None:
    """Return as whom transactions are ended; None: that is not set up."""
    acting = cluster.healer
    if acting is None or acting.termination is None:
        return None
    dry_run = acting.dry_run or acting.termination.policy.dry_run
    return replace(acting, conninfo=acting.termination.conninfo, dry_run=dry_run, fallback=False)


async def check_ender(acting: HealerConfig) -> Capability:
    """Find out whether transactions could be ended, without ending one."""
    return await check(acting, PROOF)


class Ender(Primary):
    """The connection of an episode; it is closed after each act, and with it goes the lock."""

    proof = PROOF

    def __init__(self, acting: HealerConfig, *, idle: float) -> None:
        super().__init__(acting, idle=idle)
        if acting.termination is None:
            raise ValueError("there is no section end_transactions")
        self._ending: TerminationConfig = acting.termination

    async def end(self, step: Attempt) -> Call:
        """Ask about whom the attempt aims at, and end it if it was seen before and is the same; never raises for it."""
        aim = step.aim
        if aim is None:
            raise ValueError("an attempt to end a transaction aims at one")
        refusal = unasked(aim.suspect)
        if refusal is not None:
            return Call(CallResult.REFUSED, suspect=aim.suspect, refusal=refusal)
        failed = None if self.ready else await self.prepare()
        if failed is not None:
            return replace(failed, suspect=aim.suspect)
        done = await self._guarded(partial(self._end, aim))
        assert done is not None  # noqa: S101 - _end always returns one
        return replace(done, suspect=aim.suspect)

    async def _prepare(self) -> Call | None:
        failed = await super()._prepare()
        if failed is None and self._session is not None:
            await self._session.fetch([(_WRITES, _Setting)], TIMEOUT)
        return failed

    async def _end(self, aim: Aim) -> Call:
        act = aim.session is not None and not self._target.dry_run
        if not act:
            return self._told(await self._ask(aim, act=False), aim)
        assert self._session is not None  # noqa: S101 - end() has prepared
        [[lock]] = await self._session.fetch([(_LOCK, _Locked)], TIMEOUT)
        answer = await self._ask(aim, act=True) if lock.locked else None
        await self._close()
        return Call(CallResult.LOCKED) if answer is None else self._told(answer, aim)

    async def _ask(self, aim: Aim, *, act: bool) -> Answer:
        assert self._session is not None  # noqa: S101 - end() has prepared
        asked = parameters(aim.suspect, aim.session, self._ending.policy, act=act, why=_why(aim.suspect))
        [[answer]] = await self._session.fetch([Statement(ACT, Answer, asked)], TIMEOUT)
        found: Answer = answer
        return found

    def _told(self, answer: Answer, aim: Aim) -> Call:
        shown = None
        if answer.pid is not None:
            shown = HolderSession(
                answer.pid,
                answer.usename,
                answer.application_name,
                answer.datname,
                answer.state,
                answer.backend_start,
                answer.xact_start,
                answer.state_change,
                aim.suspect.xid,
            )
        call = Call(CallResult.REFUSED, session=shown, refusal=answer.refusal, capability=self._capability)
        if answer.refusal is not None:
            return call
        if answer.ended is False:
            # It was gone in the very moment.
            return replace(call, refusal="gone")
        call = replace(call, why=_why(aim.suspect), rule=self._ending.policy.rule)
        if answer.ended:
            return replace(call, result=CallResult.ENDED)
        return replace(call, result=CallResult.DRY_RUN if aim.session is not None else CallResult.SEEN)


def _why(suspect: Suspect) -> str:
    return _WHY[suspect.way].format(suspect.slot_name)
