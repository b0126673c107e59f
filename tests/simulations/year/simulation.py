"""The whole simulation: model clusters, their incidents, a fake Alertmanager, and the real healer."""

import asyncio
import contextlib
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
from healer.remedies.attempt import AttemptResult
from healer.remedies.progress import Outcome, SlotProgress
from healer.remedies.slot_state import SlotKey
from healer.remedies.terminate.remedy import EndTransaction
from healer.webhook import deadlines, reconcile
from healer.webhook.payload import REFUSED, parse
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerConfig, HealerSettings, Node, TerminationConfig
from pgslot.postgres import login
from tests.simulations.terminations.act_statement import ActStatement
from tests.simulations.terminations.cluster import POLICY, BlockedCluster
from tests.simulations.terminations.judge import TerminationJudge
from tests.simulations.year.clock import Clock
from tests.simulations.year.fake_alertmanager import FakeAlertmanager
from tests.simulations.year.judge import Judge
from tests.simulations.year.servers import Servers
from tests.simulations.year.sessions import HEALER, Session

RESTART_INTERVAL = 6 * 3600.0
"""Seconds between two restarts of the healer, on average."""


class Simulation:
    """The clusters, their Alertmanager, the judge, and the healer."""

    def __init__(self, clock: Clock, clusters: int, seed: int, statement: ActStatement | None) -> None:
        self.clock = clock
        self._statement = statement
        self.chance = random.Random(seed)
        names = [f"c{number}" for number in range(clusters)]
        self.config = Config(tuple(map(_cluster, names)), HealerSettings(alertmanager_url="http://alertmanager"))
        self.servers = {name: self.fresh(name) for name in names}
        self.alertmanager = FakeAlertmanager(self.chance, self._deliver)
        self.judge = Judge(self)
        self.termination_judge = TerminationJudge()
        self.restarts = 0
        self._restart = asyncio.Event()
        self._episodes: EpisodeManager | None = None

    @property
    def healer_is_up(self) -> bool:
        return self._episodes is not None

    def fresh(self, cluster: str) -> Servers:
        """Return healthy servers of a cluster."""
        chance = random.Random(self.chance.random())
        return Servers(cluster, lambda: self.clock.now, chance, lambda what: self.judge.record_mistake(cluster, what))

    def fresh_blocked(self, cluster: str, kind: str) -> BlockedCluster:
        """Return servers for an incident of the remedy end_transaction."""
        assert self._statement is not None, "these incidents need a server for the statement"
        chance = random.Random(self.chance.random())

        def record_mistake(what: str) -> None:
            self.judge.record_mistake(cluster, what)

        return BlockedCluster(
            cluster,
            lambda: self.clock.now,
            chance,
            record_mistake,
            judge=self.termination_judge,
            statement=self._statement,
            kind=kind,
        )

    def switch(self, cluster: str, *, on: bool) -> None:
        """Set the kill switch of a cluster by a reload of the configuration."""
        clusters = tuple(
            replace(cluster_config, healer=replace(cluster_config.healer, enabled=on))
            if cluster_config.name == cluster and cluster_config.healer
            else cluster_config
            for cluster_config in self.config.clusters
        )
        self.config = replace(self.config, clusters=clusters)
        if self._episodes is not None:
            self._episodes.reconfigure(self.config)

    def silence(self, servers: Servers) -> None:
        """Silence all firing alerts of a cluster."""
        fingerprints = {name for name, labels in self.alertmanager.firing.items() if labels["cluster"] == servers.name}
        self.alertmanager.silenced |= fingerprints

    def restart_healer(self) -> None:
        """Stop the healer now, as SIGTERM does, and start it again after some seconds."""
        self._restart.set()

    async def heal(self) -> None:
        """Run the healer until cancelled; stop and restart it at random times."""
        while True:
            registry = CollectorRegistry()
            metrics = HealerMetrics(registry)
            self._episodes = EpisodeManager(self.config, metrics, CapabilityMonitor(metrics))
            reconciling = asyncio.create_task(
                reconcile.Reconciler("http://alertmanager", self._episodes, metrics).run()
            )
            try:
                self._restart.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self.chance.expovariate(1 / RESTART_INTERVAL)):
                        await self._restart.wait()
            finally:
                reconciling.cancel()
                stopped, self._episodes = self._episodes, None
                await stopped.close()
                self.termination_judge.told += _results_told(registry, AttemptResult.ENDED)
                self.termination_judge.in_doubt += _results_told(registry, AttemptResult.IN_DOUBT)
            self.restarts += 1
            self.termination_judge.process = self.restarts
            await asyncio.sleep(self.chance.uniform(1, 30))

    def _deliver(self, body: bytes) -> int | None:
        """Submit a webhook to the healer, as healer/app.py does."""
        if self._episodes is None:
            return None
        actions = {self._episodes.submit(alert) for alert in parse(body).alerts}
        self.judge.actions.update(map(str, actions))
        return 503 if REFUSED & actions else 200


@contextmanager
def connected_to_model(simulation: Simulation) -> Iterator[None]:
    """Connect the healer to the model and the fake Alertmanager, and report its outcomes to the judge."""
    original_slot_ended: Callable[[EpisodeJournal, SlotKey, SlotProgress, Outcome], object] = EpisodeJournal.slot_ended

    def slot_ended(narrator: EpisodeJournal, subject: SlotKey, track: SlotProgress, outcome: Outcome) -> object:
        cluster = narrator.report.cluster
        servers = simulation.servers[cluster]
        if isinstance(servers, BlockedCluster):
            if narrator.report.remedy == EndTransaction.name:
                began = simulation.clock.now - (track.now - track.since)
                simulation.termination_judge.verdict(servers, subject, outcome, track.why, since=began)
        elif simulation.healer_is_up:
            simulation.judge.verdict(cluster, subject, outcome, track.why)
        return original_slot_ended(narrator, subject, track, outcome)

    with (
        mock.patch.object(Session, "clusters", simulation.servers, create=True),
        mock.patch.object(login, "Session", Session),
        mock.patch.object(reconcile, "ListedAlerts", return_value=simulation.alertmanager),
        # A year has 30 million seconds.
        mock.patch.object(deadlines, "LISTING_INTERVAL_SECONDS", 5.0),
        mock.patch.object(EpisodeJournal, "slot_ended", slot_ended),
    ):
        yield


def _cluster(name: str) -> Cluster:
    nodes = tuple(Node(name, node_name, Conninfo(f"{name}.{node_name}")) for node_name in ("a", "b"))
    conninfo = Conninfo(f"{name}.{HEALER}")
    termination = TerminationConfig(conninfo, POLICY)
    return Cluster(name, nodes, HealerConfig(conninfo, enabled=True, dry_run=False, termination=termination))


def _results_told(registry: CollectorRegistry, result: AttemptResult) -> int:
    """Return how many acts had this result, by a healer's metrics."""
    wanted = {"remedy": EndTransaction.name, "result": str(result)}
    return sum(
        int(sample.value)
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "pgslot_heal_calls_total" and wanted.items() <= sample.labels.items()
    )
