"""The alerts reference, from alerts/pgslot.rules.yml."""

import re
from pathlib import Path
from typing import Any

import yaml

from docs.generators.markdown import table

ALERTS = Path(__file__).parents[2] / "alerts"
_FIRES = re.compile(r"^\*\*Fires(?: when)?\*\* (.*?)\n\n", re.MULTILINE | re.DOTALL)
_HEAD = """# Alerts

Generated from `alerts/pgslot.rules.yml` and the runbooks by `make docs-reference`; do not edit.

Each alert has a runbook, which the exporter serves at `/runbooks/ALERT`. The column *to* says who receives it with the
routing of `alerts/alertmanager.yml`: people, the healer, or the healer first and people after two minutes.
"""


def alerts_page() -> str:
    """Return the page: one row for each alert, in the order of the file."""
    groups = yaml.load((ALERTS / "pgslot.rules.yml").read_text("utf-8"), yaml.CSafeLoader)["groups"]
    rows = [_row(rule) for group in groups for rule in group["rules"] if "alert" in rule]
    return f"{_HEAD}\n{table(('alert', 'severity', 'to', 'fires when'), rows)}"


def _row(rule: dict[str, Any]) -> tuple[str, ...]:
    name, labels = rule["alert"], rule["labels"]
    link = f"[{name}](../../alerts/runbooks/{name}.md)"
    return link, labels.get("severity", ""), _receivers(labels), _fires_when(name)


def _fires_when(alert: str) -> str:
    """Return the sentence of the alert's runbook. Raises ValueError if it has none."""
    match = _FIRES.search((ALERTS / f"runbooks/{alert}.md").read_text("utf-8"))
    if match is None:
        raise ValueError(f"{alert}.md: expected a paragraph that begins with **Fires when**, found none")
    return " ".join(match[1].split())


def _receivers(labels: dict[str, str]) -> str:
    if labels.get("audience") == "healer" or "heartbeat" in labels:
        return "healer"
    if "heal" in labels:
        return f"healer (`{labels['heal']}`), people"
    return "people"
