"""The progress of one slot's heal, in what all remedies share; each remedy has a subclass with more fields."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Self

from healer.remedies.attempt import Unavailable
from healer.remedies.slot_state import SlotCondition, SlotState


class Outcome(StrEnum):
    """How a slot's heal ends; values of pgslot_heal_episodes_total's label `outcome`."""

    HEALED = "healed"
    RESOLVED_ITSELF = "resolved_itself"
    NO_EFFECT = "no_effect"
    GAVE_UP = "gave_up"
    UNAVAILABLE = "unavailable"
    CANCELLED = "cancelled"
    DRY_RUN = "dry_run"
    REFUSED = "refused"
    """A guard refused: the remedy may not act there."""
    ERROR = "error"


WELL = frozenset({Outcome.HEALED, Outcome.RESOLVED_ITSELF})
"""Outcomes after which nothing is left to do; after all others the slot may still need help."""

_NEVER_OBSERVED = SlotState(SlotCondition.UNOBSERVED)


@dataclass(frozen=True, slots=True)
class SlotProgress:
    """
    One slot's heal so far; immutable. Times in seconds since the episode's start.

    With every remedy the heal has these states; the transitions are the methods of base.Remedy:

        begin()
           |
           v        apply_observation: the slot is well, lost or dropped
        +------+    apply_timeouts: withdrawn, unavailable, refused, out of time or calls     +-------------+
        | open | ---------------------------------------------------------------------------> | has outcome |
        +------+                                                                              +-------------+
         |    ^                                                                                      |
         |    | apply_attempt: what the attempt did, or why it was impossible                        |
         v    |                                                                                      |
        next_step: Act (an attempt), or Wait (another snapshot)                                      |
           ^                                                                                         |
           +---- should_reopen: it was well and needs help again while its alert still fires --------+
    """

    state: SlotState = _NEVER_OBSERVED
    """In the last snapshot."""
    last_observed: SlotState | None = None
    """In the last snapshot in which its node answered; None: no such snapshot yet."""
    since: float = 0.0
    """When its alert arrived."""
    now: float = 0.0
    """When the last snapshot was taken."""
    initial_condition: SlotCondition | None = None
    """The first condition in which the slot needed help; None: it has not needed any so far."""
    attempts: int = 0
    """Attempts made for it, whatever their results."""
    calls: int = 0
    """Attempts that acted while it was open."""
    first_call: float | None = None
    """When the first attempt acted."""
    unavailable: Unavailable | None = None
    """Why the last attempt could not be made; None: it could."""
    locked_out: bool = False
    """The last attempt found the advisory lock taken, or that another healer has just acted."""
    withdrawn: str | None = None
    """Why no alert asks for this heal any more; None: an alert still does."""
    outcome: Outcome | None = None
    why: str = ""

    @property
    def open(self) -> bool:
        """It has no outcome yet."""
        return self.outcome is None

    @property
    def done(self) -> str:
        """What was done for it that must not go unsaid, whatever its outcome; empty: nothing."""
        return ""

    def end(self, outcome: Outcome, why: str) -> Self:
        """Return the progress with its outcome."""
        return replace(self, outcome=outcome, why=why)
