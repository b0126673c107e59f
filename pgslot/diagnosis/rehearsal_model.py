"""What a rehearsal of a switchover says: an outcome for each slot, problems, and what is unknown."""

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What becomes of a slot after the switchover."""

    GOES_ON = "goes_on"
    """Its consumer continues from it on the new primary."""
    OTHER_SLOT = "other_slot"
    """The new primary has a slot of this name that is not a copy: its consumer continues from another position."""
    ENDS = "ends"
    """It does not exist on the new primary, or cannot be used there."""
    NOT_NEEDED = "not_needed"
    """The new primary streamed through it, which is over."""
    UNKNOWN = "unknown"


class SlotReason(StrEnum):
    """Why."""

    COPY = "copy"
    """The standby keeps a copy in step."""
    STALE = "stale"
    """There is a copy that is not kept in step any more."""
    OWN = "own"
    """The slot is the standby's own."""
    SAME_NAME = "same_name"
    """A physical slot of the same name is there."""
    PATRONI = "patroni"
    """Patroni keeps it on all members."""
    LEFT_BEHIND = "left_behind"
    """A copy whose original is gone or lost its failover: nothing uses it, and it holds WAL."""
    STREAMS_TO_TARGET = "streams_to_target"
    NAME_TAKEN = "name_taken"
    """The standby has a slot of this name that is not a copy."""
    NO_FAILOVER = "no_failover"
    BEFORE_17 = "before_17"
    """The server is older than failover slots."""
    NOT_SYNCED = "not_synced"
    NOT_PERSISTED = "not_persisted"
    SYNC_OFF = "sync_off"
    WORKER_DOWN = "worker_down"
    NO_COPY = "no_copy"
    """There is no copy. Why is not known."""
    COPY_INVALIDATED = "copy_invalidated"
    INVALIDATED = "invalidated"
    """The slot itself is invalidated already."""
    PHYSICAL = "physical"
    """Physical slots are not copied."""
    PATRONI_RECREATES = "patroni_recreates"
    """Patroni creates a new slot of this name, which begins at the switchover."""
    PATRONI_DROPS = "patroni_drops"
    """Patroni drops it when it next reads the slots; a copy, which it could not drop on a standby, at the promotion."""
    TEMPORARY = "temporary"
    IN_CREATION = "in_creation"
    NOT_READ = "not_read"
    """The standby's slots could not be read."""


OVER_ANYWAY = frozenset({SlotReason.TEMPORARY, SlotReason.IN_CREATION, SlotReason.INVALIDATED})
"""Reasons that a slot ends for which are not the switchover's."""
BEHIND = frozenset({SlotReason.STALE, SlotReason.LEFT_BEHIND, SlotReason.PATRONI_DROPS})
"""Reasons with which a slot goes on, and somebody has to do something."""


@dataclass(frozen=True, slots=True)
class SlotOutcome:
    """One slot after the switchover."""

    slot_name: str
    database: str
    """Empty for a physical slot."""
    slot_type: str
    outcome: Outcome
    reason: SlotReason
    repeated_bytes: int | None = None
    """WAL that the consumer has confirmed and gets again, as of now. None: it goes on without, or not at all."""
    skipped_bytes: int | None = None
    """WAL that it has not confirmed and never gets. None: nothing is skipped."""

    @property
    def good(self) -> bool:
        """Whether nobody has to do anything about it before the switchover."""
        if self.outcome in (Outcome.GOES_ON, Outcome.NOT_NEEDED, Outcome.UNKNOWN):
            return self.reason not in BEHIND
        return self.outcome is Outcome.ENDS and self.reason in OVER_ANYWAY


class Phase(StrEnum):
    """When a problem shows."""

    BEFORE = "before"
    """It stands in the way."""
    AFTER = "after"
    """It breaks something once the switchover is over."""
    TASK = "task"
    """Every such switchover leaves this to do."""


class ProblemKind(StrEnum):
    """What is wrong besides single slots."""

    NOT_STREAMING = "not_streaming"
    NO_FREE_SLOT = "no_free_slot"
    FEW_WAL_SENDERS = "few_wal_senders"
    WAL_LEVEL = "wal_level"
    NAME_TAKEN = "name_taken"
    STANDBY_SLOT_MISSING = "standby_slot_missing"
    """synchronized_standby_slots names a slot that the new primary does not have."""
    STANDBY_SLOT_UNUSED = "standby_slot_unused"
    """It names a slot through which no configured node streams."""
    NOTHING_TO_WAIT_FOR = "nothing_to_wait_for"
    """The old primary has the setting, the new one has not."""
    PRIMARY_SLOT_MISSING = "primary_slot_missing"
    """Another node's primary_slot_name is a slot that the new primary does not have."""
    NO_STANDBY_SYNCS = "no_standby_syncs"
    """No other node would keep copies of failover slots."""
    WAITS_FOR_STANDBY = "waits_for_standby"
    LEFTOVER = "leftover"
    """The old primary keeps its failover slots, and they stop the synchronisation there."""

    @property
    def phase(self) -> Phase:
        return _PHASES[self]


_PHASES = {
    ProblemKind.NOT_STREAMING: Phase.BEFORE,
    ProblemKind.NO_FREE_SLOT: Phase.BEFORE,
    ProblemKind.FEW_WAL_SENDERS: Phase.BEFORE,
    ProblemKind.WAL_LEVEL: Phase.BEFORE,
    ProblemKind.NAME_TAKEN: Phase.BEFORE,
    ProblemKind.STANDBY_SLOT_MISSING: Phase.AFTER,
    ProblemKind.STANDBY_SLOT_UNUSED: Phase.AFTER,
    ProblemKind.NOTHING_TO_WAIT_FOR: Phase.AFTER,
    ProblemKind.PRIMARY_SLOT_MISSING: Phase.AFTER,
    ProblemKind.NO_STANDBY_SYNCS: Phase.AFTER,
    ProblemKind.WAITS_FOR_STANDBY: Phase.TASK,
    ProblemKind.LEFTOVER: Phase.TASK,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem. What the fields mean depends on its kind."""

    kind: ProblemKind
    node: str
    """The node to act on."""
    names: tuple[str, ...] = ()
    """Slots, or settings."""
    needed: int | None = None
    available: int | None = None


@dataclass(frozen=True, slots=True)
class Unknown:
    """Something that could not be seen."""

    what: str
    needs: str
    """What it takes to see it: a privilege, or a node that answers."""


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """What a switchover from the primary to one standby would do now."""

    cluster: str
    primary: str | None
    """None: no node is the only primary, and everything is unknown."""
    target: str
    """Empty: every standby, but Patroni did not list any."""
    slots: tuple[SlotOutcome, ...]
    """The primary's."""
    target_slots: tuple[SlotOutcome, ...]
    """The standby's own, without copies."""
    problems: tuple[Problem, ...]
    unknown: tuple[Unknown, ...]

    @property
    def everything_goes_on(self) -> bool:
        """Whether every slot that is known goes on, and nothing stands in the way or breaks afterwards."""
        return all(slot.good for slot in (*self.slots, *self.target_slots)) and not any(
            problem.kind.phase is not Phase.TASK for problem in self.problems
        )

    @property
    def everything_known(self) -> bool:
        return not self.unknown and not any(
            slot.outcome is Outcome.UNKNOWN for slot in (*self.slots, *self.target_slots)
        )
