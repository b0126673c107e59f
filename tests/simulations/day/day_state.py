"""What is known of a day while it happens: who waits for what, what is in the way, and since when nothing is."""

import threading
import time
from collections.abc import Collection
from dataclasses import dataclass, field

from tests.simulations.day.steps import EXPORTER, HEALER
from tests.simulations.day.violation import Violation
from tests.support.servers.sessions import Statement

PATIENCE = 40.0
"""
Seconds from when nothing is in a slot's way until it has to be made. The alert takes two, the chain two more; but a
healer that is new asks after ten for what it has missed, and this machine is not ours alone.
"""


@dataclass
class Creation:
    """A slot that a client wants; `statement` is over when it has it."""

    name: str
    node: str
    statement: Statement
    excused: str = ""
    """What we did to it, after which it may end in an error."""
    free_since: float | None = None
    """Monotonic; None: something is in its way."""
    disturbances: int = 0
    """How many there had been by then."""


@dataclass
class DayState:
    """Kept by the actor, and read by whoever watches."""

    leader: str
    patience: float = PATIENCE
    creations: dict[str, Creation] = field(default_factory=dict)
    """Those whose client waits, or got what it wanted."""
    transactions: set[str] = field(default_factory=set)
    """Open or prepared."""
    paused: bool = False
    cut: bool = False
    hung: set[str] = field(default_factory=set)
    """Nodes that are stopped with all their sessions."""
    dead: set[str] = field(default_factory=set)
    """Programs."""
    frozen: set[str] = field(default_factory=set)
    busy: bool = False
    """A step is being taken that moves a server or a program."""
    disturbances: int = 0
    """Steps so far that moved something that slots wait for."""
    lives: list[tuple[float, float]] = field(default_factory=list)
    """Of healers that have ended: from, to, in Unix time."""
    healer_began: float = 0.0
    longest: float = 0.0
    """Seconds that a creation has waited at most with nothing in its way but a record."""
    given: dict[str, bool | None] = field(default_factory=dict)
    """Of creations that are over: whether the client got its slot. None: nobody can tell."""
    stood: list[tuple[float, float]] = field(default_factory=list)
    """When no record could arrive at the standby: from, to, in Unix time."""
    asking: threading.Lock = field(default_factory=threading.Lock)
    """Held while a server is asked: one that is stopped in the middle would keep the asker until it goes on."""
    _standing: dict[str, float] = field(default_factory=dict)

    def stand(self, why: str) -> None:
        """From now on nothing is replayed, for this reason."""
        self._standing[why] = time.time()

    def standing(self) -> list[str]:
        """Return why nothing is replayed now."""
        return list(self._standing)

    def go_on(self, why: str) -> None:
        if why in self._standing:
            self.stood.append((self._standing.pop(why), time.time()))

    def disturb(self) -> None:
        self.disturbances += 1

    def in_the_way(self, node: str) -> set[str]:
        """Return what a creation on this node waits for, but for a record."""
        found = set(self.transactions) | {f"{each} hangs" for each in self.hung}
        if self.busy:
            found.add("something moves")
        if node != self.leader:
            # A record has to be asked for, written, and replayed.
            found |= {f"{program} is dead" for program in self.dead & {EXPORTER, HEALER}}
            if self.paused:
                found.add("replay is paused")
            if self.cut:
                found.add("the standby is cut off")
        return found


def late(world: DayState, now: float) -> list[Violation]:
    """Return the creations that could have been made by now and are not, or that have failed; `now`: monotonic."""
    found = []
    for creation in _unfinished(world.creations.values()):
        if creation.statement.done:
            # Both may have come about since it was among the unfinished.
            if creation.statement.error is not None and not creation.excused:
                text = f"{creation.name} on {creation.node}: {creation.statement.error}"
                found.append(Violation("every slot that can be made is made", "no error", text))
        elif world.in_the_way(creation.node):
            creation.free_since = None
        elif creation.free_since is None or creation.disturbances != world.disturbances:
            creation.free_since, creation.disturbances = now, world.disturbances
        else:
            waited = now - creation.free_since
            world.longest = max(world.longest, waited)
            if waited > world.patience:
                expected = f"made within {world.patience:.0f} s from when nothing is in its way"
                text = f"{creation.name} on {creation.node} still waits after {waited:.0f} s"
                found.append(Violation("every slot that can be made is made", expected, text))
    return found


def pending(world: DayState) -> list[str]:
    return [creation.name for creation in _unfinished(world.creations.values())]


def _unfinished(creations: Collection[Creation]) -> list[Creation]:
    """Return those that wait, and those that ended in an error without our doing."""
    return [
        creation
        for creation in list(creations)
        if not creation.excused and (not creation.statement.done or creation.statement.error is not None)
    ]
