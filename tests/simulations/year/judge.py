"""The judge knows the true state of the model, and counts wrong actions, wrong verdicts and lost alerts."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from healer.remedies.progress import WELL, Outcome
from healer.remedies.slot_state import SlotKey
from tests.simulations.year.servers import Servers

if TYPE_CHECKING:
    from tests.simulations.year.simulation import Simulation

MAX_DELAY = 60.0
"""Seconds within which the healer has to force a record that would help, once it knows the alert."""
MAX_DELAY_STALLED = 300.0
"""The same for a stalled slot, which takes minutes of observation to recognise."""
EXAMPLES = 20


@dataclass
class AlertCase:
    """One alert and its slot, until the slot needs no more help."""

    judge: "Judge"
    servers: Servers
    fingerprint: str
    fired: float
    due_since: float | None = None
    """Since when the healer has known the alert and a record would have helped; None: it would not."""
    lost: bool = False

    def check(self) -> None:
        """Check whether the alert is lost; called every few seconds."""
        simulation, servers = self.judge.simulation, self.servers
        due = servers.record_would_help and servers.off_since is None and simulation.healer_is_up
        if not due or self.fingerprint not in simulation.alertmanager.taken:
            self.due_since = None
            return
        now = simulation.clock.now
        self.due_since = now if self.due_since is None else self.due_since
        max_delay = MAX_DELAY_STALLED if servers.existing_slot is not None else MAX_DELAY
        if now - self.due_since > max_delay and not self.lost:
            self.lost = True
            self.judge.record_mistake(servers.name, "an alert is lost: a record would help, and none is asked for")

    def finish(self) -> None:
        servers = self.servers
        if servers.creation is not None and servers.creation.made is not None:
            self.judge.ended[servers.creation.by_call] += 1
            if servers.creation.by_call:
                self.judge.seconds.append(servers.creation.made - self.fired)
        elif servers.existing_slot is not None and servers.existing_slot.freed is not None:
            self.judge.ended[True] += 1
        else:
            self.judge.given_up += 1


@dataclass
class Judge:
    """The counts of everything that the healer did, and of its mistakes."""

    simulation: "Simulation"
    mistakes: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    underreported: Counter[str] = field(default_factory=Counter)
    """Slots that a record of the healer has helped, with the outcome resolved_itself."""
    actions: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    ended: Counter[bool] = field(default_factory=Counter)
    """Number of ends, by whether a record of the healer caused them."""
    given_up: int = 0
    seconds: list[float] = field(default_factory=list)
    """From the alert to the usable slot, where a record of the healer helped."""
    calls: Counter[str] = field(default_factory=Counter)
    kind_of: dict[str, str] = field(default_factory=dict)

    def watch(self, servers: Servers, fingerprint: str) -> AlertCase:
        return AlertCase(self, servers, fingerprint, self.simulation.clock.now)

    def record_mistake(self, cluster: str, what: str) -> None:
        self.mistakes[what] += 1
        if len(self.examples) < EXAMPLES:
            kind = self.kind_of.get(cluster, "nothing")
            self.examples.append(f"{self.simulation.clock.now:.1f} s, {cluster}, {kind}: {what}")

    def verdict(self, cluster: str, subject: SlotKey, outcome: Outcome, why: str) -> None:
        """Compare the healer's outcome with the true state."""
        self.outcomes[str(outcome)] += 1
        servers = self.simulation.servers[cluster]
        servers.settle()
        if servers.existing_slot is not None:
            is_over, by_healer = servers.existing_slot.freed is not None, servers.existing_slot.by_call
        elif servers.creation is not None and servers.creation.name == subject.slot_name:
            is_over, by_healer = servers.creation.made is not None, servers.creation.by_call
            if servers.creation.dropped:
                is_over = outcome in WELL
        else:
            return
        if outcome is Outcome.HEALED and not (is_over and by_healer):
            self.record_mistake(cluster, f"claimed what is not so: healed ({why})")
        if outcome is Outcome.HEALED:
            servers.reported_healed = True
        if outcome is Outcome.RESOLVED_ITSELF and is_over and by_healer and not servers.reported_healed:
            self.underreported[self.kind_of[cluster]] += 1
        if outcome in WELL and not is_over:
            self.record_mistake(cluster, f"told as over while it waits: {outcome} ({why})")
        if outcome in (Outcome.GAVE_UP, Outcome.NO_EFFECT, Outcome.ERROR) and is_over:
            self.record_mistake(cluster, f"told as not over although it is: {outcome} ({why})")
