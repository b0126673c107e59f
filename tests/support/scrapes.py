"""Scrapes of the exporter: a configuration, the request, the parsed series, and the probes' statuses."""

import time
from collections.abc import Callable
from typing import Any

from aiohttp.test_utils import TestClient
from prometheus_client.parser import text_string_to_metric_families

from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerSettings, Node
from pgslot.config.reload import ConfigReloader

Client = TestClient[Any, Any]

PRIMARY, STANDBY = "n0", "n1"
"""The names that configuration() gives to its nodes."""


class Metrics:
    """The series of a scrape."""

    def __init__(self, series: dict[str, dict[tuple[tuple[str, str], ...], float]]) -> None:
        self.series = series

    def found(self, name: str, **labels: str) -> list[tuple[dict[str, str], float]]:
        series = [(dict(key), value) for key, value in self.series.get(name, {}).items()]
        return [(series_labels, value) for series_labels, value in series if labels.items() <= series_labels.items()]

    def value(self, name: str, **labels: str) -> float | None:
        """Return the value of the only series with these labels; None if there is none."""
        matching = self.found(name, **labels)
        assert len(matching) <= 1, matching
        return matching[0][1] if matching else None

    def labels(self, name: str, **labels: str) -> dict[str, str]:
        [(series_labels, _)] = self.found(name, **labels)
        return series_labels

    def state(self, name: str, label: str, **labels: str) -> str | None:
        """Return the value of `label` in the only series that is 1; None if all are 0."""
        states = [series_labels[label] for series_labels, value in self.found(name, **labels) if value == 1]
        assert len(states) <= 1, states
        return states[0] if states else None

    def reasons(self) -> dict[str, str | None]:
        """Return slot -> why its creation waits."""
        slots = {series_labels["slot_name"] for series_labels, _ in self.found("pgslot_creation_wait_reason")}
        return {slot: self.state("pgslot_creation_wait_reason", "reason", slot_name=slot) for slot in slots}

    def transactions(self, node: str) -> dict[str, float]:
        return {
            series_labels["kind"]: value
            for series_labels, value in self.found("pgslot_transactions", node=node)
            if value
        }


async def scrape_until(client: Client, condition: Callable[[Metrics], Any], timeout: float = 15.0) -> Metrics:
    """Scrape until the condition holds; return that scrape."""
    deadline = time.monotonic() + timeout
    while True:
        metrics = Metrics(await scrape(client))
        if condition(metrics):
            return metrics
        assert time.monotonic() < deadline, (metrics.reasons(), metrics.series)


def exporter_config(*conninfos: str) -> Config:
    nodes = tuple(Node("c", f"n{i}", Conninfo(conninfo)) for i, conninfo in enumerate(conninfos))
    return Config((Cluster("c", nodes, None),), HealerSettings())


def config_reloader(*conninfos: str) -> ConfigReloader:
    return ConfigReloader(lambda: exporter_config(*conninfos), exporter_config(*conninfos))


async def scrape(client: Client, timeout: float = 10) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return metric name -> labels -> value."""
    answer = await client.get("/metrics", headers={"X-Prometheus-Scrape-Timeout-Seconds": str(timeout)})
    assert answer.status == 200
    return parse_series(await answer.text())


def parse_series(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    series: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            series.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return series


def probe_status(metrics: dict[str, dict[tuple[tuple[str, str], ...], float]], node: str, probe: str) -> str:
    [status] = [
        dict(labels)["status"]
        for labels, value in metrics["pgslot_probe_status"].items()
        if value == 1 and (dict(labels)["node"], dict(labels)["probe"]) == (node, probe)
    ]
    return status


async def get_metrics(client: Client, path: str) -> Metrics:
    answer = await client.get(path)
    text = await answer.text()
    assert answer.status == 200, text
    return Metrics(parse_series(text))
