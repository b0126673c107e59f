"""The alerting rules of this version, and the alerts for the healer that they can fire."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import yaml

from healer.doctor.checks.routing import parse_seconds
from healer.remedies.base import AnyRemedy
from healer.remedies.registry import REMEDIES
from healer.webhook.payload import HEAL_LABEL
from pgslot.alerting_rules import alerting_rules
from pgslot.config.model import Config

EXPORTER_JOB = "pgslot-exporter"
HEALER_JOB = "pgslot-healer"
"""job_name in the shipped alerts/prometheus.yml; PgSlotExporterDown and PgSlotHealerDown rely on them."""

HEARTBEAT_LABEL = "heartbeat"
HEARTBEAT = (HEARTBEAT_LABEL, "pgslot-healer")
ANY_SLOT = "any_slot"
"""Stands for any slot's name."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule of alerts/pgslot.rules.yml."""

    name: str
    """Its `alert` or `record`."""
    expression: str
    labels: tuple[tuple[str, str], ...]
    annotations: tuple[tuple[str, str], ...]
    hold_seconds: float
    """Its `for`; 0 without."""
    keep_firing_seconds: float
    """Its `keep_firing_for`; 0 without."""
    group: str
    interval_seconds: float | None
    """Its group's interval; None: Prometheus' evaluation_interval."""

    @property
    def remedy(self) -> AnyRemedy | None:
        """What the healer does about its alerts; None: nothing."""
        return REMEDIES.get(dict(self.labels).get(HEAL_LABEL, ""))

    @property
    def heartbeat(self) -> bool:
        """Whether it always fires, which shows the healer that alerts reach it."""
        return HEARTBEAT in self.labels


@cache
def rules() -> tuple[Rule, ...]:
    """Return the shipped rules."""
    return tuple(
        Rule(
            name=rule.get("alert") or rule["record"],
            expression=rule["expr"],
            labels=tuple(rule.get("labels", {}).items()),
            annotations=tuple(rule.get("annotations", {}).items()),
            hold_seconds=parse_seconds(rule.get("for", "0s")),
            keep_firing_seconds=parse_seconds(rule.get("keep_firing_for", "0s")),
            group=group["name"],
            interval_seconds=parse_seconds(group["interval"]) if "interval" in group else None,
        )
        for group in yaml.safe_load(alerting_rules())["groups"]
        for rule in group["rules"]
    )


def alerts_for_healer(config: Config) -> Iterator[dict[str, str]]:
    """Return the labels of each alert that has to reach the healer, with ANY_SLOT as the slot's name."""
    for rule in rules():
        if rule.heartbeat:
            yield {"alertname": rule.name, **dict(rule.labels)}
        if rule.remedy is None:
            continue
        for cluster in config.clusters:
            for node in cluster.nodes if rule.remedy.target(cluster) is not None else ():
                yield {
                    "alertname": rule.name,
                    "cluster": cluster.name,
                    "node": node.name,
                    "slot_name": ANY_SLOT,
                    "database": "postgres",
                    **dict(rule.labels),
                }
