"""What a preflight says: a line for each check, and whether a creation would work at once, wait or fail."""

from dataclasses import dataclass
from enum import StrEnum

from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.snapshot.preflight import PreflightFacts, SlotRequest
from pgslot.snapshot.preflight_rows import PreflightServer


class Status(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """It works, late or at a risk."""
    FAIL = "fail"
    UNKNOWN = "unknown"


class Stage(StrEnum):
    """When a line matters."""

    CREATION = "creation"
    CONSUMER = "consumer"
    """Once the slot exists and its consumer reads."""
    LATER = "later"
    """Once the consumer is slow, or away."""


class Outcome(StrEnum):
    """What a creation would do now."""

    AT_ONCE = "at_once"
    WAITS = "waits"
    FAILS = "fails"
    UNKNOWN = "unknown"


class Wait(StrEnum):
    """What a creation would wait for."""

    TRANSACTIONS = "transactions"
    REPLAY = "replay"
    RECORD = "record"
    """A running-xacts record, which a standby cannot log itself."""


@dataclass(frozen=True, slots=True)
class Line:
    """One check."""

    check: str
    status: Status
    text: str
    fix: tuple[str, ...] = ()
    """Statements, or lines of a shell where they begin with `$ `. Empty: nothing has to be done, or nothing helps."""
    fix_on: str = ""
    """The node to run them on. Empty with an empty `fix`."""
    stage: Stage = Stage.CREATION
    wait: Wait | None = None
    """What a creation waits for because of this. None: it does not."""
    at_most_seconds: float | None = None
    """With a wait: how long it lasts at most. None: nothing bounds it."""


@dataclass(frozen=True, slots=True)
class Observation:
    """All that a preflight decides by."""

    request: SlotRequest
    node: str
    """Where the slot would be created."""
    cluster: ClusterSnapshot
    """The second of two looks."""
    before: ClusterSnapshot
    """The first."""
    apart_seconds: float
    """Time between the two."""
    facts: PreflightFacts
    """Of the node."""
    primary: PreflightServer | None = None
    """Of the primary above it. None: the node is the primary, or the primary did not answer."""
    wal_volume_bytes: int | None = None
    """The room that WAL may take on the node, by the configuration. None: not given."""

    @property
    def target(self) -> NodeSnapshot | None:
        return self.cluster.node(self.node)


@dataclass(frozen=True, slots=True)
class Preflight:
    """The lines, and what follows from them."""

    node: str
    database: str
    """Empty: not known, as with a user."""
    user: str
    plugin: str
    publication: str | None
    lines: tuple[Line, ...]

    @property
    def outcome(self) -> Outcome:
        """What the creation would do; a consumer may still fail after it."""
        creation = [line for line in self.lines if line.stage is Stage.CREATION]
        if any(line.status is Status.FAIL for line in creation):
            return Outcome.FAILS
        if any(line.wait is not None for line in creation):
            return Outcome.WAITS
        if not creation or any(line.status is Status.UNKNOWN for line in creation):
            return Outcome.UNKNOWN
        return Outcome.AT_ONCE

    @property
    def waits(self) -> tuple[Line, ...]:
        """The lines that make a creation wait."""
        return tuple(line for line in self.lines if line.wait is not None)

    @property
    def fails(self) -> bool:
        """Whether the creation or its consumer would fail."""
        return any(line.status is Status.FAIL for line in self.lines)

    @property
    def everything_known(self) -> bool:
        """Whether nothing is unknown that decides about the creation or its consumer."""
        return not any(line.status is Status.UNKNOWN and line.stage is not Stage.LATER for line in self.lines)
