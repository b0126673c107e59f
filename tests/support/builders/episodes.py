"""Episodes without servers: a configuration, alerts, and a manager whose metrics can be read."""

import asyncio
from pathlib import Path

import yaml
from prometheus_client import CollectorRegistry

from healer.capability import CapabilityMonitor
from healer.episodes.manager import EpisodeManager
from healer.metrics import HealerMetrics
from healer.webhook.payload import Alert
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerConfig, HealerSettings, Node
from tests.support.running_healer import until
from tests.support.servers.processes import free_port

NOWHERE = Conninfo(f"host=127.0.0.1 port={free_port()} dbname=x user=x")
SETTINGS = HealerSettings()


def healer_config(*names: str, settings: HealerSettings = SETTINGS, enabled: bool = True, why: str = "") -> Config:
    target = HealerConfig(NOWHERE, enabled, dry_run=False, disabled_reason=why)
    return Config(tuple(Cluster(name, (Node(name, "n", NOWHERE),), target) for name in names or ("c",)), settings)


def firing_alert(slot: str = "s", cluster: str = "c", *, node: str = "n", firing: bool = True) -> Alert:
    labels = {"heal": "log_standby_snapshot", "cluster": cluster, "node": node, "slot_name": slot}
    return Alert(firing, labels, f"{cluster}/{slot}")


class RecordedManager:
    """An EpisodeManager and what it records in its metrics."""

    def __init__(self, config: Config) -> None:
        registry = CollectorRegistry()
        self.metrics = HealerMetrics(registry)
        self.monitor = CapabilityMonitor(self.metrics)
        self.manager = EpisodeManager(config, self.metrics, self.monitor)
        self.value = registry.get_sample_value
        """Returns the value of a series by name and labels; None if there is no such series."""
        self.closing: asyncio.Task[None] | None = None
        """The task of manager.close(), started by a test and not awaited yet."""

    @property
    def running(self) -> int:
        """The number of episodes without an outcome."""
        return sum(report.outcome is None for report in self.manager.reports)

    async def until_idle(self) -> None:
        await until(lambda: not self.running and not self.manager.running, "no episode runs", 5)


def write_config(file: Path, *, enabled: bool) -> None:
    node = {"conninfo": NOWHERE.text}
    target = node | {"enabled": enabled}
    file.write_text(yaml.safe_dump({"clusters": {"c": {"nodes": {"standby": node}, "healer": target}}}))
