"""The dashboards' JSON: panels, queries, variables, and the queries that Grafana sends with all values chosen."""

import json
import re
from dataclasses import dataclass
from typing import Any

from tests.support.paths import ROOT

FOLDER = ROOT / "dashboards/json"
DASHBOARDS: dict[str, dict[str, Any]] = {
    name: json.loads((FOLDER / f"{name}.json").read_text("utf-8")) for name in ("pgslot-fleet", "pgslot-cluster")
}
_SUBSTITUTES = {
    '="$cluster"': '=~".+"',  # a user selects one cluster; which one has data differs by panel
    "$__rate_interval": "1m",
    "$__range": "1h",
    "$cluster": ".+",
    "$node": ".+",
    "$slot": ".+",
}


@dataclass(frozen=True)
class Target:
    """One query of a panel."""

    board: str
    panel: dict[str, Any]
    target: dict[str, Any]

    @property
    def expr(self) -> str:
        return str(self.target["expr"])

    @property
    def name(self) -> str:
        return f"{self.board} {self.panel['title']} {self.target['refId']}"


def panels(board: str) -> list[dict[str, Any]]:
    """Return the panels, without rows."""
    return [panel for panel in DASHBOARDS[board]["panels"] if panel["type"] != "row"]


def variables(board: str) -> dict[str, dict[str, Any]]:
    return {variable["name"]: variable for variable in DASHBOARDS[board]["templating"]["list"]}


def substituted(expr: str) -> str:
    for variable, value in _SUBSTITUTES.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr, expr
    return expr


def selectors(expr: str) -> list[tuple[str, dict[str, str]]]:
    """Return each metric that a query reads, with its matchers as label -> operator and value."""
    pairs = []
    for metric, matchers in re.findall(r"\b((?:[a-z]+:)?pgslot_\w+(?::\w+)?|ALERTS\w*)\b(?:\{([^}]*)\})?", expr):
        pairs.append((metric, dict(re.findall(r'(\w+)((?:=~|!~|!=|=)"[^"]*")', matchers))))
    return pairs


def grouped_by(expr: str) -> set[str]:
    """Return the labels that a query aggregates by or matches on."""
    lists = re.findall(r"\b(?:by|on)\s*\(([^)]*)\)", expr)
    return {label.strip() for labels in lists for label in labels.split(",") if label.strip()}


PANELS = [(board, panel) for board in DASHBOARDS for panel in panels(board)]
TARGETS = [Target(board, panel, target) for board, panel in PANELS for target in panel["targets"]]
ANNOTATIONS = [
    (board, annotation) for board, definition in DASHBOARDS.items() for annotation in definition["annotations"]["list"]
]
