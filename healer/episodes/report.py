"""An episode as the log, the status page, /episodes and the command line tell it."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from healer.remedies.progress import Outcome
from healer.remedies.slot_state import SlotKey

TIMELINE_LENGTH = 200
MAX_RESULTS = 2000
"""Slots, and their outcomes, that an episode remembers: one may go on for days, with others each hour."""
WHYS_SHOWN = 5

_GRAVEST = (
    Outcome.ERROR,
    Outcome.GAVE_UP,
    Outcome.NO_EFFECT,
    Outcome.UNAVAILABLE,
    Outcome.REFUSED,
    Outcome.DRY_RUN,
    Outcome.CANCELLED,
    Outcome.HEALED,
    Outcome.RESOLVED_ITSELF,
)
"""What an episode of several slots is called after: first what most needs a person."""


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One line of an episode's timeline; seconds since its start."""

    seconds: float
    text: str


@dataclass(frozen=True, slots=True)
class SlotResult:
    """What became of one slot; one that stalled again has several."""

    node: str
    slot_name: str
    outcome: Outcome
    why: str
    seconds: float
    """From its alert to its outcome."""
    calls: int
    """Those that were made while it needed one."""
    heal_seconds: float | None
    """From the first call to the effect; None unless healed."""


@dataclass
class Report:
    """Filled while the episode runs."""

    cluster: str
    remedy: str
    started_at: float
    """Unix time."""
    subjects: list[SlotKey] = field(default_factory=list)
    """The last ones that alerts were about."""
    reasons: list[str] = field(default_factory=list)
    """What was waited for, in the order in which it was first seen."""
    calls: int = 0
    messages: int = 0
    """How many of the calls were the fallback's messages."""
    lsns: deque[str] = field(default_factory=lambda: deque(maxlen=10))
    """The last LSNs that the calls returned."""
    seconds: float = 0.0
    heal_seconds: float | None = None
    """The longest of its healed slots; None when none was."""
    outcome: Outcome | None = None
    """The gravest of its slots'; None while it runs."""
    why: str = ""
    slots: deque[SlotResult] = field(default_factory=lambda: deque(maxlen=MAX_RESULTS))
    """Each slot's own outcome, in the order in which they came."""
    timeline: deque[TimelineEntry] = field(default_factory=lambda: deque(maxlen=TIMELINE_LENGTH))
    listener: Callable[[TimelineEntry], None] | None = field(default=None, repr=False)
    """Told each line of the timeline as it is written; the command line prints it."""

    def tell(self, seconds: float, text: str) -> None:
        """Write a line of the timeline."""
        line = TimelineEntry(round(seconds, 3), text)
        self.timeline.append(line)
        if self.listener is not None:
            self.listener(line)

    def conclude(self, seconds: float, otherwise: tuple[Outcome, str]) -> None:
        """Put down how it ended, by how its slots did; `otherwise`: it ended before there was one."""
        self.seconds = seconds
        self.outcome, self.why = summary(self.slots, otherwise)
        took = [heal.heal_seconds for heal in self.slots if heal.heal_seconds is not None]
        self.heal_seconds = max(took, default=None)

    def as_json(self) -> dict[str, Any]:
        """Return what json can write."""
        plain = {name: value for name, value in vars(self).items() if name != "listener"}
        return plain | {
            "subjects": [asdict(subject) for subject in self.subjects],
            "lsns": list(self.lsns),
            "slots": [asdict(heal) for heal in self.slots],
            "timeline": [asdict(line) for line in self.timeline],
        }


def summary(heals: Sequence[SlotResult], otherwise: tuple[Outcome, str]) -> tuple[Outcome, str]:
    """Return one outcome and why for all slots of an episode."""
    if not heals:
        return otherwise
    gravest = min((heal.outcome for heal in heals), key=_GRAVEST.index)
    if len({(heal.outcome, heal.why) for heal in heals}) == 1:
        return gravest, heals[0].why
    whys = [f"{heal.slot_name}: {heal.outcome} ({heal.why})" for heal in sorted(heals, key=_gravity)]
    more = f"; and {len(whys) - WHYS_SHOWN} more" if len(whys) > WHYS_SHOWN else ""
    return gravest, "; ".join(whys[:WHYS_SHOWN]) + more


def _gravity(heal: SlotResult) -> int:
    return _GRAVEST.index(heal.outcome)
