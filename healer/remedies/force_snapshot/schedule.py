"""When the next record is due, and when a slot's heal ends without success. Pure functions of the progress."""

from collections.abc import Collection
from operator import itemgetter

from healer.remedies.attempt import TRANSIENT, Act, Wait
from healer.remedies.base import EpisodeProgress
from healer.remedies.force_snapshot.need import awaits_commit
from healer.remedies.force_snapshot.progress import RecordProgress
from healer.remedies.progress import Outcome
from healer.remedies.slot_state import SlotCondition
from pgslot.config.model import HealerSettings

# Intervals and times, in seconds.
OBSERVE_INTERVAL = 1.0
"""Between two snapshots."""
CLOSE_WATCH_SECONDS = 0.5
CLOSE_WATCH_INTERVAL = 0.005
"""
Between two snapshots in the CLOSE_WATCH_SECONDS after a call. The record is flushed within 0.2 s, and the proof of its
effect may not last: the slot of a table synchronization exists only as long as the table is copied.
"""
COMMIT_WATCH_INTERVAL = 0.5
"""Between two snapshots while a standby's creation waits for a transaction: when it ends, a record is due."""
MESSAGE_INTERVAL = 10.0
"""Between two messages. The server logs the record up to 25 s after the message; more messages change little."""
RETAINED_SECONDS = 10.0
"""How long something else has to retain the WAL of a slot that never needed a record before its heal ends with that."""


def apply_timeouts(progress: RecordProgress, episode: EpisodeProgress, settings: HealerSettings) -> RecordProgress:
    """Return the progress with an outcome if it is withdrawn, impossible, or out of time or calls."""
    if not progress.open:
        return progress
    if progress.withdrawn is not None:
        return progress.end(Outcome.CANCELLED, progress.withdrawn)
    if progress.unavailable is not None and progress.unavailable not in TRANSIENT and progress.wants_call:
        return progress.end(Outcome.UNAVAILABLE, f"{progress.unavailable}")
    if (
        progress.initial_condition is None
        and progress.retained_since is not None
        and episode.now - progress.retained_since >= RETAINED_SECONDS
    ):
        retained = progress.state.condition is SlotCondition.RETAINED
        what = "not stalled: its WAL is kept by" if retained else "there is no copy of it:"
        return progress.end(Outcome.GAVE_UP, f"{what} {progress.state.reason}, which no record helps")
    if episode.now - progress.since >= settings.give_up_after:
        return _give_up(progress)
    if not progress.wants_call:
        return progress
    if episode.dry_run:
        return progress.end(Outcome.DRY_RUN, "would have called pg_log_standby_snapshot()")
    spent = _spent(progress, episode, settings)
    if spent is not None and episode.now >= _due(progress, episode, settings):
        return progress.end(Outcome.GAVE_UP, f"the budget of calls is spent: {spent}")
    return progress


def next_step(slots: Collection[RecordProgress], episode: EpisodeProgress, settings: HealerSettings) -> Act | Wait:
    """Return the next step for the slots that are still open."""
    wanting = [progress for progress in slots if progress.wants_call]
    if not wanting:
        return Wait(OBSERVE_INTERVAL)
    due, first = min(((_due(progress, episode, settings), progress) for progress in wanting), key=itemgetter(0))
    if episode.now >= due:
        return Act(_interval(first, episode, settings))
    just_called = episode.last_attempt is not None and episode.now - episode.last_attempt < CLOSE_WATCH_SECONDS
    watch_closely = just_called and not episode.by_fallback and any(progress.burst_eligible for progress in wanting)
    interval = COMMIT_WATCH_INTERVAL if any(awaits_commit(progress.state) for progress in wanting) else OBSERVE_INTERVAL
    return Wait(min(CLOSE_WATCH_INTERVAL if watch_closely else interval, due - episode.now))


def _due(progress: RecordProgress, episode: EpisodeProgress, settings: HealerSettings) -> float:
    """Return when the next attempt may be made for this slot."""
    if episode.last_attempt is None:
        return episode.now
    # Earlier calls were for other slots: this slot's first call waits at most one short interval.
    first = not progress.attempts and not episode.by_fallback
    interval = settings.burst_interval if first else _interval(progress, episode, settings)
    return episode.last_attempt + interval


def _interval(progress: RecordProgress, episode: EpisodeProgress, settings: HealerSettings) -> float:
    if episode.by_fallback:
        return max(settings.interval, MESSAGE_INTERVAL)
    in_burst = progress.burst_eligible and progress.burst < settings.burst_calls and progress.unavailable is None
    return settings.burst_interval if in_burst else settings.interval


def _spent(progress: RecordProgress, episode: EpisodeProgress, settings: HealerSettings) -> str | None:
    """Return the name of the budget that is spent; None: calls are left in all of them."""
    if progress.calls >= settings.calls_per_episode:
        return "calls per episode"
    return "calls per cluster and hour" if episode.budget_spent else None


def _give_up(progress: RecordProgress) -> RecordProgress:
    if progress.unavailable is not None:
        return progress.end(Outcome.UNAVAILABLE, f"{progress.unavailable}")
    reason = progress.state.reason or progress.state.condition
    if progress.lock_holder is not None:
        held = f"still waiting: {reason}; another client holds the healers' lock: {progress.lock_holder}"
        return progress.end(Outcome.GAVE_UP, held)
    if not progress.called_in_time:
        return progress.end(Outcome.GAVE_UP, f"still waiting: {reason}")
    if progress.awaits_read:
        return progress.end(Outcome.NO_EFFECT, "its consumer has not read since our call")
    return progress.end(Outcome.NO_EFFECT, f"still waiting after all calls: {reason}")
