"""What an attempt to act can end in, and why one cannot be made at all: plain facts, which primary.py finds out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from healer.remedies.terminate.blocker import HolderSession, Suspect
from pgslot.postgres.types import parse_lsn

APPLICATION_NAME = "pg_slot_healer"


class Unavailable(StrEnum):
    """Why the function cannot be called."""

    SERVER_TOO_OLD = "server_too_old"
    MISSING_FUNCTION = "missing_function"
    MISSING_PRIVILEGE = "missing_privilege"
    WAL_LEVEL = "wal_level"
    NO_PRIMARY = "no_primary"
    UNREACHABLE = "unreachable"
    POOLER = "pooler"
    """The conninfo leads to a connection pooler that shares server sessions between transactions."""
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


class CallResult(StrEnum):
    """How an attempt to call ended."""

    OK = "ok"
    EMITTED = "emitted"
    """The fallback: a message was written in place of the record, which the server logs by itself then."""
    LOCKED = "locked"
    """Another healer acts on this cluster, or somebody else holds the healers' lock."""
    SEEN = "seen"
    """A transaction is in the way and may be ended, if the next look shows the very same."""
    ENDED = "ended"
    """The session that held it was told to end."""
    DRY_RUN = "dry_run"
    """It would have been."""
    REFUSED = "refused"
    """A guard spoke against it."""
    UNAVAILABLE = "unavailable"
    ERROR = "error"


WROTE = frozenset({CallResult.OK, CallResult.EMITTED})
"""A record was forced, or the message written in its place."""

DONE = WROTE | {CallResult.ENDED}
"""Something was done."""


@dataclass(frozen=True, slots=True)
class Said:
    """What is told of an attempt."""

    line: str
    """Of the timeline."""
    message: str
    """Of the log."""
    done: bool
    """Something was done; False: it could not be, and is a warning."""
    fields: Mapping[str, object] = field(default_factory=dict)
    """Of the log line, beside those that each has."""
    once: bool = False
    """Told once, however often it is so in a row."""


@dataclass(frozen=True, slots=True)
class Call:
    """One attempt."""

    result: CallResult
    lsn: str | None = None
    """What pg_log_standby_snapshot() returned: the end of the record; or pg_logical_emit_message(), of the message."""
    before: str | None = None
    """Where WAL was inserted just before: the record begins there or later, and before `lsn`. None: not called."""
    capability: Capability | None = None
    """None when the attempt does not tell."""
    stranger: str | None = None
    """Who holds the lock, in words, when that is no healer."""
    error: str = ""
    suspect: Suspect | None = None
    """The transaction that it was about; None of an attempt that is about none."""
    session: HolderSession | None = None
    """Its session, as the primary showed it."""
    refusal: str | None = None
    """Which guard spoke against it."""
    why: str = ""
    """For which slot it was ended, and why."""
    rule: str = ""
    """Which rule of the configuration allowed it."""

    @property
    def interval(self) -> tuple[int, int] | None:
        """The record lies in [first, second), in bytes since 0/0; None when the call did not write it itself."""
        if self.result is not CallResult.OK or self.before is None or self.lsn is None:
            return None
        return parse_lsn(self.before), parse_lsn(self.lsn)
