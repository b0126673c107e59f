"""One slot's heal by forced records."""

from dataclasses import dataclass

from healer.remedies.force_snapshot.need import helps_only_once, record_cures, record_helps
from healer.remedies.progress import SlotProgress
from healer.remedies.slot_state import SlotCondition


@dataclass(frozen=True, slots=True)
class RecordProgress(SlotProgress):
    """One slot so far. Times in seconds since the episode's start, positions in bytes since 0/0."""

    called_in_time: bool = False
    """A call was made while a record alone could cure the slot, and the slot waited for nothing else since then."""
    burst: int = 0
    """Attempts since a record was last found to be its cure."""
    retained_since: float | None = None
    """Since when each snapshot has shown it retained by something that no record helps."""
    stalled_at: int | None = None
    """restart_lsn at which it was first seen stalled; for a copy that of the primary's slot."""
    record_ranges: tuple[tuple[int, int], ...] = ()
    """Where our last records lie that were written while it was stalled or waited."""
    record: int | None = None
    """End of the last record that was forced while it was stalled."""
    message_at: float | None = None
    """When the last message was written instead of a record."""
    moved_by_us: bool = False
    """Its restart_lsn, or that of the slot that it is a copy of, was seen to have moved to a record of ours."""
    recreated: bool = False
    """It is another slot of the same name than the one that the alert was about."""
    lock_holder: str | None = None
    """The session that held the lock at the last attempt, in words, if that was not a healer."""

    @property
    def wants_call(self) -> bool:
        """Another record helps. One ahead of an absent consumer is enough: it decodes that one when it reads again."""
        if not self.open or not record_helps(self.state):
            return False
        if helps_only_once(self.state) and self.calls:
            return False
        slot = self.state.slot
        if self.state.condition is SlotCondition.STALLED and slot is not None and (slot.active or slot.synced):
            return True
        return not self.awaits_read

    @property
    def awaits_read(self) -> bool:
        """A record of ours is ahead of its consumer: only what the consumer reads and confirms helps, no other call."""
        read = self.state.consumed
        return self.record is not None and read is not None and (read.confirmed_position or 0) < self.record

    @property
    def burst_eligible(self) -> bool:
        """The next record may well end it at once: worth a burst of calls, and close watch for a short-lived proof."""
        waits = self.open and self.state.condition is SlotCondition.WAITING
        return waits and record_cures(self.state) and not helps_only_once(self.state)
