"""An attempt to act, in what all remedies share: the step that asks for it, its result, and why it is impossible."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from healer.remedies.server_clock import ClockReading
from pgslot.snapshot.history import LoggedRecords

APPLICATION_NAME = "pg_slot_healer"


class Unavailable(StrEnum):
    """Why the healer cannot act on a cluster; values of pgslot_heal_capability_unavailable's label `reason`."""

    SERVER_TOO_OLD = "server_too_old"
    MISSING_FUNCTION = "missing_function"
    MISSING_PRIVILEGE = "missing_privilege"
    WAL_LEVEL = "wal_level"
    NO_PRIMARY = "no_primary"
    UNREACHABLE = "unreachable"
    LOGIN_FAILED = "login_failed"
    """A server answered and refused the role, password, database or address."""
    POOLER = "pooler"
    """The conninfo leads to a connection pooler that shares server sessions between transactions."""
    DISABLED = "disabled"


TRANSIENT = frozenset({Unavailable.NO_PRIMARY, Unavailable.UNREACHABLE, Unavailable.LOGIN_FAILED})
"""A failover, or a password that is being changed: worth another attempt within the same episode."""


@dataclass(frozen=True, slots=True)
class Capability:
    """Whether the healer can act on a cluster; `reason` None: it can."""

    reason: Unavailable | None
    advice: str = ""
    """How to fix it; for a missing privilege the exact GRANT."""
    statement: str = ""
    """The SQL with which the advice ends; empty: it is text alone."""
    clock: ClockReading | None = field(default=None, compare=False)
    """The server's time when this was last seen; None: the remedy does not measure by it."""
    recent_acts: tuple[float, ...] = field(default=(), compare=False)
    """When healers have acted within the last hour, as the primary showed it; monotonic times of this process."""

    @property
    def instruction(self) -> str:
        """The advice without its SQL, such as where to run that."""
        return self.advice.removesuffix(self.statement).rstrip()


class AttemptResult(StrEnum):
    """How an attempt ended; values of pgslot_heal_calls_total's label `result`."""

    OK = "ok"
    """A running-xacts record was forced."""
    EMITTED = "emitted"
    """The fallback: a message was written instead; the server logs the record itself afterwards."""
    LOCKED = "locked"
    """Another healer acts on this cluster, or another client holds the healers' advisory lock."""
    SEEN = "seen"
    """A transaction blocks the slot and may be terminated, if the next snapshot shows the same one."""
    ENDED = "ended"
    """The session that held the transaction was terminated."""
    DRY_RUN = "dry_run"
    """That session would have been terminated, but this is a dry run."""
    REFUSED = "refused"
    """A guard refused."""
    UNAVAILABLE = "unavailable"
    IN_DOUBT = "in_doubt"
    """The act got no answer, and the session is gone: it may have been terminated."""
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Act:
    """The next step is an attempt; a remedy whose attempts have a target has a subclass that names it."""

    interval: float
    """Seconds until the next attempt; an attempt of another healer within that time counts as ours."""


@dataclass(frozen=True, slots=True)
class Wait:
    """The next step is another snapshot, after this many seconds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class LogEntry:
    """The description of an attempt, for people."""

    line: str
    """For the timeline."""
    message: str
    """For the log."""
    done: bool
    """False: nothing could be done, which is logged as a warning."""
    fields: Mapping[str, object] = field(default_factory=dict)
    """For the log line, in addition to the fields of every attempt."""
    once: bool = False
    """Logged only once in a row."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to act; each remedy has a subclass with its own facts."""

    result: AttemptResult
    capability: Capability | None = None
    """What the attempt showed about it; None: nothing."""
    error: str = ""
    refusal: str | None = None
    """The guard that refused; values of pgslot_heal_refusals_total's label `guard`."""

    @property
    def acted(self) -> bool:
        """Something was done on the server."""
        return self.result in (AttemptResult.OK, AttemptResult.EMITTED, AttemptResult.ENDED)

    @property
    def by_fallback(self) -> bool:
        """It used the remedy's slower fallback."""
        return self.result is AttemptResult.EMITTED

    @property
    def returned_lsn(self) -> str | None:
        """The LSN that the server returned; None: this attempt returned none."""
        return None

    @property
    def logged_records(self) -> tuple[LoggedRecords, ...]:
        """The running-xacts records that this attempt showed to be logged; the episode's history keeps them."""
        return ()

    @property
    def clock(self) -> ClockReading | None:
        """The server's time; None: this attempt did not show it."""
        return None if self.capability is None else self.capability.clock

    @property
    def unavailable(self) -> Unavailable | None:
        """Why it could not be made; None: it could, or it failed with `error`."""
        return self.capability.reason if self.capability and self.result is AttemptResult.UNAVAILABLE else None
