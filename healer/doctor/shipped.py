"""The alerting rules that come with this version, and the alerts that they would make."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

import yaml

from exporter.config import Config
from healer.alerts import HEAL_ACTION, HEAL_LABEL

EXPORTER_JOB = "pgslot-exporter"
HEALER_JOB = "pgslot-healer"
"""job_name in the shipped alerts/prometheus.yml, which the rules rely on."""

ANY_SLOT = "any_slot"


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of alerts/pgslot.rules.yml."""

    name: str
    """`alert` or `record`."""
    expression: str
    labels: tuple[tuple[str, str], ...]

    @property
    def heals(self) -> bool:
        """Its alerts are meant for the healer."""
        return (HEAL_LABEL, HEAL_ACTION) in self.labels


@cache
def rules() -> tuple[Rule, ...]:
    """Return the shipped rules."""
    groups = yaml.safe_load(_file().read_text("utf-8"))["groups"]
    return tuple(
        Rule(rule.get("alert") or rule["record"], rule["expr"], tuple(rule.get("labels", {}).items()))
        for group in groups
        for rule in group["rules"]
    )


def heal_alerts(config: Config) -> Iterator[dict[str, str]]:
    """Return the labels of each alert that the healer has to hear of: each such rule for each node that it heals."""
    for rule in rules():
        if not rule.heals:
            continue
        for cluster in config.clusters:
            if cluster.healer is None:
                continue
            for node in cluster.nodes:
                yield {
                    "alertname": rule.name,
                    "cluster": cluster.name,
                    "node": node.name,
                    "slot_name": ANY_SLOT,
                    "database": "postgres",
                    "job": EXPORTER_JOB,
                    **dict(rule.labels),
                }


def _file() -> Path:
    """Where the rules are: in an installed package, or beside the code in a checkout."""
    here = Path(str(files("healer")))
    installed = here / "pgslot.rules.yml"
    return installed if installed.is_file() else here.parent / "alerts" / "pgslot.rules.yml"
