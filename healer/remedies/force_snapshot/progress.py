"""The progress of one slot's heal by forced running-xacts records."""

from dataclasses import dataclass

from healer.remedies.force_snapshot.need import helps_only_once, record_cures, record_helps
from healer.remedies.progress import SlotProgress
from healer.remedies.slot_state import SlotCondition


@dataclass(frozen=True, slots=True)
class RecordProgress(SlotProgress):
    """Times in seconds since the episode's start, positions in bytes since 0/0."""

    called_in_time: bool = False
    """A call was made while a record alone was enough, and the slot has waited for nothing else since."""
    burst: int = 0
    """Attempts since a record alone has been enough again."""
    retained_since: float | None = None
    """Since when every snapshot has shown that something else retains it, against which no record helps."""
    stalled_at: int | None = None
    """restart_lsn when it was first observed stalled; for a copy, restart_lsn of the primary's slot."""
    record_ranges: tuple[tuple[int, int], ...] = ()
    """The ranges of our last records that were written while it was stalled or waiting."""
    record: int | None = None
    """End of the last record that was forced while it was stalled."""
    message_at: float | None = None
    """When the last message was written instead of a record."""
    moved_by_us: bool = False
    """Its restart_lsn (for a copy, that of the primary's slot) has moved to a record of ours."""
    recreated: bool = False
    """The slot that the alert was about was dropped, and this is another slot of the same name."""
    lock_holder: str | None = None
    """Description of the session that held the lock at the last attempt; None: a healer did, or no session."""

    @property
    def wants_call(self) -> bool:
        """Another record helps. One ahead of an inactive consumer is enough: it decodes that when it reads."""
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
        """A record of ours is ahead of its consumer, which has to read and confirm: another call does not help."""
        slot = self.state.consumed
        return self.record is not None and slot is not None and (slot.confirmed_position or 0) < self.record

    @property
    def burst_eligible(self) -> bool:
        """The next record may end the wait at once: worth a burst of calls, and snapshots at short intervals."""
        waits = self.open and self.state.condition is SlotCondition.WAITING
        return waits and record_cures(self.state) and not helps_only_once(self.state)
