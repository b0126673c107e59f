"""The state of a day while it runs: the creations that wait, their obstacles, and since when there are none."""

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from tests.simulations.day.steps import EXPORTER, HEALER
from tests.simulations.day.violation import Violation
from tests.support.servers.sessions import Statement

PATIENCE = 40.0
"""
Seconds that a creation without obstacles may take. The alert takes two and the chain two more, but a healer that has
just started asks for missed alerts only after ten, and the machine may be busy.
"""


@dataclass
class Creation:
    """A slot that a client creates; `statement` ends when the client has it."""

    name: str
    node: str
    statement: Statement
    excused: str = ""
    """The act after which the creation may fail; empty: it must not."""
    free_since: float | None = None
    """Monotonic time; None: there is an obstacle."""
    disturbances: int = 0
    """The day's number of disturbances at that time."""


@dataclass(frozen=True)
class ForgottenTransaction:
    """A transaction of a client that the owner allows to be ended, idle since it began."""

    name: str
    began: float
    """Unix time."""


@dataclass
class DayState:
    """Written by the actor and read by the watch."""

    leader: str
    patience: float = PATIENCE
    creations: dict[str, Creation] = field(default_factory=dict)
    """Creations whose client waits or has got its slot, by slot."""
    transactions: set[str] = field(default_factory=set)
    """Names of open and prepared transactions."""
    forgotten: dict[tuple[str, int], ForgottenTransaction] = field(default_factory=dict)
    """All that there have been, by node and the session's pid."""
    paused: bool = False
    cut: bool = False
    hung: set[str] = field(default_factory=set)
    """Nodes that are hung with all their sessions."""
    dead: set[str] = field(default_factory=set)
    """Programs that were killed."""
    frozen: set[str] = field(default_factory=set)
    busy: bool = False
    """A step is running that moves a server or a program."""
    disturbances: int = 0
    """Number of steps so far that changed something that creations wait for."""
    lives: list[tuple[float, float]] = field(default_factory=list)
    """Start and end of the healers that have ended, in Unix time."""
    healer_began: float = 0.0
    longest: float = 0.0
    """The longest time in seconds that a creation has waited for nothing but a record."""
    got_slot: dict[str, bool | None] = field(default_factory=dict)
    """Whether the client got its slot, for creations that are over. None: unknown."""
    replay_stops: list[tuple[float, float]] = field(default_factory=list)
    """Periods in which no record could arrive at the standby: start and end in Unix time."""
    query_lock: threading.Lock = field(default_factory=threading.Lock)
    """Held during queries, because a server that is stopped in the middle of one would block the caller."""
    _stopped_since: dict[str, float] = field(default_factory=dict)

    def begin_replay_stop(self, why: str) -> None:
        """Record that replay stands still from now on, for this reason."""
        self._stopped_since[why] = time.time()

    def replay_stop_reasons(self) -> list[str]:
        """Return the reasons why replay stands still now."""
        return list(self._stopped_since)

    def end_replay_stop(self, why: str) -> None:
        if why in self._stopped_since:
            self.replay_stops.append((self._stopped_since.pop(why), time.time()))

    def disturb(self) -> None:
        self.disturbances += 1

    def obstacles(self, node: str) -> set[str]:
        """Return the obstacles to a creation on this node, other than a missing record."""
        obstacles = set(self.transactions) | {f"{node_name} hangs" for node_name in self.hung}
        if self.busy:
            obstacles.add("something moves")
        if node != self.leader:
            # A record has to be requested, written, and replayed.
            obstacles |= {f"{program} is dead" for program in self.dead & {EXPORTER, HEALER}}
            if self.paused:
                obstacles.add("replay is paused")
            if self.cut:
                obstacles.add("the standby is cut off")
        return obstacles


def late(state: DayState, now: float) -> list[Violation]:
    """Return violations for creations that are overdue or have failed; `now`: monotonic time."""
    violations = []
    for creation in _unfinished(state.creations.values()):
        if creation.statement.done:
            # The creation may have ended since the list of unfinished ones was made.
            if creation.statement.error is not None and not creation.excused:
                text = f"{creation.name} on {creation.node}: {creation.statement.error}"
                violations.append(Violation("every slot that can be made is made", "no error", text))
        elif state.obstacles(creation.node):
            creation.free_since = None
        elif creation.free_since is None or creation.disturbances != state.disturbances:
            creation.free_since, creation.disturbances = now, state.disturbances
        else:
            waited = now - creation.free_since
            state.longest = max(state.longest, waited)
            if waited > state.patience:
                expected = f"made within {state.patience:.0f} s from when nothing is in its way"
                text = f"{creation.name} on {creation.node} still waits after {waited:.0f} s"
                violations.append(Violation("every slot that can be made is made", expected, text))
    return violations


def pending(state: DayState) -> list[str]:
    return [creation.name for creation in _unfinished(state.creations.values())]


def _unfinished(creations: Collection[Creation]) -> list[Creation]:
    """Return the creations that wait, and those that failed unexpectedly."""
    return [
        creation
        for creation in list(creations)
        if not creation.excused and (not creation.statement.done or creation.statement.error is not None)
    ]
