"""Keeps up to date, for each cluster, whether the healer could act: the one-time notice, before the incident."""

import asyncio
import logging
from collections.abc import Mapping

from exporter.config import HealerTarget
from exporter.log import event
from healer.metrics import HealerMetrics
from healer.primary import Capability, check

INTERVAL = 60.0

_log = logging.getLogger(__name__)


class CapabilityMonitor:
    """Checks each cluster at start and every minute; logs once per change."""

    def __init__(self, targets: Mapping[str, HealerTarget], metrics: HealerMetrics) -> None:
        self._targets = targets
        self._metrics = metrics
        self._known: dict[str, Capability] = {}

    @property
    def known(self) -> Mapping[str, Capability]:
        """What the last check of each cluster said; a cluster not checked yet is absent."""
        return self._known

    @property
    def complete(self) -> bool:
        return len(self._known) == len(self._targets)

    async def run(self) -> None:
        """Check all clusters, again and again, until cancelled; a hanging cluster does not delay the others."""
        async with asyncio.TaskGroup() as group:
            for cluster, target in self._targets.items():
                group.create_task(self._watch(cluster, target))

    def note(self, cluster: str, capability: Capability) -> None:
        """Take in what a check, or an attempt to act, has shown."""
        before = self._known.get(cluster)
        self._known[cluster] = capability
        self._metrics.set_capability(cluster, capability)
        if before is not None and before.reason == capability.reason:
            return
        if capability.reason is not None:
            event(
                _log,
                logging.WARNING,
                "cannot heal this cluster if it has to be",
                cluster=cluster,
                reason=f"{capability.reason}",
                remedy=capability.remedy,
            )
        else:
            event(_log, logging.INFO, "can heal this cluster if it has to be", cluster=cluster)

    async def _watch(self, cluster: str, target: HealerTarget) -> None:
        while True:
            self.note(cluster, await check(target))
            await asyncio.sleep(INTERVAL)
