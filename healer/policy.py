"""
What next? Pure functions of what was seen and done so far.

A call counts as the cure of a wait only if a running-xacts record could help at that moment, and if nothing else was
waited for since. Everything else that ends well resolved itself.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

from exporter.config import HealerSettings
from exporter.diagnosis import Wait, WaitReason, waits
from exporter.snapshot import ClusterSnapshot
from healer.primary import PASSING, Unavailable

CLOSE_LOOK_SECONDS = 0.5
"""
For this long after a call it is looked very often. The record is flushed within 0.2 s, and what proves the effect may
be gone soon after: the slot of a table synchronisation lives for as long as the table is copied.
"""
CLOSE_LOOK_INTERVAL = 0.005
LOOK_INTERVAL = 1.0

_WORTH_A_CALL = frozenset({WaitReason.RUNNING_XACTS, WaitReason.UNKNOWN, WaitReason.TRANSACTION})


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
class Subject:
    """What an alert points at: a slot, on the node where it lives."""

    node: str
    slot_name: str


class State(StrEnum):
    """What a look shows of a subject."""

    WAITING = "waiting"
    USABLE = "usable"
    GONE = "gone"
    UNSEEN = "unseen"
    """The node did not answer, or not in full."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What one look showed of one subject; `wait` only while it is waiting."""

    state: State
    wait: Wait | None = None
    on_primary: bool = False

    @property
    def reason(self) -> WaitReason | None:
        return self.wait.reason if self.wait is not None else None

    @property
    def worth_a_call(self) -> bool:
        """A record helps, at once or when a transaction ends; one written before WAL is reserved would be lost."""
        return self.wait is not None and self.wait.creation.wal_reserved and self.wait.reason in _WORTH_A_CALL

    @property
    def curable(self) -> bool:
        """A record alone can end this wait. A primary logs its own, and a transaction has to end first."""
        return self.worth_a_call and not self.on_primary and self.reason is not WaitReason.TRANSACTION


@dataclass(frozen=True, slots=True)
class Track:
    """One subject through an episode."""

    sight: Sight
    called_in_time: bool = False
    """A call was made while it was curable, and since then it has not been seen to wait for anything else."""
    verdict: Outcome | None = None
    """HEALED or RESOLVED_ITSELF once it waits no longer."""


@dataclass(frozen=True, slots=True)
class Progress:
    """The episode so far. Times in seconds since its start."""

    now: float
    firing: bool
    """At least one of the alerts still fires."""
    attempts: int = 0
    burst_attempts: int = 0
    """Attempts since a record was last found to be the cure."""
    last_attempt: float | None = None
    calls: int = 0
    """Attempts that wrote a record."""
    unavailable: Unavailable | None = None
    """From the last attempt."""
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


def see(cluster: ClusterSnapshot, subjects: Iterable[Subject]) -> dict[Subject, Sight]:
    """Return what the look shows of each subject, on the node where it lives."""
    waiting = {Subject(wait.node, wait.creation.slot_name): wait for wait in waits(cluster)}
    in_full = {node.node: node for node in cluster.nodes if node.slots is not None and node.creations is not None}
    slots = {Subject(node.node, slot.slot_name): slot for node in in_full.values() for slot in node.slots or ()}

    def sight(subject: Subject) -> Sight:
        if subject.node not in in_full:
            return Sight(State.UNSEEN)
        if subject in waiting:
            return Sight(State.WAITING, waiting[subject], in_full[subject.node].is_primary)
        if subject not in slots:
            return Sight(State.GONE)
        # Both queries of the look saw it at slightly different moments when it is neither waiting nor finished.
        return Sight(State.UNSEEN if slots[subject].in_creation else State.USABLE)

    return {subject: sight(subject) for subject in subjects}


def advance(track: Track | None, sight: Sight) -> Track:
    """Return the track after another look."""
    if track is None:
        track = Track(sight)
    if sight.state is State.UNSEEN:
        return replace(track, sight=sight)
    if sight.state is State.WAITING:
        in_time = track.called_in_time and track.verdict is None and sight.curable
        return Track(sight, called_in_time=in_time)
    if track.verdict is not None:
        return replace(track, sight=sight)
    proven = track.called_in_time and sight.state is State.USABLE
    return Track(sight, track.called_in_time, Outcome.HEALED if proven else Outcome.RESOLVED_ITSELF)


def after_call(track: Track) -> Track:
    """Return the track after a call wrote a record."""
    return replace(track, called_in_time=track.sight.curable) if track.verdict is None else track


def next_step(tracks: Collection[Track], progress: Progress, settings: HealerSettings) -> Attempt | LookAgain | End:
    """Return what the episode does next."""
    open_tracks = [track for track in tracks if track.verdict is None]
    if not open_tracks:
        return _over(tracks)
    if not progress.firing:
        return End(Outcome.CANCELLED, "the alert resolved while the slot still waited")
    if progress.unavailable is not None and progress.unavailable not in PASSING:
        return End(Outcome.UNAVAILABLE, f"{progress.unavailable}")
    if progress.now >= settings.give_up_after:
        return _give_up(open_tracks, progress)
    if not any(track.sight.worth_a_call for track in open_tracks):
        return LookAgain(LOOK_INTERVAL)
    if progress.dry_run:
        return End(Outcome.DRY_RUN, "would have called pg_log_standby_snapshot()")
    curable = any(track.sight.curable for track in open_tracks)
    in_burst = curable and progress.burst_attempts < settings.burst_calls and progress.unavailable is None
    pace = settings.burst_interval if in_burst else settings.interval
    due = 0.0 if progress.last_attempt is None else progress.last_attempt + pace
    if progress.now >= due:
        return Attempt()
    since = progress.now - (progress.last_attempt or 0.0)
    look = CLOSE_LOOK_INTERVAL if since < CLOSE_LOOK_SECONDS else LOOK_INTERVAL
    return LookAgain(min(look, due - progress.now))


def _over(tracks: Collection[Track]) -> End:
    if any(track.verdict is Outcome.HEALED for track in tracks):
        return End(Outcome.HEALED, "usable after our call")
    if any(track.called_in_time for track in tracks):
        return End(Outcome.RESOLVED_ITSELF, "gone after our call: nothing proves that it became usable")
    return End(Outcome.RESOLVED_ITSELF, "no call of ours could have ended the wait")


def _give_up(open_tracks: Collection[Track], progress: Progress) -> End:
    if progress.unavailable is not None:
        return End(Outcome.UNAVAILABLE, f"{progress.unavailable}")
    if progress.calls and any(track.called_in_time for track in open_tracks):
        return End(Outcome.NO_EFFECT, "still waiting for a record after all calls")
    reasons = sorted({f"{track.sight.reason or track.sight.state}" for track in open_tracks})
    return End(Outcome.GAVE_UP, f"still waiting: {', '.join(reasons)}")
