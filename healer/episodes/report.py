"""What is reported of an episode: to the log, the status page, /episodes and the command line."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from healer.remedies.progress import Outcome
from healer.remedies.slot_state import SlotKey

TIMELINE_LENGTH = 200
MAX_RESULTS = 2000
"""Slots, and their outcomes, that an episode keeps: it may go on for days, with other slots every hour."""
MAX_REASONS_SHOWN = 5

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
"""An episode of several slots has the outcome that comes first here: what needs a person most."""


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One line of an episode's timeline; seconds since its start."""

    seconds: float
    text: str


@dataclass(frozen=True, slots=True)
class SlotResult:
    """What became of one slot; a slot that stalled again has several."""

    node: str
    slot_name: str
    outcome: Outcome
    why: str
    seconds: float
    """From its alert to its outcome."""
    calls: int
    """Calls that were made while it needed one."""
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
    """The last slots that alerts were about."""
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
    """The gravest outcome of its slots; None while it runs."""
    why: str = ""
    slots: deque[SlotResult] = field(default_factory=lambda: deque(maxlen=MAX_RESULTS))
    """Each slot's own outcome, in the order in which they came."""
    timeline: deque[TimelineEntry] = field(default_factory=lambda: deque(maxlen=TIMELINE_LENGTH))
    listener: Callable[[TimelineEntry], None] | None = field(default=None, repr=False)
    """Called with each line of the timeline as it is written; the command line prints it."""

    def append(self, seconds: float, text: str) -> None:
        """Write a line of the timeline."""
        line = TimelineEntry(round(seconds, 3), text)
        self.timeline.append(line)
        if self.listener is not None:
            self.listener(line)

    def conclude(self, seconds: float, otherwise: tuple[Outcome, str]) -> None:
        """Record how it ended, by its slots' outcomes; `otherwise`: it ended before any slot did."""
        self.seconds = seconds
        self.outcome, self.why = summary(self.slots, otherwise)
        took = [result.heal_seconds for result in self.slots if result.heal_seconds is not None]
        self.heal_seconds = max(took, default=None)

    def as_json(self) -> dict[str, Any]:
        """Return what json can write."""
        plain = {name: value for name, value in vars(self).items() if name != "listener"}
        return plain | {
            "subjects": [asdict(key) for key in self.subjects],
            "lsns": list(self.lsns),
            "slots": [asdict(result) for result in self.slots],
            "timeline": [asdict(line) for line in self.timeline],
        }


def summary(results: Sequence[SlotResult], otherwise: tuple[Outcome, str]) -> tuple[Outcome, str]:
    """Return one outcome and why for all slots of an episode."""
    if not results:
        return otherwise
    gravest = min((result.outcome for result in results), key=_GRAVEST.index)
    if len({(result.outcome, result.why) for result in results}) == 1:
        return gravest, results[0].why
    whys = [f"{result.slot_name}: {result.outcome} ({result.why})" for result in sorted(results, key=_gravity)]
    more = f"; and {len(whys) - MAX_REASONS_SHOWN} more" if len(whys) > MAX_REASONS_SHOWN else ""
    return gravest, "; ".join(whys[:MAX_REASONS_SHOWN]) + more


def _gravity(result: SlotResult) -> int:
    return _GRAVEST.index(result.outcome)
