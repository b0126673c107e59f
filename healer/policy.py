"""What next? A pure function of what was seen and done so far."""

from collections.abc import Collection
from dataclasses import dataclass

from exporter.config import HealerSettings
from healer.primary import PASSING, Unavailable
from healer.sights import State
from healer.tracks import Outcome, Track

CLOSE_LOOK_SECONDS = 0.5
"""
For this long after a call it is looked very often. The record is flushed within 0.2 s, and what proves the effect may
be gone soon after: the slot of a table synchronisation lives for as long as the table is copied.
"""
CLOSE_LOOK_INTERVAL = 0.005
LOOK_INTERVAL = 1.0
MESSAGE_INTERVAL = 10.0
"""The server logs the record up to 25 s after the message; another message before that changes little."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The episode so far. Times in seconds since its start."""

    now: float
    stopped: str | None = None
    """Why no alert asks for it any more; None while one still fires."""
    burst_attempts: int = 0
    """Attempts since a record was last found to be the cure."""
    last_attempt: float | None = None
    calls: int = 0
    """Attempts that wrote a record, or the message in its place."""
    unavailable: Unavailable | None = None
    """From the last attempt."""
    by_message: bool = False
    """The last attempt took the fallback: the server logs the record within some 25 s, so that hurry is of no use."""
    locked_out: bool = False
    """Another healer acts."""
    spent_budget: str | None = None
    """Which budget allows no more calls; None while there is one left."""
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Attempt:
    """Call now."""


@dataclass(frozen=True, slots=True)
class LookAgain:
    """Do nothing for so many seconds, then look."""

    seconds: float


@dataclass(frozen=True, slots=True)
class End:
    """The episode is over."""

    outcome: Outcome
    why: str


def next_step(tracks: Collection[Track], progress: Progress, settings: HealerSettings) -> Attempt | LookAgain | End:
    """Return what the episode does next."""
    open_tracks = [track for track in tracks if track.verdict is None]
    if not open_tracks:
        return _over(tracks, progress)
    if progress.stopped is not None:
        return End(Outcome.CANCELLED, progress.stopped)
    if progress.unavailable is not None and progress.unavailable not in PASSING:
        return End(Outcome.UNAVAILABLE, f"{progress.unavailable}")
    if progress.now >= settings.give_up_after:
        return _give_up(open_tracks, progress)
    if not any(track.wants_a_call for track in open_tracks):
        return LookAgain(LOOK_INTERVAL)
    if progress.dry_run:
        return End(Outcome.DRY_RUN, "would have called pg_log_standby_snapshot()")
    return _pace(open_tracks, progress, settings)


def _pace(open_tracks: Collection[Track], progress: Progress, settings: HealerSettings) -> Attempt | LookAgain | End:
    hurried = any(track.hurried for track in open_tracks) and not progress.by_message
    in_burst = hurried and progress.burst_attempts < settings.burst_calls and progress.unavailable is None
    pace = settings.burst_interval if in_burst else settings.interval
    if progress.by_message:
        pace = max(pace, MESSAGE_INTERVAL)
    due = 0.0 if progress.last_attempt is None else progress.last_attempt + pace
    if progress.now >= due:
        if progress.spent_budget is not None:
            return End(Outcome.GAVE_UP, f"the budget of calls is spent: {progress.spent_budget}")
        return Attempt()
    since = progress.now - (progress.last_attempt or 0.0)
    look = CLOSE_LOOK_INTERVAL if hurried and since < CLOSE_LOOK_SECONDS else LOOK_INTERVAL
    return LookAgain(min(look, due - progress.now))


def _over(tracks: Collection[Track], progress: Progress) -> End:
    healed = [track for track in tracks if track.verdict is Outcome.HEALED]
    if healed:
        stalled = all(track.trouble is State.STALLED for track in healed)
        effect = "restart_lsn moved" if stalled else "usable"
        return End(Outcome.HEALED, f"{effect} after our {'message' if progress.by_message else 'call'}")
    if any(track.verdict is Outcome.GAVE_UP for track in tracks):
        return End(Outcome.GAVE_UP, "the slot is lost: it was invalidated")
    if any(track.called_in_time for track in tracks):
        return End(Outcome.RESOLVED_ITSELF, "gone after our call: nothing proves that it became usable")
    if progress.locked_out:
        return End(Outcome.RESOLVED_ITSELF, "no call of ours: another healer acted")
    return End(Outcome.RESOLVED_ITSELF, "no call of ours could have ended the wait")


def _give_up(open_tracks: Collection[Track], progress: Progress) -> End:
    if progress.unavailable is not None:
        return End(Outcome.UNAVAILABLE, f"{progress.unavailable}")
    reasons = ", ".join(sorted({track.sight.reason or track.sight.cause or track.sight.state for track in open_tracks}))
    if progress.calls and any(track.called_in_time for track in open_tracks):
        if all(track.trouble is State.STALLED and not track.wants_a_call for track in open_tracks):
            return End(Outcome.NO_EFFECT, "its consumer has not read since our call")
        return End(Outcome.NO_EFFECT, f"still waiting after all calls: {reasons}")
    return End(Outcome.GAVE_UP, f"still waiting: {reasons}")
