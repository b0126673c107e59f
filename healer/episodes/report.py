"""The report of an episode, for the log, the status page, /episodes and the command line."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from healer.remedies.progress import Outcome
from healer.remedies.slot_state import SlotKey

TIMELINE_LENGTH = 200
MAX_RESULTS = 2000
"""Slots, and outcomes of slots, that a report keeps: an episode may last for days, with new slots every hour."""
MAX_REASONS_SHOWN = 5
MAX_ALERT_NAMES = 20
"""Those of the shipped rules are five; other rules may carry the label `heal` as well."""
MAX_ALERT_NAME_LENGTH = 200

_BY_SEVERITY = (
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
"""By severity: an episode has the first of its slots' outcomes in this order."""


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """One line of an episode's timeline; `seconds` since the episode's start."""

    seconds: float
    text: str


@dataclass(frozen=True, slots=True)
class SlotResult:
    """The outcome of one slot; a slot that needed help again has several."""

    node: str
    slot_name: str
    outcome: Outcome
    why: str
    seconds: float
    """From its alert to its outcome."""
    calls: int
    """Calls made while the slot needed one."""
    heal_seconds: float | None
    """From the first call to the effect; None: not healed."""


@dataclass
class Report:
    """The report of one episode, filled in while it runs."""

    cluster: str
    remedy: str
    started_at: float
    """Unix time."""
    subjects: list[SlotKey] = field(default_factory=list)
    """The slots that alerts were about, the last MAX_RESULTS of them."""
    alerts: dict[str, str] = field(default_factory=dict)
    """The first MAX_ALERT_NAMES names of alerts that joined, with the address of the runbook; empty: unknown."""
    reasons: list[str] = field(default_factory=list)
    """What the slots waited for, in the order of first observation."""
    calls: int = 0
    messages: int = 0
    """How many of the calls were messages of the fallback."""
    lsns: deque[str] = field(default_factory=lambda: deque(maxlen=10))
    """The LSNs that the last calls returned."""
    seconds: float = 0.0
    heal_seconds: float | None = None
    """The longest `heal_seconds` of its slots; None: none was healed."""
    outcome: Outcome | None = None
    """The most severe outcome of its slots; None: the episode runs."""
    why: str = ""
    slots: deque[SlotResult] = field(default_factory=lambda: deque(maxlen=MAX_RESULTS))
    """The outcomes of its slots, in order of time."""
    timeline: deque[TimelineEntry] = field(default_factory=lambda: deque(maxlen=TIMELINE_LENGTH))
    listener: Callable[[TimelineEntry], None] | None = field(default=None, repr=False)
    """Called with every new line of the timeline; the command line prints it."""

    def add_alert(self, name: str, runbook_url: str) -> None:
        """Note that an alert of this name has joined."""
        if name and len(self.alerts) < MAX_ALERT_NAMES:
            self.alerts.setdefault(name[:MAX_ALERT_NAME_LENGTH], runbook_url)

    def append(self, seconds: float, text: str) -> None:
        """Append a line to the timeline."""
        entry = TimelineEntry(round(seconds, 3), text)
        self.timeline.append(entry)
        if self.listener is not None:
            self.listener(entry)

    def conclude(self, seconds: float, otherwise: tuple[Outcome, str]) -> None:
        """Record how the episode ended; `otherwise`: outcome and reason if no slot has an outcome."""
        self.seconds = seconds
        self.outcome, self.why = summary(self.slots, otherwise)
        heal_seconds = [result.heal_seconds for result in self.slots if result.heal_seconds is not None]
        self.heal_seconds = max(heal_seconds, default=None)

    def as_json(self) -> dict[str, Any]:
        """Return the report in types that the module json can write."""
        plain = {name: value for name, value in vars(self).items() if name != "listener"}
        return plain | {
            "subjects": [asdict(key) for key in self.subjects],
            "lsns": list(self.lsns),
            "slots": [asdict(result) for result in self.slots],
            "timeline": [asdict(entry) for entry in self.timeline],
        }


def summary(results: Sequence[SlotResult], otherwise: tuple[Outcome, str]) -> tuple[Outcome, str]:
    """Return one outcome and its reason for all slots of an episode."""
    if not results:
        return otherwise
    worst = min((result.outcome for result in results), key=_BY_SEVERITY.index)
    if len({(result.outcome, result.why) for result in results}) == 1:
        return worst, results[0].why
    whys = [f"{result.slot_name}: {result.outcome} ({result.why})" for result in sorted(results, key=_severity)]
    more = f"; and {len(whys) - MAX_REASONS_SHOWN} more" if len(whys) > MAX_REASONS_SHOWN else ""
    return worst, "; ".join(whys[:MAX_REASONS_SHOWN]) + more


def _severity(result: SlotResult) -> int:
    return _BY_SEVERITY.index(result.outcome)
