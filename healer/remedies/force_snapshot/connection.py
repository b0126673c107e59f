"""Forces one record on the primary, or writes the fallback's message; proof and act are one statement."""

from dataclasses import dataclass
from typing import ClassVar

from healer.remedies.attempt import Act, Attempt, AttemptResult, Capability, Unavailable
from healer.remedies.connection import TIMEOUT, PrimaryConnection
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
"""A call of another healer stands for ours for so many of our intervals: it has to miss one by half before we act."""

REPLACEABLE = frozenset({Unavailable.SERVER_TOO_OLD, Unavailable.MISSING_FUNCTION, Unavailable.MISSING_PRIVILEGE})
"""What `fallback: emit_message` helps against: the server then logs the record without the function, only later."""


@dataclass(frozen=True, slots=True)
class RecordAttempt(Attempt):
    """An attempt to force a record."""

    lsn: str | None = None
    """What pg_log_standby_snapshot() returned, the record's end; or pg_logical_emit_message(), the message's end."""
    before: str | None = None
    """Where WAL was inserted just before: the record begins there or later, and ends at `lsn`. None: not called."""
    lock_holder: str | None = None
    """The session that holds the lock, in words, if that is not a healer."""

    @property
    def returned_lsn(self) -> str | None:
        return self.lsn

    @property
    def record_range(self) -> tuple[int, int] | None:
        """The record lies in [first, second), in bytes since 0/0; None when the call did not write it itself."""
        if self.result is not AttemptResult.OK or self.before is None or self.lsn is None:
            return None
        return parse_lsn(self.before), parse_lsn(self.lsn)


def has_fallback(target: HealerConfig, capability: Capability) -> bool:
    """Return whether a message is written where the function cannot be called for this reason."""
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
        """Force one record, or write a message; a call that another healer made within the interval stands for ours."""
        assert self.session is not None  # noqa: S101 - act() has prepared
        if self.capability.reason is not None:
            # By the fallback so far; a GRANT is noticed.
            [[facts]] = await self.session.fetch([(FACTS, PrimaryFacts)], TIMEOUT)
            self.capability = judge(facts)
        capability = self.capability
        if capability.reason is not None and not has_fallback(self.target, capability):
            await self.close()
            return RecordAttempt(AttemptResult.UNAVAILABLE, capability=capability)
        by_message = capability.reason is not None
        statement = act_statement(by_message=by_message, recent=FOREIGN_CALL_INTERVALS * step.interval)
        # By itself, see Session: the idle timeout runs from here on.
        [[row]] = await self.session.fetch([(statement, ActRow)], TIMEOUT)
        if row.state == "recovery":
            await self.close()
            standby = Capability(Unavailable.NO_PRIMARY, "It is a standby now.")
            return RecordAttempt(AttemptResult.UNAVAILABLE, capability=standby)
        if row.state != "open":
            holder = None if row.holder_is_healer is not False else row.holder
            return RecordAttempt(AttemptResult.LOCKED, lock_holder=holder)
        result = AttemptResult.EMITTED if by_message else AttemptResult.OK
        return RecordAttempt(result, lsn=row.lsn, before=row.before, capability=capability)
