"""
One subject through an episode: what was seen of it, whether our calls could have been the cure, and the verdict.

A call counts as the cure only if a running-xacts record could help at that moment, and if nothing else was waited for
since. Everything else that ends well resolved itself.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from exporter.retention import RetentionCause
from healer.sights import Sight, State


class Outcome(StrEnum):
    """How an episode ends."""

    HEALED = "healed"
    RESOLVED_ITSELF = "resolved_itself"
    NO_EFFECT = "no_effect"
    GAVE_UP = "gave_up"
    UNAVAILABLE = "unavailable"
    CANCELLED = "cancelled"
    DRY_RUN = "dry_run"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Track:
    """One subject so far."""

    sight: Sight
    trouble: State | None = None
    """WAITING or STALLED, whichever was seen first; None before either."""
    called_in_time: bool = False
    """A call was made while it was curable, and since then it has not been seen to wait for anything else."""
    stalled_at: int | None = None
    """restart_lsn, in bytes since 0/0, at which it was first seen stalled."""
    record: int | None = None
    """End of the last record that was forced while it was stalled, in bytes since 0/0."""
    verdict: Outcome | None = None
    """HEALED or RESOLVED_ITSELF once it needs nothing any more, GAVE_UP once nothing can help it."""

    @property
    def wants_a_call(self) -> bool:
        """Another record helps. One ahead of an absent consumer is enough: it decodes that one when it reads again."""
        slot = self.sight.slot
        if self.verdict is not None or not self.sight.helped:
            return False
        if self.sight.state is not State.STALLED or slot is None or slot.active or slot.synced or self.record is None:
            return True
        return slot.confirmed_position is not None and slot.confirmed_position >= self.record

    @property
    def hurried(self) -> bool:
        """The next record may well end it at once: worth a burst of calls, and close looks for a short-lived proof."""
        return self.verdict is None and self.sight.state is State.WAITING and self.sight.curable


def advance(track: Track | None, sight: Sight) -> Track:
    """Return the track after another look."""
    if track is None:
        track = Track(sight)
    if sight.state is State.UNSEEN:
        return replace(track, sight=sight)
    if sight.state is State.WAITING:
        in_time = track.called_in_time and track.trouble is State.WAITING and track.verdict is None and sight.curable
        return Track(sight, State.WAITING, called_in_time=in_time)
    if track.verdict is not None:
        return replace(track, sight=sight)
    if sight.state is State.LOST:
        return replace(track, sight=sight, verdict=Outcome.GAVE_UP)
    if sight.state is State.STALLED and track.trouble is None and sight.slot is not None:
        return Track(sight, State.STALLED, stalled_at=sight.slot.restart_position)
    if track.trouble is State.STALLED and sight.state is not State.GONE:
        return _still_there(track, sight)
    # A slot that was waited for counts as made, however much WAL its long creation leaves behind.
    proven = track.called_in_time and sight.state is not State.GONE
    return replace(track, sight=sight, verdict=Outcome.HEALED if proven else Outcome.RESOLVED_ITSELF)


def after_call(track: Track, record: int | None) -> Track:
    """Return the track after a call wrote a record; `record` is where it ends, None when only the server knows."""
    if track.verdict is not None:
        return track
    if track.sight.state is State.STALLED:
        return replace(track, called_in_time=track.called_in_time or track.sight.curable, record=record)
    return replace(track, called_in_time=track.sight.curable)


def _still_there(track: Track, sight: Sight) -> Track:
    """A stalled slot is free when its restart_lsn has moved and nothing is left that a record could move."""
    if sight.cause is RetentionCause.TRANSACTION:
        return replace(track, sight=sight, called_in_time=False)
    here = sight.slot.restart_position if sight.slot is not None else None
    if sight.state is State.STALLED or here is None or track.stalled_at is None or here <= track.stalled_at:
        return replace(track, sight=sight)
    return replace(track, sight=sight, verdict=Outcome.HEALED if track.called_in_time else Outcome.RESOLVED_ITSELF)
