"""
What looks and attempts make of a slot's heal by ending the transaction in its way: whom, when, did it help? Pure.

Nobody is ended at first sight. The exporter's diagnosis names the same transaction at each look for some seconds, the
primary shows its session at the first of them, and that same session, unchanged, may be ended after the last.
"""

from collections.abc import Collection
from dataclasses import replace
from operator import itemgetter

from healer.remedies.attempt import PASSING, Call, CallResult
from healer.remedies.force_snapshot.schedule import HELD_SECONDS, LOOK_INTERVAL, Attempt, LookAgain, Progress
from healer.remedies.progress import WELL, Aim, Outcome, Track
from healer.remedies.slot_state import SlotCondition, SlotState
from healer.remedies.terminate.blocker import suspect_of
from healer.remedies.terminate.statements import LASTING, Refusal
from pgslot.config.model import HealerSettings

SECOND_LOOK_SECONDS = 5.0
"""Between the primary's first word on a session and its end."""
EFFECT_SECONDS = 180.0
"""So long the effect of our act is looked for after the alert has gone, as it does when nobody is in the way."""


def advance(track: Track, sight: SlotState, now: float) -> Track:
    """Return the track after another look."""
    before = track
    track = replace(track, sight=sight, now=now)
    if sight.state is SlotCondition.UNSEEN:
        return _nobody_in_sight(track)
    track = replace(track, known=sight)
    if not track.open:
        return track
    ended = _ended(before, track)
    if ended is not None:
        return ended
    suspect = suspect_of(sight)
    if suspect is None:
        return _nobody_in_sight(track)
    if track.stalled_at is None and sight.slot is not None:
        track = replace(track, stalled_at=sight.slot.restart_position)
    same = track.aim is not None and suspect.same_as(track.aim.suspect)
    aim = replace(track.aim, suspect=suspect) if track.aim is not None and same else Aim(suspect, since=now)
    return replace(track, trouble=sight.state, aim=aim)


def _nobody_in_sight(track: Track) -> Track:
    """Nobody is ended on what was seen before this look."""
    return replace(track, aim=track.aim if track.aim is not None and track.aim.ended else None)


def _ended(before: Track, track: Track) -> Track | None:
    """Return the track with the outcome that this look shows; None: it goes on."""
    state = track.sight.state
    if state is SlotCondition.LOST:
        return track.end(Outcome.GAVE_UP, "the slot is lost: it was invalidated")
    if state is SlotCondition.GONE:
        acted = track.first_call is not None
        gone = "gone after our act: nothing proves that it became usable" if acted else "it is gone, by no act of ours"
        return track.end(Outcome.RESOLVED_ITSELF, gone)
    if before.trouble is SlotCondition.WAITING and state is not SlotCondition.WAITING:
        return _over(track, "usable")
    if _moved(track):
        return _over(track, "restart_lsn moved")
    if state is not SlotCondition.USABLE:
        return None
    if track.trouble is not None:
        return _over(track, "it sets WAL free")
    return track.end(Outcome.RESOLVED_ITSELF, "no act of ours: no transaction is in its way")


def opens_again(track: Track, sight: SlotState) -> bool:
    """Return whether a slot that was well has a transaction in its way again, while its alert still fires."""
    return track.outcome in WELL and suspect_of(sight) is not None and suspect_of(track.sight) is None


def after_attempt(track: Track, call: Call, now: float) -> Track:
    """Return the track after an attempt; the one that is ended may be in the way of others as well."""
    aim = track.aim
    if not track.open or aim is None:
        return track
    if call.result in (CallResult.UNAVAILABLE, CallResult.ERROR) or call.suspect is None:
        # What came of it is not known, so that what was seen before it is worth nothing.
        reason = call.capability.reason if call.capability and call.result is CallResult.UNAVAILABLE else None
        doubtful = call.result is CallResult.ERROR and aim.session is not None
        return replace(
            track,
            attempts=track.attempts + 1,
            refused=reason,
            called_in_time=track.called_in_time or doubtful,
            aim=replace(aim, session=None),
        )
    if (call.suspect.pid, call.suspect.xid) != (aim.suspect.pid, aim.suspect.xid):
        return track
    track = replace(track, attempts=track.attempts + 1, refused=None)
    match call.result:
        case CallResult.SEEN if call.suspect == aim.suspect:
            return replace(track, aim=replace(aim, session=call.session, seen_at=now, refusal=None))
        case CallResult.REFUSED if call.suspect == aim.suspect:
            return replace(track, aim=replace(aim, session=None, refusal=call.refusal))
        case CallResult.LOCKED:
            return replace(track, locked_out=True, aim=replace(aim, session=None))
        case CallResult.DRY_RUN if call.suspect == aim.suspect:
            return replace(track, aim=replace(aim, would_have=True))
        case CallResult.ENDED:
            ended = replace(aim, ended=True, session=call.session, rule=call.rule)
            first = now if track.first_call is None else track.first_call
            return replace(track, aim=ended, calls=track.calls + 1, first_call=first)
    return track


def settle(track: Track, progress: Progress, settings: HealerSettings) -> Track:
    """Return the track with an outcome, if it is time for one that no look gives."""
    if not track.open:
        return track
    awaited = track.first_call is not None and progress.now - track.first_call < EFFECT_SECONDS
    if track.left is not None and not awaited:
        return track.end(Outcome.CANCELLED, track.left)
    if track.refused is not None and track.refused not in PASSING:
        return track.end(Outcome.UNAVAILABLE, f"{track.refused}")
    aim = track.aim
    if aim is not None and aim.would_have and aim.session is not None:
        return track.end(Outcome.DRY_RUN, f"would have ended {aim.session.shown}")
    if aim is not None and not aim.ended and progress.now - aim.since >= HELD_SECONDS:
        # Not sooner: what is in the way for a moment, as while a creation goes on, is no reason to leave it alone.
        refusal = Refusal.HOUR_SPENT if progress.hour_spent else aim.refusal
        if refusal in LASTING:
            return track.end(Outcome.REFUSED, f"{refusal}: {aim.suspect.shown}")
    held = track.sight.state is SlotCondition.HELD and aim is None and track.trouble is None
    if held and progress.now - track.since >= HELD_SECONDS:
        where = "" if track.sight.on_primary else ", and it is on a standby"
        return track.end(Outcome.REFUSED, f"its WAL is kept by {track.sight.reason}{where}: nobody is ended for that")
    if progress.now - track.since >= settings.give_up_after:
        return _give_up(track)
    return track


def wants(track: Track) -> bool:
    """Return whether there is somebody to ask about, or to end."""
    return track.open and track.left is None and track.aim is not None and not track.aim.ended


def next_step(tracks: Collection[Track], progress: Progress, settings: HealerSettings) -> Attempt | LookAgain:
    """Return what is done next for the slots that are still open: one attempt at a time, for the one due first."""
    dues = [(_due(track, progress, settings), track) for track in tracks if wants(track)]
    if not dues:
        return LookAgain(LOOK_INTERVAL)
    when, track = min(dues, key=itemgetter(0))
    if progress.now >= when:
        return Attempt(settings.interval, track.aim)
    return LookAgain(min(LOOK_INTERVAL, when - progress.now))


def _due(track: Track, progress: Progress, settings: HealerSettings) -> float:
    """Return when it may be asked about next. What was refused, or failed, is asked again after an interval."""
    aim = track.aim
    assert aim is not None  # noqa: S101 - wants() has looked
    if aim.session is not None:
        return aim.seen_at + SECOND_LOOK_SECONDS
    if aim.refusal is None and not track.locked_out and track.refused is None and not track.attempts:
        return aim.since
    return aim.since if progress.last_attempt is None else max(aim.since, progress.last_attempt + settings.interval)


def _moved(track: Track) -> bool:
    here = track.sight.slot.restart_position if track.sight.slot is not None else None
    there = track.stalled_at
    return track.trouble is SlotCondition.HELD and here is not None and there is not None and here > there


def _over(track: Track, how: str) -> Track:
    if track.first_call is not None:
        return track.end(Outcome.HEALED, f"{how} after we ended the transaction in its way")
    if track.called_in_time:
        return track.end(Outcome.RESOLVED_ITSELF, f"{how}, perhaps by an act of ours of which no answer came")
    return track.end(Outcome.RESOLVED_ITSELF, f"{how}, by no act of ours")


def _give_up(track: Track) -> Track:
    if track.refused is not None:
        return track.end(Outcome.UNAVAILABLE, f"{track.refused}")
    aim = track.aim
    if track.first_call is not None:
        still = f"its session is still there: {aim.suspect.shown}" if aim is not None and aim.ended else "still in need"
        return track.end(Outcome.NO_EFFECT, still)
    if aim is not None and aim.refusal is not None:
        return track.end(Outcome.REFUSED, f"{aim.refusal}: {aim.suspect.shown}")
    return track.end(Outcome.GAVE_UP, f"still {track.sight.reason or track.sight.state}: nobody could be ended for it")
