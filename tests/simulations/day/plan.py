"""
What happens on a day, drawn from a seed: a pure function, so that a day that went wrong can be had once more.

A deck of acts is shuffled for each minute; whatever an act begins (a pause, an open transaction, a program that is
dead) has its end drawn with it. A small model of the servers keeps each step possible at its time.
"""

import heapq
import random
from dataclasses import dataclass, field

from tests.simulations.day.steps import EXPORTER, HEALER, Act, Step
from tests.support.servers.stack import PRIMARY_NODE, STANDBY_NODE

_DECK = {
    Act.CREATE: 14,
    Act.CREATE_BY_FUNCTION: 3,
    Act.DROP: 4,
    Act.ABANDON: 3,
    Act.CONSUME: 4,
    Act.BEGIN: 4,
    Act.PREPARE: 2,
    Act.WRITE: 3,
    Act.PAUSE: 2,
    Act.HANG: 2,
    Act.KILL: 3,
}
"""How often in a minute; beside these one of each line of _EITHER."""
_EITHER = (
    (Act.SWITCHOVER, Act.FAILOVER),
    (Act.RESTART_FAST, Act.RESTART_IMMEDIATE),
    (Act.RESTART_FAST, Act.RESTART_IMMEDIATE),
    (Act.REFUSE, Act.SWALLOW),
)
_WANTS = {
    Act.DROP: "slots",
    Act.ABANDON: "creating",
    Act.CONSUME: "slots",
    Act.LEAVE: "read",
    Act.COMMIT: "open",
    Act.FINISH: "prepared",
    Act.START: "dead",
}
"""In which of the model's sets a step's name has to be."""
_ADDS = {
    Act.CREATE: "creating",
    Act.CREATE_BY_FUNCTION: "creating",
    Act.CONSUME: "read",
    Act.BEGIN: "open",
    Act.PREPARE: "prepared",
    Act.KILL: "dead",
}
_FLAGS = {
    Act.PAUSE: ("paused", True),
    Act.RESUME: ("paused", False),
    Act.REFUSE: ("cut", True),
    Act.SWALLOW: ("cut", True),
    Act.RECONNECT: ("cut", False),
}
BUSY = 45.0
"""Seconds of each minute. In its rest only ends what was begun: nothing but the healer helps who still waits."""
MOST_SLOTS = 20
"""On one server; it has room for 50."""


@dataclass
class Model:
    """The servers as far as a plan has to know them. Whether a slot is made by now it does not."""

    leader: str = PRIMARY_NODE
    follower: str = STANDBY_NODE
    slots: dict[str, str] = field(default_factory=dict)
    """By name, the node."""
    creating: set[str] = field(default_factory=set)
    """Slots whose creating client is there still, done or not."""
    read: set[str] = field(default_factory=set)
    open: set[str] = field(default_factory=set)
    prepared: set[str] = field(default_factory=set)
    paused: bool = False
    cut: bool = False
    dead: set[str] = field(default_factory=set)
    """Programs."""

    def allows(self, step: Step) -> bool:
        """Return whether this step is possible now."""
        creates = step.act in (Act.CREATE, Act.CREATE_BY_FUNCTION)
        if creates and (step.name in self.slots or not self.room_on(step.node)):
            return False
        if step.act is Act.CONSUME and step.name in self.read:
            return False
        if step.act is Act.SWITCHOVER and (self.paused or self.cut):
            # In order means that the standby has everything.
            return False
        if step.act in _WANTS:
            return step.name in getattr(self, _WANTS[step.act])
        if step.act in _FLAGS:
            flag, now = _FLAGS[step.act]
            return bool(getattr(self, flag)) is not now
        return step.act is not Act.KILL or step.name not in self.dead

    def room_on(self, node: str) -> bool:
        return sum(where == node for where in self.slots.values()) < MOST_SLOTS

    def take(self, step: Step) -> None:
        """Take the step."""
        if step.act in _ADDS:
            getattr(self, _ADDS[step.act]).add(step.name)
        if step.act in _FLAGS:
            flag, now = _FLAGS[step.act]
            setattr(self, flag, now)
        match step.act:
            case Act.CREATE | Act.CREATE_BY_FUNCTION:
                self.slots[step.name] = step.node
            case Act.DROP:
                del self.slots[step.name]
                self.creating.discard(step.name)
                self.read.discard(step.name)
            case Act.ABANDON | Act.LEAVE | Act.COMMIT | Act.FINISH | Act.START:
                getattr(self, _WANTS[step.act]).discard(step.name)
            case Act.RESTART_FAST | Act.RESTART_IMMEDIATE:
                self._ended(step.node)
            case Act.SWITCHOVER | Act.FAILOVER:
                self._ended(self.leader)
                if step.act is Act.FAILOVER:
                    self.slots = {name: node for name, node in self.slots.items() if node != self.leader}
                self.paused = self.cut = False
                self.leader, self.follower = self.follower, self.leader

    def _ended(self, node: str) -> None:
        """All sessions of this server are gone; a slot that was not made by then is, too, which is not known here."""
        here = {name for name, where in self.slots.items() if where == node}
        self.creating -= here
        self.read -= here
        if node == self.leader:
            self.open.clear()
        else:
            self.paused = False


def plan(seed: int, minutes: float) -> tuple[Step, ...]:
    """Return the day's steps in their order. The last ones end whatever is in a slot's way."""
    return _Drawing(random.Random(seed), minutes * 60).steps()


class _Drawing:
    def __init__(self, chance: random.Random, seconds: float) -> None:
        self._chance = chance
        self._seconds = seconds
        self._model = Model()
        self._steps: list[Step] = []
        self._ends: list[tuple[float, int, Step]] = []
        """What was begun ends then; the number keeps steps from being compared."""
        self._names = 0

    def steps(self) -> tuple[Step, ...]:
        waiting: list[Act] = []
        for at, card in self._cards():
            self._end_until(at)
            # What was not possible so far comes first.
            waiting.append(card)
            for act in waiting:
                step = self._dealt(at, act)
                if step is not None and self._model.allows(step):
                    self._take(step)
                    waiting.remove(act)
                    break
        self._end_until(float("inf"))
        return tuple(self._steps)

    def _cards(self) -> list[tuple[float, Act]]:
        """Return the acts with their times: minute by minute a deck, of a part of a minute a part of it."""
        dealt: list[tuple[float, Act]] = []
        for minute in range(-int(-self._seconds // 60)):
            deck = [act for act, count in _DECK.items() for _ in range(count)]
            deck += [self._chance.choice(pair) for pair in _EITHER]
            self._chance.shuffle(deck)
            times = sorted(minute * 60 + self._chance.uniform(0, BUSY) for _ in deck)
            dealt += [(at, act) for at, act in zip(times, deck, strict=True) if at < self._seconds]
        return dealt

    def _dealt(self, at: float, act: Act) -> Step | None:
        """Return the step that a card stands for; None when there is nothing that it could be about."""
        match act:
            case Act.CREATE | Act.CREATE_BY_FUNCTION:
                # Seldom on the primary: nothing that is in the way there is anything that a record helps against.
                node = self._model.follower if self._chance.random() < 0.75 else self._model.leader
                return Step(at, act, node, self._name("slot"))
            case Act.DROP | Act.CONSUME:
                return self._about(at, act, self._model.slots)
            case Act.ABANDON:
                return self._about(at, act, self._model.creating)
            case Act.BEGIN | Act.PREPARE:
                return Step(at, act, self._model.leader, self._name("work"))
            case Act.WRITE | Act.SWITCHOVER | Act.FAILOVER:
                return Step(at, act, self._model.leader)
            case Act.PAUSE | Act.REFUSE | Act.SWALLOW:
                return Step(at, act, self._model.follower)
            case Act.RESTART_FAST | Act.RESTART_IMMEDIATE:
                return Step(at, act, self._chance.choice((self._model.leader, self._model.follower)))
            case Act.HANG:
                node = self._chance.choice((self._model.leader, self._model.follower))
                return Step(at, act, node, seconds=round(self._chance.uniform(1.5, 4.5), 1))
            case Act.KILL:
                return Step(at, act, name=self._chance.choice((EXPORTER, HEALER)))
            case _:
                raise AssertionError(f"{act} is on no card")

    def _about(self, at: float, act: Act, slots: dict[str, str] | set[str]) -> Step | None:
        if not slots:
            return None
        name = self._chance.choice(sorted(slots))
        return Step(at, act, self._model.slots[name], name)

    def _take(self, step: Step) -> None:
        self._model.take(step)
        self._steps.append(step)
        match step.act:
            case Act.BEGIN:
                self._ends_in(1.0, 12.0, step, Act.COMMIT)
            case Act.PREPARE:
                self._ends_in(1.0, 12.0, step, Act.FINISH)
            case Act.PAUSE:
                self._ends_in(1.0, 8.0, step, Act.RESUME)
            case Act.REFUSE | Act.SWALLOW:
                self._ends_in(1.0, 8.0, step, Act.RECONNECT)
            case Act.KILL:
                self._ends_in(0.5, 6.0, step, Act.START)
            case Act.CONSUME:
                self._ends_in(2.0, 20.0, step, Act.LEAVE)

    def _ends_in(self, least: float, most: float, step: Step, act: Act) -> None:
        at = step.at + self._chance.uniform(least, most)
        heapq.heappush(self._ends, (at, len(self._steps), Step(at, act, step.node, step.name)))

    def _end_until(self, at: float) -> None:
        while self._ends and self._ends[0][0] <= at:
            step = heapq.heappop(self._ends)[2]
            if self._model.allows(step) and self._still_there(step):
                self._take(step)

    def _still_there(self, step: Step) -> bool:
        """Return whether what this would end has not ended with its server, to begin anew elsewhere."""
        return step.act not in (Act.RESUME, Act.RECONNECT) or step.node == self._model.follower

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}_{self._names}"
