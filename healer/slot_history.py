"""
What the healer has decided about each slot within the last day, and why: kept in memory, for the question why.

Bounded in events, in events for each slot and in characters. What was dropped, or happened before the start of the
program, is not known; `Recollection.known_since` says from when on it is.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import StrEnum

MAX_AGE_SECONDS = 86400.0
MAX_EVENTS = 20_000
"""Of all slots together; at most some 20 MB."""
MAX_EVENTS_OF_SLOT = 100
MAX_TEXT_CHARACTERS = 500
MAX_NAME_CHARACTERS = 200
SIMILAR_AMONG = 4
"""An event that is like one of the slot's last four is counted with that one."""


class EventKind(StrEnum):
    """What happened."""

    ALERT = "alert"
    """An alert came; `what`: the Action that was taken."""
    WITHDRAWN = "withdrawn"
    """An alert left its episode; `text`: why."""
    STATE = "state"
    """A snapshot showed the slot in another state; `what`: its condition."""
    ATTEMPT = "attempt"
    """An attempt to act; `what`: its AttemptResult."""
    NO_ROOM = "no_room"
    """clusters_at_once did not let the episode act."""
    OUTCOME = "outcome"
    """The heal of the slot ended; `what`: its Outcome."""


@dataclass(frozen=True, slots=True)
class SlotEvent:
    """One event, or several alike."""

    kind: EventKind
    what: str
    text: str = ""
    """In words; empty: `what` says all."""
    node: str = ""
    remedy: str = ""
    alertname: str = ""
    at: float = 0.0
    """Unix time of the first."""
    last_at: float = 0.0
    """Unix time of the last."""
    count: int = 1

    def like(self, other: "SlotEvent") -> bool:
        """Return whether they differ only in time."""
        return self.identity == other.identity

    @property
    def identity(self) -> tuple[str, ...]:
        """Everything but the time."""
        return self.kind, self.what, self.text, self.node, self.remedy, self.alertname


@dataclass(frozen=True, slots=True)
class Recollection:
    """What is remembered of one slot."""

    cluster: str
    slot_name: str
    events: tuple[SlotEvent, ...]
    """In order of time."""
    known_since: float
    """Unix time; what happened before is not known."""
    dropped: bool
    """Older events were dropped for lack of room; False: the program started then, or it was a day ago."""


@dataclass(slots=True)
class _Slot:
    events: deque[SlotEvent] = field(default_factory=deque)
    dropped_until: float = 0.0
    """Unix time; what happened to it until then may have been dropped."""


class SlotHistory:
    """The events of all slots."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._started_at = clock()
        self._slots: dict[tuple[str, str], _Slot] = {}
        """By cluster and slot; the one whose last event is the oldest comes first."""
        self._count = 0
        self._dropped_until = 0.0
        """Unix time of the last event of all slots that were dropped for lack of room."""

    def record(self, cluster: str, slot_name: str, event: SlotEvent) -> None:
        """Remember an event of this moment."""
        now = self._clock()
        key = (cluster[:MAX_NAME_CHARACTERS], slot_name[:MAX_NAME_CHARACTERS])
        # The order of the dictionary is that of the last events.
        slot = self._slots[key] = self._slots.pop(key) if key in self._slots else self._empty()
        event = replace(event, text=event.text[:MAX_TEXT_CHARACTERS], at=now, last_at=now)
        if not _count_with_similar(slot.events, event):
            slot.events.append(event)
            self._count += 1
        self._trim(slot, now)
        self._expire(now)

    def recall(self, slot_name: str, cluster: str | None = None) -> list[Recollection]:
        """Return what is remembered of the slots of this name, in this cluster or, None, in all that have one."""
        now = self._clock()
        self._expire(now)
        keys = sorted(key for key in self._slots if key[1] == slot_name and cluster in (None, key[0]))
        for key in keys:
            self._trim(self._slots[key], now)
        return [self._recollection(key, self._slots[key]) for key in keys]

    def nothing(self, slot_name: str, cluster: str) -> Recollection:
        """Return that nothing is remembered of a slot."""
        return self._recollection((cluster, slot_name), self._empty())

    def _empty(self) -> _Slot:
        # It may be one that was dropped as a whole.
        return _Slot(dropped_until=self._dropped_until)

    def _recollection(self, key: tuple[str, str], slot: _Slot) -> Recollection:
        begin = max(self._started_at, self._clock() - MAX_AGE_SECONDS)
        dropped = slot.dropped_until
        return Recollection(*key, tuple(slot.events), max(begin, dropped), dropped=dropped > begin)

    def _expire(self, now: float) -> None:
        """Drop slots that are too old, or too much."""
        while self._slots:
            key, slot = next(iter(self._slots.items()))
            newest = max(event.last_at for event in slot.events)
            old = newest < now - MAX_AGE_SECONDS
            if not old and self._count <= MAX_EVENTS:
                break
            if not old:
                self._dropped_until = newest
            self._count -= len(slot.events)
            del self._slots[key]

    def _trim(self, slot: _Slot, now: float) -> None:
        events = slot.events
        while len(events) > 1 and (len(events) > MAX_EVENTS_OF_SLOT or events[0].last_at < now - MAX_AGE_SECONDS):
            slot.dropped_until = max(slot.dropped_until, events.popleft().last_at)
            self._count -= 1


def _count_with_similar(events: deque[SlotEvent], event: SlotEvent) -> bool:
    """Count the event with one of the last that is like it; return whether there is one."""
    for back in range(1, min(SIMILAR_AMONG, len(events)) + 1):
        if events[-back].like(event):
            events[-back] = replace(events[-back], last_at=event.at, count=events[-back].count + 1)
            return True
    return False
