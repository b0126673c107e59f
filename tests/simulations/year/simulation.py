"""Everything together: clusters, their incidents, an Alertmanager, and the healer itself, which is the real one."""

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

from prometheus_client import CollectorRegistry

from healer.capability import CapabilityMonitor
from healer.episodes.journal import EpisodeJournal
from healer.episodes.manager import EpisodeManager
from healer.metrics import HealerMetrics
from healer.remedies import connection
from healer.remedies.progress import Outcome, SlotProgress
from healer.remedies.slot_state import SlotKey
from healer.webhook import reconcile
from healer.webhook.payload import REFUSED, parse
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerConfig, HealerSettings, Node
from pgslot.snapshot import node
from tests.simulations.year.clock import Clock
from tests.simulations.year.fake_alertmanager import FakeAlertmanager
from tests.simulations.year.judge import Judge
from tests.simulations.year.servers import Servers
from tests.simulations.year.sessions import HEALER, Session

RESTART_INTERVAL = 6 * 3600.0
"""Seconds between two deaths of the healer, on average."""


class Simulation:
    """So many clusters, with all that is said about them in one place."""

    def __init__(self, clock: Clock, clusters: int, seed: int) -> None:
        self.clock = clock
        self.chance = random.Random(seed)
        names = [f"c{number}" for number in range(clusters)]
        self.config = Config(tuple(map(_cluster, names)), HealerSettings(alertmanager_url="http://alertmanager"))
        self.servers = {name: self.fresh(name) for name in names}
        self.post = FakeAlertmanager(self.chance, self._deliver)
        self.judge = Judge(self)
        self.restarts = 0
        self._episodes: EpisodeManager | None = None

    @property
    def healer_is_up(self) -> bool:
        return self._episodes is not None

    def fresh(self, cluster: str) -> Servers:
        """Return the servers of a cluster at their best."""
        chance = random.Random(self.chance.random())
        return Servers(cluster, lambda: self.clock.now, chance, lambda what: self.judge.wrong(cluster, what))

    def switch(self, cluster: str, *, on: bool) -> None:
        """Throw the kill switch of one cluster, by a reload of the configuration."""
        clusters = tuple(
            replace(each, healer=replace(each.healer, enabled=on)) if each.name == cluster and each.healer else each
            for each in self.config.clusters
        )
        self.config = replace(self.config, clusters=clusters)
        if self._episodes is not None:
            self._episodes.reconfigure(self.config)

    def silence(self, servers: Servers) -> None:
        """Silence whatever fires about a cluster."""
        about = {name for name, labels in self.post.firing.items() if labels["cluster"] == servers.name}
        self.post.silenced |= about

    async def heal(self) -> None:
        """Be the healer, for ever; die now and then, and be started again."""
        while True:
            registry = CollectorRegistry()
            metrics = HealerMetrics(registry)
            self._episodes = EpisodeManager(self.config, metrics, CapabilityMonitor(metrics))
            asking = asyncio.create_task(reconcile.Reconciler("http://alertmanager", self._episodes, metrics).run())
            try:
                await asyncio.sleep(self.chance.expovariate(1 / RESTART_INTERVAL))
            finally:
                asking.cancel()
                dying, self._episodes = self._episodes, None
                await dying.close()
            self.restarts += 1
            await asyncio.sleep(self.chance.uniform(1, 30))

    def _deliver(self, body: bytes) -> int | None:
        """As healer/app.py takes a webhook."""
        if self._episodes is None:
            return None
        actions = {self._episodes.submit(alert) for alert in parse(body).alerts}
        self.judge.actions.update(map(str, actions))
        return 503 if REFUSED & actions else 200


@contextmanager
def instead_of_servers(world: Simulation) -> Iterator[None]:
    """Have the healer look at the model, ask this Alertmanager, and tell its verdicts to the judge."""
    told: Callable[[EpisodeJournal, SlotKey, SlotProgress, Outcome], object] = EpisodeJournal.slot_ended

    def slot_ended(narrator: EpisodeJournal, subject: SlotKey, track: SlotProgress, outcome: Outcome) -> object:
        if world.healer_is_up:
            world.judge.verdict(narrator.report.cluster, subject, outcome, track.why)
        return told(narrator, subject, track, outcome)

    with (
        mock.patch.object(Session, "world", world.servers, create=True),
        mock.patch.object(node, "Session", Session),
        mock.patch.object(connection, "Session", Session),
        mock.patch.object(reconcile, "fetch_listing", world.post.listing),
        mock.patch.object(EpisodeJournal, "slot_ended", slot_ended),
    ):
        yield


def _cluster(name: str) -> Cluster:
    nodes = tuple(Node(name, each, Conninfo(f"{name}.{each}")) for each in ("a", "b"))
    return Cluster(name, nodes, HealerConfig(Conninfo(f"{name}.{HEALER}"), enabled=True, dry_run=False))
