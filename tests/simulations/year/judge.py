"""Who knows what really happened, and counts what the healer did wrong, told wrong, or did not do."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from healer.remedies.progress import WELL, Outcome
from healer.remedies.slot_state import SlotKey
from tests.simulations.year.servers import Servers

if TYPE_CHECKING:
    from tests.simulations.year.simulation import Simulation

LATEST = 60.0
"""Seconds from when a record would help, and the healer knows of it, until it has to have helped."""
LATEST_STALLED = 300.0
"""Seconds, for a slot of which it takes minutes of looking to tell that it is stalled."""
EXAMPLES = 20


@dataclass
class SlotRecord:
    """One alert, from its beginning until what it is about is over."""

    judge: "Judge"
    servers: Servers
    fingerprint: str
    fired: float
    helpless: float | None = None
    """Since when a record would have helped, with the alert in the healer's hands, and has not come."""
    lost: bool = False

    def look(self) -> None:
        """Called every few seconds."""
        world, servers = self.judge.world, self.servers
        due = servers.curable and servers.off_since is None and world.healer_is_up
        if not due or self.fingerprint not in world.post.taken:
            self.helpless = None
            return
        now = world.clock.now
        self.helpless = now if self.helpless is None else self.helpless
        latest = LATEST_STALLED if servers.reading is not None else LATEST
        if now - self.helpless > latest and not self.lost:
            self.lost = True
            self.judge.wrong(servers.name, "an alert is lost: a record would help, and none is asked for")

    def over(self) -> None:
        servers = self.servers
        if servers.making is not None and servers.making.made is not None:
            self.judge.ended[servers.making.by_call] += 1
            if servers.making.by_call:
                self.judge.seconds.append(servers.making.made - self.fired)
        elif servers.reading is not None and servers.reading.freed is not None:
            self.judge.ended[True] += 1
        else:
            self.judge.given_up += 1


@dataclass
class Judge:
    """What came of everything."""

    world: "Simulation"
    wrongs: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    outcomes: Counter[str] = field(default_factory=Counter)
    modest: Counter[str] = field(default_factory=Counter)
    """Slots that a record of ours has helped, and that are told to have resolved themselves."""
    actions: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    ended: Counter[bool] = field(default_factory=Counter)
    """Whether by a record of the healer's."""
    given_up: int = 0
    seconds: list[float] = field(default_factory=list)
    """From the alert to the usable slot, where it was the healer's record."""
    calls: Counter[str] = field(default_factory=Counter)
    kind_of: dict[str, str] = field(default_factory=dict)

    def watch(self, servers: Servers, fingerprint: str) -> SlotRecord:
        return SlotRecord(self, servers, fingerprint, self.world.clock.now)

    def wrong(self, cluster: str, what: str) -> None:
        self.wrongs[what] += 1
        if len(self.examples) < EXAMPLES:
            kind = self.kind_of.get(cluster, "nothing")
            self.examples.append(f"{self.world.clock.now:.1f} s, {cluster}, {kind}: {what}")

    def verdict(self, cluster: str, subject: SlotKey, outcome: Outcome, why: str) -> None:
        """Compare what the healer tells with what is so."""
        self.outcomes[str(outcome)] += 1
        servers = self.world.servers[cluster]
        servers.settle()
        if servers.reading is not None:
            well, ours = servers.reading.freed is not None, servers.reading.by_call
        elif servers.making is not None and servers.making.name == subject.slot_name:
            well, ours = servers.making.made is not None, servers.making.by_call
            if servers.making.dropped:
                well = outcome in WELL
        else:
            return
        if outcome is Outcome.HEALED and not (well and ours):
            self.wrong(cluster, f"claimed what is not so: healed ({why})")
        if outcome is Outcome.HEALED:
            servers.told_healed = True
        if outcome is Outcome.RESOLVED_ITSELF and well and ours and not servers.told_healed:
            self.modest[self.kind_of[cluster]] += 1
        if outcome in WELL and not well:
            self.wrong(cluster, f"told as over while it waits: {outcome} ({why})")
        if outcome in (Outcome.GAVE_UP, Outcome.NO_EFFECT, Outcome.ERROR) and well:
            self.wrong(cluster, f"told as not over although it is: {outcome} ({why})")
