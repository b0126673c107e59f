"""Force a running-xacts record on the primary, or write the fallback's message: check and act in one statement."""

from dataclasses import dataclass
from typing import ClassVar

from healer.remedies.attempt import Act, Attempt, AttemptResult, Capability, Unavailable
from healer.remedies.connection import PRIMARY_TIMEOUT, PrimaryConnection
from healer.remedies.force_snapshot.statements import (
    FACTS,
    WARM_UP,
    ActRow,
    PrimaryFacts,
    act_statement,
    judge,
)
from pgslot.config.model import HealerConfig
from pgslot.postgres.session import SessionQuery
from pgslot.postgres.types import parse_lsn

FOREIGN_CALL_INTERVALS = 1.5
"""A call of another healer counts as ours for this many of our intervals: we act once it is half an interval late."""

REPLACEABLE = frozenset({Unavailable.SERVER_TOO_OLD, Unavailable.MISSING_FUNCTION, Unavailable.MISSING_PRIVILEGE})
"""Where `fallback: emit_message` helps: after a message the server logs the record without the function, but later."""


@dataclass(frozen=True, slots=True)
class RecordAttempt(Attempt):
    """An attempt to force a record."""

    lsn: str | None = None
    """End of the record (pg_log_standby_snapshot()) or of the message (pg_logical_emit_message())."""
    before: str | None = None
    """pg_current_wal_insert_lsn() just before: the record begins here or later, and ends at `lsn`. None: no call."""
    lock_holder: str | None = None
    """Description of the session that holds the lock; None: a healer holds it, or nobody does."""

    @property
    def returned_lsn(self) -> str | None:
        return self.lsn

    @property
    def record_range(self) -> tuple[int, int] | None:
        """The record lies in [first, second), in bytes since 0/0; None: the call did not write a record itself."""
        if self.result is not AttemptResult.OK or self.before is None or self.lsn is None:
            return None
        return parse_lsn(self.before), parse_lsn(self.lsn)


def has_fallback(target: HealerConfig, capability: Capability) -> bool:
    """Return whether a message is written instead, when the function cannot be called for this reason."""
    return target.fallback and capability.reason in REPLACEABLE


class RecordConnection(PrimaryConnection[Act, RecordAttempt]):
    """Calls pg_log_standby_snapshot() on the primary."""

    facts: ClassVar[SessionQuery] = (FACTS, PrimaryFacts)
    warm_up: ClassVar[SessionQuery | None] = (WARM_UP, ActRow)

    @staticmethod
    def judge(facts: PrimaryFacts) -> Capability:
        return judge(facts)

    @classmethod
    def _has_fallback(cls, target: HealerConfig, capability: Capability) -> bool:
        return has_fallback(target, capability)

    def _not_made(self, result: AttemptResult, capability: Capability | None, error: str) -> RecordAttempt:
        return RecordAttempt(result, capability=capability, error=error)

    async def _act(self, step: Act) -> RecordAttempt:
        """Force one record, or write a message, unless another healer has done so within the interval."""
        assert self.session is not None  # noqa: S101 - act() has prepared
        if self.capability.reason is not None:
            # The fallback was used so far: notice a GRANT made meanwhile.
            [[facts]] = await self.session.fetch([(FACTS, PrimaryFacts)], PRIMARY_TIMEOUT)
            self.capability = judge(facts)
        capability = self.capability
        if capability.reason is not None and not has_fallback(self.target, capability):
            await self.close()
            return RecordAttempt(AttemptResult.UNAVAILABLE, capability=capability)
        by_message = capability.reason is not None
        statement = act_statement(by_message=by_message, recent=FOREIGN_CALL_INTERVALS * step.interval)
        # Not in one batch with other statements, see Session: the idle timeout starts here.
        [[row]] = await self.session.fetch([(statement, ActRow)], PRIMARY_TIMEOUT)
        if row.state == "recovery":
            await self.close()
            standby = Capability(Unavailable.NO_PRIMARY, "It is a standby now.")
            return RecordAttempt(AttemptResult.UNAVAILABLE, capability=standby)
        if row.state != "open":
            holder = None if row.holder_is_healer is not False else row.holder
            return RecordAttempt(AttemptResult.LOCKED, lock_holder=holder)
        result = AttemptResult.EMITTED if by_message else AttemptResult.OK
        return RecordAttempt(result, lsn=row.lsn, before=row.before, capability=capability)
