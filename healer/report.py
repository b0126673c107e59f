"""An episode as the log, the status page, /episodes and the command line tell it."""

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from healer.sights import Subject
from healer.tracks import Outcome

TIMELINE_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Event:
    """One line of an episode's timeline; seconds since its start."""

    seconds: float
    text: str


@dataclass
class Report:
    """Filled while the episode runs."""

    cluster: str
    started_at: float
    """Unix time."""
    subjects: list[Subject] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    """What was waited for, in the order in which it was first seen."""
    calls: int = 0
    messages: int = 0
    """How many of the calls were the fallback's messages."""
    lsns: deque[str] = field(default_factory=lambda: deque(maxlen=10))
    """The last LSNs that the calls returned."""
    seconds: float = 0.0
    heal_seconds: float | None = None
    """From the first call to the effect; None unless healed."""
    outcome: Outcome | None = None
    """None while it runs."""
    why: str = ""
    timeline: deque[Event] = field(default_factory=lambda: deque(maxlen=TIMELINE_LENGTH))
    listener: Callable[[Event], None] | None = field(default=None, repr=False)
    """Told each line of the timeline as it is written; the command line prints it."""

    def tell(self, seconds: float, text: str) -> None:
        """Write a line of the timeline."""
        line = Event(round(seconds, 3), text)
        self.timeline.append(line)
        if self.listener is not None:
            self.listener(line)

    def as_json(self) -> dict[str, Any]:
        """Return what json can write."""
        plain = {name: value for name, value in vars(self).items() if name != "listener"}
        return plain | {
            "subjects": [asdict(subject) for subject in self.subjects],
            "lsns": list(self.lsns),
            "timeline": [asdict(line) for line in self.timeline],
        }
