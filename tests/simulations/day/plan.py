"""
The steps of a day, drawn from a seed: a pure function, so that a day with a violation can be repeated.

A deck of acts is shuffled for every minute. For an act that begins something (a pause, an open transaction, a killed
program), the time of its end is drawn as well. A small model of the servers ensures that each step is possible.
"""

import heapq
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

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
"""How often each act occurs in a minute, in addition to one of each line of _EITHER."""
_EITHER = (
    (Act.SWITCHOVER, Act.FAILOVER),
    (Act.RESTART_FAST, Act.RESTART_IMMEDIATE),
    (Act.RESTART_FAST, Act.RESTART_IMMEDIATE),
    (Act.REFUSE, Act.SWALLOW),
)
_REQUIRED_SET = {
    Act.DROP: "slots",
    Act.ABANDON: "creating",
    Act.CONSUME: "slots",
    Act.LEAVE: "read",
    Act.COMMIT: "open",
    Act.FINISH: "prepared",
    Act.HANG_UP: "open",
    Act.START: "dead",
}
"""The set of the model that must contain the step's name."""
_ADDED_TO = {
    Act.CREATE: "creating",
    Act.CREATE_BY_FUNCTION: "creating",
    Act.CONSUME: "read",
    Act.BEGIN: "open",
    Act.PREPARE: "prepared",
    Act.FORGET: "open",
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
"""Seconds of each minute with acts. In the rest only ends occur, so that creations depend on the healer."""
FORGOTTEN = 2
"""Transactions in each minute that a client forgets; they begin in its first third."""
MAX_SLOTS = 20
"""Per server, which has room for 50."""


@dataclass
class Model:
    """The servers as far as a plan needs them; it cannot know whether a creation has finished."""

    leader: str = PRIMARY_NODE
    follower: str = STANDBY_NODE
    slots: dict[str, str] = field(default_factory=dict)
    """The node of each slot."""
    creating: set[str] = field(default_factory=set)
    """Slots whose creating client is still connected, done or not."""
    read: set[str] = field(default_factory=set)
    open: set[str] = field(default_factory=set)
    prepared: set[str] = field(default_factory=set)
    paused: bool = False
    cut: bool = False
    dead: set[str] = field(default_factory=set)
    """Programs that were killed."""

    def allows(self, step: Step) -> bool:
        """Return whether the step is possible now."""
        creates = step.act in (Act.CREATE, Act.CREATE_BY_FUNCTION)
        if creates and (step.name in self.slots or not self.room_on(step.node)):
            return False
        if step.act is Act.CONSUME and step.name in self.read:
            return False
        if step.act is Act.SWITCHOVER and (self.paused or self.cut):
            # A switchover waits until the standby has received all WAL.
            return False
        if step.act in _REQUIRED_SET:
            return step.name in getattr(self, _REQUIRED_SET[step.act])
        if step.act in _FLAGS:
            flag, now = _FLAGS[step.act]
            return bool(getattr(self, flag)) is not now
        return step.act is not Act.KILL or step.name not in self.dead

    def room_on(self, node: str) -> bool:
        return sum(slot_node == node for slot_node in self.slots.values()) < MAX_SLOTS

    def take(self, step: Step) -> None:
        """Apply the step to the model."""
        if step.act in _ADDED_TO:
            getattr(self, _ADDED_TO[step.act]).add(step.name)
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
            case Act.ABANDON | Act.LEAVE | Act.COMMIT | Act.FINISH | Act.HANG_UP | Act.START:
                getattr(self, _REQUIRED_SET[step.act]).discard(step.name)
            case Act.RESTART_FAST | Act.RESTART_IMMEDIATE:
                self._end_sessions(step.node)
            case Act.SWITCHOVER | Act.FAILOVER:
                self._end_sessions(self.leader)
                if step.act is Act.FAILOVER:
                    self.slots = {name: node for name, node in self.slots.items() if node != self.leader}
                self.paused = self.cut = False
                self.leader, self.follower = self.follower, self.leader

    def _end_sessions(self, node: str) -> None:
        """End all sessions of a server. Unfinished creations end as well, which the model cannot know."""
        slots_on_node = {name for name, slot_node in self.slots.items() if slot_node == node}
        self.creating -= slots_on_node
        self.read -= slots_on_node
        if node == self.leader:
            self.open.clear()
        else:
            self.paused = False


def plan(seed: int, minutes: float) -> tuple[Step, ...]:
    """Return the day's steps in order. The last ones remove all obstacles to creations."""
    steps = _Drawing(random.Random(seed), minutes * 60).steps()
    return tuple(_with_forgotten(steps, random.Random(f"{seed}, forgets"), minutes))


def _with_forgotten(steps: Sequence[Step], chance: random.Random, minutes: float) -> Iterator[Step]:
    """
    Add transactions that a client forgets, and nothing else: the plan stays what it would be without them.

    They last for longer than the healer needs to end them, which is about ten seconds.
    """
    model = Model()
    count = max(1, round(FORGOTTEN * minutes))
    begins = sorted(n // FORGOTTEN * 60 + chance.uniform(0, 20 * min(1.0, minutes)) for n in range(count))
    planned = [
        step
        for n, at in enumerate(begins)
        for step in (
            Step(at, Act.FORGET, name=f"forgotten_{n}"),
            Step(at + chance.uniform(14, 22), Act.HANG_UP, name=f"forgotten_{n}"),
        )
    ]
    nodes: dict[str, str] = {}
    for step in sorted([*steps, *planned], key=lambda step: step.at):
        if step.act in (Act.FORGET, Act.HANG_UP):
            # On the node that was the primary when it began.
            step = replace(step, node=nodes.setdefault(step.name, model.leader))  # noqa: PLW2901
            if not model.allows(step):
                # It ended with its server.
                continue
        model.take(step)
        yield step


class _Drawing:
    def __init__(self, chance: random.Random, seconds: float) -> None:
        self._chance = chance
        self._seconds = seconds
        self._model = Model()
        self._steps: list[Step] = []
        self._ends: list[tuple[float, int, Step]] = []
        """Time and step of each pending end; the number between them prevents a comparison of steps."""
        self._names = 0

    def steps(self) -> tuple[Step, ...]:
        waiting: list[Act] = []
        for at, card in self._cards():
            self._end_until(at)
            # Acts that were not possible so far come first.
            waiting.append(card)
            for act in waiting:
                step = self._step_for(at, act)
                if step is not None and self._model.allows(step):
                    self._take(step)
                    waiting.remove(act)
                    break
        self._end_until(float("inf"))
        return tuple(self._steps)

    def _cards(self) -> list[tuple[float, Act]]:
        """Return the acts with their times: a deck per minute, and part of a deck for part of a minute."""
        dealt: list[tuple[float, Act]] = []
        for minute in range(-int(-self._seconds // 60)):
            deck = [act for act, count in _DECK.items() for _ in range(count)]
            deck += [self._chance.choice(pair) for pair in _EITHER]
            self._chance.shuffle(deck)
            times = sorted(minute * 60 + self._chance.uniform(0, BUSY) for _ in deck)
            dealt += [(at, act) for at, act in zip(times, deck, strict=True) if at < self._seconds]
        return dealt

    def _step_for(self, at: float, act: Act) -> Step | None:
        """Return the step for a card; None if there is no slot for it."""
        match act:
            case Act.CREATE | Act.CREATE_BY_FUNCTION:
                # Rarely on the primary, where a record does not help against any obstacle.
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

    def _ends_in(self, minimum: float, maximum: float, step: Step, act: Act) -> None:
        at = step.at + self._chance.uniform(minimum, maximum)
        heapq.heappush(self._ends, (at, len(self._steps), Step(at, act, step.node, step.name)))

    def _end_until(self, at: float) -> None:
        while self._ends and self._ends[0][0] <= at:
            step = heapq.heappop(self._ends)[2]
            if self._model.allows(step) and self._still_applies(step):
                self._take(step)

    def _still_applies(self, step: Step) -> bool:
        """Return whether the step's node is still the standby; otherwise the change of roles has ended it."""
        return step.act not in (Act.RESUME, Act.RECONNECT) or step.node == self._model.follower

    def _name(self, kind: str) -> str:
        self._names += 1
        return f"{kind}_{self._names}"
