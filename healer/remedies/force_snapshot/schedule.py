"""What next? Pure functions of what was seen and done so far: which slots are over, and then call, or look again."""

from collections.abc import Collection
from dataclasses import dataclass

from healer.remedies.attempt import PASSING
from healer.remedies.progress import Aim, Outcome, Track
from healer.remedies.slot_state import SlotCondition
from pgslot.config.model import HealerSettings

CLOSE_LOOK_SECONDS = 0.5
"""
For this long after a call it is looked very often. The record is flushed within 0.2 s, and what proves the effect may
be gone soon after: the slot of a table synchronisation lives for as long as the table is copied.
"""
CLOSE_LOOK_INTERVAL = 0.005
LOOK_INTERVAL = 1.0
COMMIT_LOOK_INTERVAL = 0.5
"""While a standby's creation waits for a transaction of the primary: at its end a record is due, which nobody logs."""
MESSAGE_INTERVAL = 10.0
"""The server logs the record up to 25 s after the message; another message before that changes little."""
HELD_SECONDS = 10.0
"""For so long a slot that was never in need has to be seen held by something else, before its heal ends with that."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The episode so far, which has one caller for all its slots. Times in seconds since its start."""

    now: float
    last_attempt: float | None = None
    by_message: bool = False
    """The last attempt took the fallback: the server logs the record within some 25 s, so that hurry is of no use."""
    hour_spent: bool = False
    """The cluster's budget of calls within an hour has none left."""
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """Call now."""

    pace: float
    """Seconds until the next attempt; another healer's call within them stands for ours."""
    aim: Aim | None = None
    """Whom it is about, where it is about somebody."""


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Do nothing for so many seconds, then look."""

    seconds: float


def settle(track: Track, progress: Progress, settings: HealerSettings) -> Track:
    """Return the track with an outcome, if it is time for one that no look gives."""
    if not track.open:
        return track
    if track.left is not None:
        return track.end(Outcome.CANCELLED, track.left)
    if track.refused is not None and track.refused not in PASSING and track.wants_a_call:
        return track.end(Outcome.UNAVAILABLE, f"{track.refused}")
    if track.trouble is None and track.held_since is not None and progress.now - track.held_since >= HELD_SECONDS:
        kept = (
            "not stalled: its WAL is kept by" if track.sight.state is SlotCondition.HELD else "there is no copy of it:"
        )
        held = f"{kept} {track.sight.reason}, which no record helps"
        return track.end(Outcome.GAVE_UP, held)
    if progress.now - track.since >= settings.give_up_after:
        return _give_up(track)
    if not track.wants_a_call:
        return track
    if progress.dry_run:
        return track.end(Outcome.DRY_RUN, "would have called pg_log_standby_snapshot()")
    spent = _spent(track, progress, settings)
    if spent is not None and progress.now >= _due(track, progress, settings):
        return track.end(Outcome.GAVE_UP, f"the budget of calls is spent: {spent}")
    return track


def next_step(tracks: Collection[Track], progress: Progress, settings: HealerSettings) -> Attempt | LookAgain:
    """Return what is done next for the slots that are still open."""
    wanting = [track for track in tracks if track.wants_a_call]
    if not wanting:
        return LookAgain(LOOK_INTERVAL)
    due, soonest = min(((_due(track, progress, settings), track) for track in wanting), key=_first)
    if progress.now >= due:
        return Attempt(_pace(soonest, progress, settings))
    close = progress.last_attempt is not None and progress.now - progress.last_attempt < CLOSE_LOOK_SECONDS
    hurried = close and not progress.by_message and any(track.hurried for track in wanting)
    interval = COMMIT_LOOK_INTERVAL if any(track.sight.awaits_commit for track in wanting) else LOOK_INTERVAL
    return LookAgain(min(CLOSE_LOOK_INTERVAL if hurried else interval, due - progress.now))


def _first(pair: tuple[float, Track]) -> float:
    return pair[0]


def _due(track: Track, progress: Progress, settings: HealerSettings) -> float:
    """Return when the next attempt may be made for this slot."""
    if progress.last_attempt is None:
        return progress.now
    # What was called before it joined was not for it: its own first call waits for no more than one short interval.
    first = not track.attempts and not progress.by_message
    pace = settings.burst_interval if first else _pace(track, progress, settings)
    return progress.last_attempt + pace


def _pace(track: Track, progress: Progress, settings: HealerSettings) -> float:
    if progress.by_message:
        return max(settings.interval, MESSAGE_INTERVAL)
    in_burst = track.hurried and track.burst < settings.burst_calls and track.refused is None
    return settings.burst_interval if in_burst else settings.interval


def _spent(track: Track, progress: Progress, settings: HealerSettings) -> str | None:
    """Return which budget allows no more calls; None while there is one left."""
    if track.calls >= settings.calls_per_episode:
        return "calls per episode"
    return "calls per cluster and hour" if progress.hour_spent else None


def _give_up(track: Track) -> Track:
    if track.refused is not None:
        return track.end(Outcome.UNAVAILABLE, f"{track.refused}")
    reason = track.sight.reason or track.sight.state
    if track.stranger is not None:
        held = f"still waiting: {reason}; the healers' lock is held by a stranger: {track.stranger}"
        return track.end(Outcome.GAVE_UP, held)
    if not track.called_in_time:
        return track.end(Outcome.GAVE_UP, f"still waiting: {reason}")
    if track.awaits_read:
        return track.end(Outcome.NO_EFFECT, "its consumer has not read since our call")
    return track.end(Outcome.NO_EFFECT, f"still waiting after all calls: {reason}")
