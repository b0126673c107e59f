"""An attempt to act: the step that asks for it, what it ends in, and why it cannot be made; common to all remedies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

APPLICATION_NAME = "pg_slot_healer"


class Unavailable(StrEnum):
    """Why the healer cannot act on a cluster; values of pgslot_heal_capability_unavailable's label `reason`."""

    SERVER_TOO_OLD = "server_too_old"
    MISSING_FUNCTION = "missing_function"
    MISSING_PRIVILEGE = "missing_privilege"
    WAL_LEVEL = "wal_level"
    NO_PRIMARY = "no_primary"
    UNREACHABLE = "unreachable"
    POOLER = "pooler"
    """The conninfo leads to a connection pooler that shares server sessions between transactions."""
    DISABLED = "disabled"


TRANSIENT = frozenset({Unavailable.NO_PRIMARY, Unavailable.UNREACHABLE})
"""What a failover looks like from outside: worth another attempt within the same episode."""


@dataclass(frozen=True, slots=True)
class Capability:
    """Whether the healer could act on a cluster; `reason` None: it could."""

    reason: Unavailable | None
    advice: str = ""
    """What to do about it; for a missing privilege the exact GRANT."""


class AttemptResult(StrEnum):
    """How an attempt ended; values of pgslot_heal_calls_total's label `result`."""

    OK = "ok"
    """A running-xacts record was forced."""
    EMITTED = "emitted"
    """The fallback: a message was written instead, after which the server logs the record itself."""
    LOCKED = "locked"
    """Another healer acts on this cluster, or another client holds the healers' lock."""
    SEEN = "seen"
    """A transaction blocks the slot and may be terminated, if the next snapshot shows the same one."""
    ENDED = "ended"
    """The session that held the transaction was told to end."""
    DRY_RUN = "dry_run"
    """It would have been told to end, but for the dry run."""
    REFUSED = "refused"
    """A guard refused."""
    UNAVAILABLE = "unavailable"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Act:
    """The next step is an attempt; a remedy whose attempts are about something has a subclass that says about what."""

    interval: float
    """Seconds until the next attempt; another healer's attempt within them stands for ours."""


@dataclass(frozen=True, slots=True)
class Wait:
    """The next step is another snapshot, after so many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class LogEntry:
    """An attempt in words."""

    line: str
    """For the timeline."""
    message: str
    """For the log."""
    done: bool
    """Something was done; False: it could not be, which the log shows as a warning."""
    fields: Mapping[str, object] = field(default_factory=dict)
    """For the log line, beside those that every attempt has."""
    once: bool = False
    """Written once, however often it repeats."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to act; each remedy has a subclass with what only its attempts tell."""

    result: AttemptResult
    capability: Capability | None = None
    """What the attempt showed of it; None: nothing."""
    error: str = ""
    refusal: str | None = None
    """The guard that refused; values of pgslot_heal_refusals_total's label `guard`."""

    @property
    def acted(self) -> bool:
        """Something was done on the server."""
        return self.result in (AttemptResult.OK, AttemptResult.EMITTED, AttemptResult.ENDED)

    @property
    def by_fallback(self) -> bool:
        """It took the remedy's slower fallback."""
        return self.result is AttemptResult.EMITTED

    @property
    def returned_lsn(self) -> str | None:
        """The LSN that the server returned; None: the remedy, or this attempt, has none."""
        return None

    @property
    def unavailable(self) -> Unavailable | None:
        """Why it could not be made; None: it could, or an error says no more."""
        return self.capability.reason if self.capability and self.result is AttemptResult.UNAVAILABLE else None
