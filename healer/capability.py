"""Keeps up to date, for each cluster, whether the healer could act: the one-time notice, before the incident."""

import asyncio
import logging
from collections.abc import Mapping

from exporter.config import HealerTarget
from exporter.log import event
from healer.calls import Capability
from healer.metrics import HealerMetrics
from healer.primary import check

INTERVAL = 60.0
SPREAD = 0.2
"""Seconds between the first checks of two clusters, at most: 300 of them are spread over the whole minute."""

_log = logging.getLogger(__name__)


class CapabilityMonitor:
    """Checks each cluster at start and every minute; logs once per change."""

    def __init__(self, metrics: HealerMetrics) -> None:
        self._metrics = metrics
        self._targets: dict[str, HealerTarget] = {}
        self._known: dict[str, Capability] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}

    @property
    def known(self) -> Mapping[str, Capability]:
        """What the last check of each cluster said; a cluster not checked yet is absent."""
        return self._known

    @property
    def defect(self) -> bool:
        """A watch has ended, which only a defect of ours can make it do."""
        return any(watch.done() for watch in self._watches.values())

    def watch(self, targets: Mapping[str, HealerTarget]) -> None:
        """Watch these clusters from now on, those whose target has changed anew; a hanging one delays no other."""
        for cluster in [name for name, target in self._targets.items() if targets.get(name) != target]:
            self._watches.pop(cluster).cancel()
            before = self._targets.pop(cluster)
            self._known.pop(cluster, None)
            if cluster in targets:
                self._metrics.enabled_again(cluster, before)
            else:
                self._metrics.forget(cluster, before)
        news = [cluster for cluster in targets if cluster not in self._targets]
        for i, cluster in enumerate(news):
            target = self._targets[cluster] = targets[cluster]
            self._metrics.expect(cluster, target)
            delay = i * min(SPREAD, INTERVAL / len(news))
            self._watches[cluster] = asyncio.create_task(self._watch(cluster, target, delay))
            self._watches[cluster].add_done_callback(_report_defect)

    async def close(self) -> None:
        """End all watches."""
        for watch in self._watches.values():
            watch.cancel()
        await asyncio.gather(*self._watches.values(), return_exceptions=True)

    def note(self, cluster: str, target: HealerTarget, capability: Capability) -> None:
        """Take in what a check of this target, or an attempt to act on it, has shown; an outdated one tells nothing."""
        if self._targets.get(cluster) != target:
            return
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

    async def _watch(self, cluster: str, target: HealerTarget, delay: float) -> None:
        # Switched off is known at once: nothing is asked for it.
        await asyncio.sleep(delay if target.enabled else 0.0)
        while True:
            self.note(cluster, target, await check(target))
            await asyncio.sleep(INTERVAL)


def _report_defect(watch: asyncio.Task[None]) -> None:
    if not watch.cancelled() and watch.exception() is not None:
        _log.critical("the capability of a cluster is no longer checked: a defect", exc_info=watch.exception())
