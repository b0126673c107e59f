"""One slot's heal so far, as an immutable record: what was seen of it, what was done for it, and how it ended."""

from dataclasses import dataclass, replace
from enum import StrEnum

from healer.remedies.attempt import Unavailable
from healer.remedies.slot_state import SlotCondition, SlotState
from healer.remedies.terminate.blocker import HolderSession, Suspect


class Outcome(StrEnum):
    """How a heal ends."""

    HEALED = "healed"
    RESOLVED_ITSELF = "resolved_itself"
    NO_EFFECT = "no_effect"
    GAVE_UP = "gave_up"
    UNAVAILABLE = "unavailable"
    CANCELLED = "cancelled"
    DRY_RUN = "dry_run"
    REFUSED = "refused"
    """A guard spoke against it: the remedy may not be used there."""
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Aim:
    """A transaction in a slot's way, as looks go on to show it. Times in seconds since the episode's start."""

    suspect: Suspect
    since: float
    """The first of the looks that have all shown it."""
    session: HolderSession | None = None
    """As the primary showed it when it was first asked; None before that, and after it has changed."""
    seen_at: float = 0.0
    """When that was."""
    refusal: str | None = None
    """Why it was not ended when the primary was last asked."""
    ended: bool = False
    """Its session was told to end, by us."""
    would_have: bool = False
    """It would have been, but for the dry run."""
    rule: str = ""
    """Which rule of the configuration allowed it."""


WELL = frozenset({Outcome.HEALED, Outcome.RESOLVED_ITSELF})
"""Nothing is left to do; after all others the slot may still be in need."""


@dataclass(frozen=True, slots=True)
class Track:
    """One slot so far. Times in seconds since the episode's start."""

    sight: SlotState
    known: SlotState | None = None
    """What the last look showed in which its node answered; None before that."""
    since: float = 0.0
    """When its alert came: its clock."""
    now: float = 0.0
    """Of the last look."""
    trouble: SlotCondition | None = None
    """Which of IN_NEED was seen first, but for what another slot of this name was in; None before any."""
    called_in_time: bool = False
    """
    A call was made while it was curable, and since then it has not been seen to wait for anything else.

    Of the remedy that ends transactions: an act was tried, and no answer came that would tell whether it was done.
    """
    attempts: int = 0
    """Attempts made for it, whatever came of them."""
    burst: int = 0
    """Attempts since a record was last found to be its cure."""
    calls: int = 0
    """Attempts that wrote a record, or the message in its place, while it was open."""
    first_call: float | None = None
    held_since: float | None = None
    """Since when each look has shown it held by something that no record helps."""
    stalled_at: int | None = None
    """restart_lsn, in bytes since 0/0, at which it was first seen stalled; of a copy that of the primary's slot."""
    intervals: tuple[tuple[int, int], ...] = ()
    """Where records of ours lie that were written while it was stalled or waited, the last ones."""
    record: int | None = None
    """End of the last record that was forced while it was stalled, in bytes since 0/0."""
    message_at: float | None = None
    """When the last message was written in place of a record."""
    moved_by_us: bool = False
    """Its restart_lsn, or that of the slot that it is a copy of, was seen to have moved to a record of ours."""
    made_anew: bool = False
    """It is another slot than the one that the alert was about, of the same name."""
    refused: Unavailable | None = None
    """Why the last attempt could not be made; None once one could."""
    locked_out: bool = False
    """The last attempt found the lock taken, or another healer's call just made."""
    stranger: str | None = None
    """Who held the lock then, in words, when that was no healer."""
    aim: Aim | None = None
    """Of the remedy that ends transactions: whom, and how far it has come. None: nobody is in the way."""
    left: str | None = None
    """Why no alert asks for it any more."""
    outcome: Outcome | None = None
    why: str = ""

    @property
    def open(self) -> bool:
        """It has no outcome yet."""
        return self.outcome is None

    @property
    def wants_a_call(self) -> bool:
        """Another record helps. One ahead of an absent consumer is enough: it decodes that one when it reads again."""
        if not self.open or not self.sight.helped:
            return False
        if self.sight.helped_once and self.calls:
            return False
        slot = self.sight.slot
        if self.sight.state is SlotCondition.STALLED and slot is not None and (slot.active or slot.synced):
            return True
        return not self.awaits_read

    @property
    def awaits_read(self) -> bool:
        """A record of ours is ahead of its consumer: only that it reads and confirms it can help, and no other call."""
        read = self.sight.consumed
        return self.record is not None and read is not None and (read.confirmed_position or 0) < self.record

    @property
    def hurried(self) -> bool:
        """The next record may well end it at once: worth a burst of calls, and close looks for a short-lived proof."""
        waits = self.open and self.sight.state is SlotCondition.WAITING
        return waits and self.sight.curable and not self.sight.helped_once

    def end(self, outcome: Outcome, why: str) -> "Track":
        """Return the track with its verdict."""
        return replace(self, outcome=outcome, why=why)


def begin(since: float = 0.0) -> Track:
    """Return the track of a slot that nobody has looked at yet."""
    return Track(SlotState(SlotCondition.UNSEEN), since=since, now=since)
