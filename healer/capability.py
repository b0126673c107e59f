"""Keeps up to date, for each cluster, whether the healer could act: the one-time notice, before the incident."""

import asyncio
from collections.abc import Collection, Mapping

from healer.metrics import HealerMetrics
from healer.remedies.attempt import Capability
from healer.remedies.base import AnyRemedy
from healer.remedies.registry import REMEDIES
from pgslot.cli.logging import get_logger
from pgslot.config.model import Cluster, HealerConfig

INTERVAL = 60.0
SPREAD = 0.2
"""Seconds between the first checks of two clusters, at most: 300 of them are spread over the whole minute."""

log = get_logger(__name__)


Key = tuple[str, str]
"""A cluster, and a remedy by its name."""


class CapabilityMonitor:
    """Checks each remedy of each cluster at start and every minute; logs once per change."""

    def __init__(self, metrics: HealerMetrics) -> None:
        self._metrics = metrics
        self._targets: dict[str, HealerConfig] = {}
        self._known: dict[Key, Capability] = {}
        self._watches: dict[str, list[asyncio.Task[None]]] = {}

    @property
    def known(self) -> Mapping[Key, Capability]:
        """What the last check of each cluster and remedy said; what was not checked yet is absent."""
        return self._known

    @property
    def defect(self) -> bool:
        """A watch has ended, which only a defect of ours can make it do."""
        return any(watch.done() for watches in self._watches.values() for watch in watches)

    def watch(self, clusters: Collection[Cluster]) -> None:
        """Watch these clusters from now on, those whose target has changed anew; a hanging one delays no other."""
        targets = {cluster.name: cluster.healer for cluster in clusters if cluster.healer is not None}
        changed = {name for name, target in self._targets.items() if targets.get(name) != target}
        for name in changed:
            for watch in self._watches.pop(name):
                watch.cancel()
            before = self._targets.pop(name)
            for remedy in REMEDIES:
                self._known.pop((name, remedy), None)
            if name in targets:
                self._metrics.enabled_again(name, before)
            else:
                self._metrics.forget(name, REMEDIES, before)
        news = [cluster for cluster in clusters if cluster.name in targets and cluster.name not in self._targets]
        for i, cluster in enumerate(news):
            if cluster.name in changed:
                self._forget_remedies(cluster)
            self._begin(cluster, targets[cluster.name], i * min(SPREAD, INTERVAL / len(news)))

    def _forget_remedies(self, cluster: Cluster) -> None:
        """Take away the series of those that are set up there no more."""
        for remedy in REMEDIES.values():
            if remedy.target(cluster) is None:
                self._metrics.no_remedy(cluster.name, remedy.name)

    def _begin(self, cluster: Cluster, target: HealerConfig, delay: float) -> None:
        name = cluster.name
        self._targets[name] = target
        acting = {remedy: acts_as for remedy in REMEDIES.values() if (acts_as := remedy.target(cluster)) is not None}
        self._metrics.expect(name, [remedy.name for remedy in acting], target)
        self._watches[name] = [
            asyncio.create_task(self._watch(name, remedy, acts_as, delay)) for remedy, acts_as in acting.items()
        ]
        for watch in self._watches[name]:
            watch.add_done_callback(_report_defect)

    async def close(self) -> None:
        """End all watches."""
        watches = [watch for watches in self._watches.values() for watch in watches]
        for watch in watches:
            watch.cancel()
        await asyncio.gather(*watches, return_exceptions=True)

    def note(self, cluster: Cluster, remedy: AnyRemedy, capability: Capability) -> None:
        """Take in what an attempt to act has shown; one as of another configuration tells nothing."""
        if self._targets.get(cluster.name) == cluster.healer:
            self._take_in(cluster.name, remedy, capability)

    def _take_in(self, cluster: str, remedy: AnyRemedy, capability: Capability) -> None:
        before = self._known.get((cluster, remedy.name))
        self._known[cluster, remedy.name] = capability
        self._metrics.set_capability(cluster, remedy.name, capability)
        if before is not None and before.reason == capability.reason:
            return
        if capability.reason is not None:
            log.warning(
                "cannot heal this cluster if it has to be",
                cluster=cluster,
                heal=remedy.name,
                reason=f"{capability.reason}",
                remedy=capability.advice,
            )
        else:
            log.info("can heal this cluster if it has to be", cluster=cluster, heal=remedy.name)

    async def _watch(self, cluster: str, remedy: AnyRemedy, target: HealerConfig, delay: float) -> None:
        # Switched off is known at once: nothing is asked for it.
        await asyncio.sleep(delay if target.enabled else 0.0)
        while True:
            self._take_in(cluster, remedy, await remedy.check(target))
            await asyncio.sleep(INTERVAL)


def _report_defect(watch: asyncio.Task[None]) -> None:
    if not watch.cancelled() and watch.exception() is not None:
        log.critical("the capability of a cluster is no longer checked: a defect", exc=watch.exception())
