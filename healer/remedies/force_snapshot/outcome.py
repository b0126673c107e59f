"""
What looks and calls make of a slot's heal: whether our calls could have been the cure, and the verdict.

A call counts as the cure only if a running-xacts record could help at that moment, if nothing else was waited for
since, and if it is still the same slot. A slot that was stalled is healed when its restart_lsn stands in a record of
ours: it always moves to the start of such a record. A standby's temporary copy is healed when it is persistent, and its
primary's slot has moved to a record of ours before. Everything else that ends well resolved itself.
"""

from dataclasses import replace

from healer.remedies.attempt import WROTE, Call, CallResult
from healer.remedies.progress import WELL, Outcome, Track
from healer.remedies.slot_state import IN_NEED, SlotCondition, SlotState
from pgslot.diagnosis.retention import RetentionCause
from pgslot.postgres.types import xid_precedes
from pgslot.snapshot.rows import Slot

INTERVALS_KEPT = 64
"""Records of ours that a slot's restart_lsn may still move to; an older one has been passed by all that read."""
MESSAGE_SECONDS = 30.0
"""The server logs its record at the latest 25 s after our message; the first move within that counts as ours."""


def advance(track: Track, sight: SlotState, now: float = 0.0) -> Track:
    """Return the track after another look."""
    before = track
    track = replace(track, sight=sight, now=now)
    if sight.state is SlotCondition.UNSEEN:
        return track
    track = replace(track, known=sight)
    if not track.open:
        return track
    if before.known is not None and _is_another(before.known, sight):
        track = replace(_forgotten(track), made_anew=True)
    held = sight.state in (SlotCondition.HELD, SlotCondition.UNREADY)
    track = replace(track, held_since=(now if track.held_since is None else track.held_since) if held else None)
    match sight.state:
        case SlotCondition.LOST:
            return track.end(Outcome.GAVE_UP, "the slot is lost: it was invalidated")
        case SlotCondition.GONE:
            gone = "gone after our call: nothing proves that it became usable"
            return track.end(Outcome.RESOLVED_ITSELF, gone if track.called_in_time else _not_ours(track))
        case SlotCondition.WAITING:
            return _still_in_creation(track, before)
    if track.trouble is SlotCondition.WAITING and sight.state is not SlotCondition.NOT_PERSISTED:
        return _made(track, before.known)
    if SlotCondition.NOT_PERSISTED in (track.trouble, sight.state) or sight.state is SlotCondition.UNREADY:
        return _copied(track)
    return _existing(track)


def opens_again(track: Track, sight: SlotState) -> bool:
    """Return whether a slot that was well needs a heal again, while its alert still fires."""
    return track.outcome in WELL and sight.state in IN_NEED and track.sight.state not in IN_NEED


def after_attempt(track: Track, call: Call, now: float) -> Track:
    """Return the track after an attempt to call; a record helps every slot that is open, asked for or not."""
    if not track.open:
        return track
    wrote = call.result in WROTE
    if track.wants_a_call:
        unavailable = call.capability.reason if call.capability and call.result is CallResult.UNAVAILABLE else None
        track = replace(
            track,
            attempts=track.attempts + 1,
            burst=track.burst + 1,
            calls=track.calls + wrote,
            refused=unavailable,
            locked_out=call.result is CallResult.LOCKED,
            stranger=call.stranger,
        )
    return _called(track, call, now) if wrote and track.trouble is not None else track


def _called(track: Track, call: Call, now: float) -> Track:
    stalled = track.trouble is not SlotCondition.WAITING
    interval = call.interval
    if interval is not None:
        track = replace(
            track,
            intervals=(*track.intervals, interval)[-INTERVALS_KEPT:],
            record=interval[1] if stalled and track.wants_a_call else track.record,
        )
    if call.result is CallResult.EMITTED:
        # Only the first move after it may be claimed for it.
        here = track.sight.consumed.restart_position if track.sight.consumed is not None else None
        track = replace(track, message_at=now, stalled_at=here if stalled and here is not None else track.stalled_at)
    return replace(
        track,
        first_call=now if track.first_call is None else track.first_call,
        called_in_time=track.sight.curable or (track.called_in_time and (stalled or not track.wants_a_call)),
    )


def _is_another(known: SlotState, found: SlotState) -> bool:
    """A slot that was dropped and made anew: another creator, or what only ever goes forward went back."""
    if known.wait is not None and found.wait is not None and known.wait.creation.pid != found.wait.creation.pid:
        return True
    if known.wait is None and found.wait is not None and known.slot is not None:
        return True
    return _went_back(known.slot, found.slot) or _went_back(known.original, found.original)


def _went_back(before: Slot | None, now: Slot | None) -> bool:
    if before is None or now is None:
        return False
    return (
        _back(before.restart_position, now.restart_position)
        or _back(before.confirmed_position, now.confirmed_position)
        or _older(before.catalog_xmin, now.catalog_xmin)
        # Its statistics begin anew with it; whoever only resets them costs us a claim.
        or _back(before.total_bytes, now.total_bytes)
    )


def _back(before: int | None, now: int | None) -> bool:
    return before is not None and now is not None and now < before


def _older(before: int | None, now: int | None) -> bool:
    return before is not None and now is not None and xid_precedes(now, before)


def _forgotten(track: Track) -> Track:
    """Nothing that was done for another slot of this name counts for this one; its alert's clock goes on."""
    return replace(
        track,
        trouble=None,
        called_in_time=False,
        burst=0,
        first_call=None,
        stalled_at=None,
        intervals=(),
        record=None,
        message_at=None,
        moved_by_us=False,
    )


def _still_in_creation(track: Track, before: Track) -> Track:
    sight = track.sight
    if track.trouble is not SlotCondition.WAITING:
        track = replace(_forgotten(track), trouble=SlotCondition.WAITING)
    return replace(
        track,
        called_in_time=track.called_in_time and sight.curable,
        burst=track.burst if before.hurried or not track.hurried else 0,
    )


def _made(track: Track, before: SlotState | None) -> Track:
    """It counts as made, however much WAL its long creation leaves behind; by us, if it is that creation's slot."""
    if track.sight.state is SlotCondition.UNREADY:
        return track.end(Outcome.RESOLVED_ITSELF, "gone, and what should be there is a copy of the primary's slot")
    if not track.called_in_time or _made_before(track):
        return track.end(Outcome.RESOLVED_ITSELF, _not_ours(track))
    began, stands = (each.slot.restart_position if each and each.slot else None for each in (before, track.sight))
    if began is not None and stands is not None and stands != began and not _within(track.intervals, stands):
        return track.end(Outcome.RESOLVED_ITSELF, "usable after our call, but perhaps another slot of that name")
    return track.end(Outcome.HEALED, f"usable after our {_act(track)}")


def _made_before(track: Track) -> bool:
    """
    Return whether the creation ended with a record from before our first call, one that was on its way by then.

    confirmed_flush_lsn of a new slot is the end of the record that its creation ended with (CreateInitDecodingContext
    and DecodingContextFindStartpoint, logical.c), or later, once its consumer has read.
    """
    made = track.sight.slot.confirmed_position if track.sight.slot is not None else None
    return made is not None and bool(track.intervals) and made <= track.intervals[0][0]


def _existing(track: Track) -> Track:
    """A slot that exists: it is free when its restart_lsn has moved, and nothing else keeps its WAL."""
    sight = track.sight
    here = sight.slot.restart_position if sight.slot is not None else None
    if sight.state is SlotCondition.STALLED and track.trouble is None:
        return replace(track, trouble=SlotCondition.STALLED, stalled_at=here)
    moved, track = _moved(track, here)
    if track.moved_by_us and sight.state is not SlotCondition.STALLED:
        return track.end(Outcome.HEALED, f"restart_lsn moved after our {_act(track)}")
    if sight.cause is RetentionCause.TRANSACTION:
        # When it ends, the slot moves by itself: what was written before that is no cure.
        track = replace(track, called_in_time=False, intervals=(), message_at=None)
    if sight.state is not SlotCondition.USABLE or (track.trouble is SlotCondition.STALLED and not moved):
        return track
    if track.calls and moved:
        return track.end(Outcome.RESOLVED_ITSELF, "restart_lsn moved, but not to a record of ours")
    return track.end(Outcome.RESOLVED_ITSELF, _not_ours(track))


def _copied(track: Track) -> Track:
    """A standby's copy is well when it is persistent: that follows when the primary's slot has moved far enough."""
    sight = track.sight
    here = sight.original.restart_position if sight.original is not None else None
    if sight.state is SlotCondition.UNREADY:
        # It has gone with its worker. The next one has a horizon of its own, to which nothing of before is a cure.
        return replace(_forgotten(track), trouble=track.trouble, stalled_at=here)
    if sight.state is SlotCondition.NOT_PERSISTED and track.trouble is not SlotCondition.NOT_PERSISTED:
        return replace(_forgotten(track), trouble=SlotCondition.NOT_PERSISTED, stalled_at=here)
    if sight.blocker is not None:
        # When it ends, the copy becomes persistent with any record: what was written before that is no cure.
        return replace(track, called_in_time=False, intervals=(), message_at=None, moved_by_us=False)
    moved, track = _moved(track, here)
    if not sight.persisted:
        return track
    if track.moved_by_us:
        return track.end(Outcome.HEALED, f"persistent after our {_act(track)}")
    if track.calls and moved:
        return track.end(Outcome.RESOLVED_ITSELF, "persistent, but not by a record of ours")
    return track.end(Outcome.RESOLVED_ITSELF, _not_ours(track))


def _moved(track: Track, here: int | None) -> tuple[bool, Track]:
    """Return whether restart_lsn has moved, and the track with the mark of whether that was our doing."""
    if here is None or track.stalled_at is None or here <= track.stalled_at:
        return False, track
    if track.moved_by_us:
        return True, track
    by_message = track.message_at is not None and track.now - track.message_at <= MESSAGE_SECONDS
    ours = track.called_in_time and (by_message or _within(track.intervals, here))
    return True, replace(track, moved_by_us=ours)


def _within(intervals: tuple[tuple[int, int], ...], here: int) -> bool:
    return any(begin <= here < end for begin, end in intervals)


def _act(track: Track) -> str:
    return "call" if track.message_at is None else "message"


def _not_ours(track: Track) -> str:
    if track.made_anew:
        return "dropped and made anew: another slot of that name"
    if track.locked_out and track.stranger is None:
        return "no call of ours: another healer acted"
    return "no call of ours could have ended the wait"
