"""Checks every minute, for each cluster, whether the healer could act: problems are reported before an incident."""

import asyncio
from collections.abc import Callable, Collection, Mapping

from healer.metrics import HealerMetrics
from healer.remedies.attempt import Capability, Unavailable
from healer.remedies.base import AnyRemedy
from healer.remedies.registry import REMEDIES
from pgslot.cli.logging import get_logger
from pgslot.config.model import Cluster, HealerConfig
from pgslot.task_supervisor import TaskSupervisor

CHECK_INTERVAL = 60.0
"""Seconds from the end of one check of a cluster to the next."""
MAX_STAGGER = 0.2
"""Seconds between the first checks of two clusters, at most: those of 300 clusters are spread over a minute."""

log = get_logger(__name__)


Key = tuple[str, str]
"""A cluster's name and a remedy's."""


class CapabilityMonitor:
    """The latest capability of each cluster and remedy: in the metrics, and in the log once per change."""

    def __init__(self, metrics: HealerMetrics) -> None:
        self._metrics = metrics
        self.listener: Callable[[str, str, Capability], None] | None = None
        """Called with cluster, remedy and every capability that a check or an attempt has shown."""
        self._targets: dict[str, HealerConfig] = {}
        self._capabilities: dict[Key, Capability] = {}
        self._checks: dict[str, TaskSupervisor] = {}
        """By cluster; one task for each of its remedies."""

    @property
    def capabilities(self) -> Mapping[Key, Capability]:
        """Results of the last checks; absent: not checked yet."""
        return self._capabilities

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the tasks that ended by an internal error, of clusters that are still watched."""
        return tuple(name for checks in self._checks.values() for name in checks.failed)

    def watch(self, clusters: Collection[Cluster]) -> None:
        """
        Check exactly these clusters from now on; a check that hangs delays no other.

        A cluster whose `healer` section has changed starts over: its last result says nothing about the new one.
        """
        targets = {cluster.name: cluster.healer for cluster in clusters if cluster.healer is not None}
        changed = {name for name, target in self._targets.items() if targets.get(name) != target}
        for name in changed:
            self._checks.pop(name).cancel()
            before = self._targets.pop(name)
            for remedy in REMEDIES:
                self._capabilities.pop((name, remedy), None)
            if name in targets:
                self._metrics.remove_disabled(name, before)
            else:
                self._metrics.remove_cluster(name, REMEDIES, before)
        added = [cluster for cluster in clusters if cluster.name in targets and cluster.name not in self._targets]
        for i, cluster in enumerate(added):
            if cluster.name in changed:
                self._remove_unconfigured_remedies(cluster)
            self._start_checks(cluster, targets[cluster.name], i * min(MAX_STAGGER, CHECK_INTERVAL / len(added)))

    def _remove_unconfigured_remedies(self, cluster: Cluster) -> None:
        for remedy in REMEDIES.values():
            if remedy.target(cluster) is None:
                self._metrics.remove_remedy(cluster.name, remedy.name)

    def _start_checks(self, cluster: Cluster, target: HealerConfig, delay: float) -> None:
        name = cluster.name
        self._targets[name] = target
        configured = {
            remedy: remedy_target
            for remedy in REMEDIES.values()
            if (remedy_target := remedy.target(cluster)) is not None
        }
        self._metrics.add_cluster(name, [remedy.name for remedy in configured], target)
        checks = self._checks[name] = TaskSupervisor()
        for remedy, remedy_target in configured.items():
            self._metrics.set_in_force(name, remedy, remedy_target)
            checks.start(
                self._check_repeatedly(name, remedy, remedy_target, delay), f"capability check of {name}: {remedy.name}"
            )

    async def close(self) -> None:
        """Stop all checks."""
        for checks in self._checks.values():
            checks.cancel()
        for checks in self._checks.values():
            await checks.close()

    def note(self, cluster: Cluster, remedy: AnyRemedy, capability: Capability) -> None:
        """Take over what an attempt to act has shown, unless the cluster's configuration has changed since."""
        if self._targets.get(cluster.name) == cluster.healer:
            target = remedy.target(cluster)
            self._update(cluster.name, remedy, capability, dry_run=target is not None and target.dry_run)

    def _update(self, cluster: str, remedy: AnyRemedy, capability: Capability, *, dry_run: bool) -> None:
        before = self._capabilities.get((cluster, remedy.name))
        self._capabilities[cluster, remedy.name] = capability
        self._metrics.set_capability(cluster, remedy.name, capability)
        if self.listener is not None:
            self.listener(cluster, remedy.name, capability)
        if before is not None and before.reason == capability.reason:
            return
        fields = {"cluster": cluster, "heal": remedy.name}
        if capability.reason is Unavailable.DISABLED:
            log.info("healing is switched off for this cluster", **fields, setting=capability.advice)
        elif capability.reason is not None:
            reason, advice = f"{capability.reason}", capability.advice
            log.warning("healing is not possible for this cluster", **fields, reason=reason, remedy=advice)
        elif dry_run:
            log.info("healing is possible for this cluster, but dry_run: true: nothing is called", **fields)
        else:
            log.info("healing is possible for this cluster", **fields)

    async def _check_repeatedly(self, cluster: str, remedy: AnyRemedy, target: HealerConfig, delay: float) -> None:
        # A check of a target that is switched off asks no server, and needs no delay.
        await asyncio.sleep(delay if target.enabled else 0.0)
        while True:
            self._update(cluster, remedy, await remedy.check(target), dry_run=target.dry_run)
            await asyncio.sleep(CHECK_INTERVAL)
