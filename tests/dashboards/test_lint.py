"""The JSON keeps the rules of grafana/dashboard-linter; json/.lint lists the exclusions with their reasons."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.dashboards import DASHBOARDS, FOLDER, panels, selectors, substituted, variables
from tests.support.documents import read_yaml
from tests.support.paths import ROOT

Board = dict[str, Any]
PANEL_TYPES = {"stat", "timeseries", "table", "gauge", "graph"}
UNITS = {
    "none",
    "string",
    "short",
    "percent",
    "percentunit",
    "bytes",
    "Bps",
    "s",
    "ms",
    "dateTimeFromNow",
    "bool_yes_no",
}
"""The units of Grafana that a panel may have; look a new unit up in Grafana's list before you add it."""
RANGED = re.compile(r"(\w+)\(\s*(\w+)(?:\{[^}]*\})?\[([^\]]*)\]")


def visible_panels(board: Board) -> list[dict[str, Any]]:
    return [panel for panel in board["panels"] if panel["type"] in PANEL_TYPES]


def exprs(board: Board) -> Iterator[tuple[str, str]]:
    for panel in visible_panels(board):
        for target in panel.get("targets", []):
            yield panel["title"], target["expr"]


def template_datasource(board: Board) -> Iterator[str]:
    sources = [variable for variable in board["templating"]["list"] if variable["type"] == "datasource"]
    if [(variable["name"], variable["label"], variable["query"]) for variable in sources] != [
        ("datasource", "Data source", "prometheus")
    ]:
        yield f"data source variables: {sources}"


def template(name: str) -> Callable[[Board], Iterator[str]]:
    def rule(board: Board) -> Iterator[str]:
        named = [variable for variable in board["templating"]["list"] if variable["name"] == name]
        if not named:
            yield f"no variable {name}"
        for variable in named:
            expected = {"type": "query", "label": name.title(), "multi": True, "allValue": ".+"}
            if expected.items() - variable.items() or variable["datasource"]["uid"] != "${datasource}":
                yield f"{variable} is not {expected}"

    return rule


def template_label_promql(board: Board) -> Iterator[str]:
    for variable in board["templating"]["list"]:
        if variable["type"] == "query" and not re.fullmatch(r"label_values\(.+, \w+\)", variable["query"]):
            yield variable["query"]


def template_on_time_change_reload(board: Board) -> Iterator[str]:
    for variable in board["templating"]["list"]:
        if variable["type"] == "query" and variable["refresh"] != 2:
            yield variable["name"]


def panel_datasource(board: Board) -> Iterator[str]:
    for panel in visible_panels(board):
        for source in (panel, *panel["targets"]):
            if source.get("datasource") != {"type": "prometheus", "uid": "${datasource}"}:
                yield panel["title"]


def panel_title_description(board: Board) -> Iterator[str]:
    for panel in visible_panels(board):
        if not panel.get("title") or not panel.get("description"):
            yield f"panel {panel['id']}"


def panel_units(board: Board) -> Iterator[str]:
    """Stricter than the linter: it covers tables and every override, and value mappings do not exempt a panel."""
    for panel in visible_panels(board):
        config = panel["fieldConfig"]
        units = [config["defaults"].get("unit")]
        for override in config["overrides"]:
            units += [part["value"] for part in override["properties"] if part["id"] == "unit"]
        for unit in units:
            if unit not in UNITS:
                yield f"{panel['title']}: {unit}"


def panel_no_targets(board: Board) -> Iterator[str]:
    for panel in visible_panels(board):
        refs = [target["refId"] for target in panel.get("targets", [])]
        if not refs or len(set(refs)) != len(refs):
            yield f"{panel['title']}: {refs}"


def target_promql(board: Board) -> Iterator[str]:
    """Queries are not empty; promtool checks their syntax."""
    for title, expr in exprs(board):
        if not expr:
            yield title


def target_rate_interval(board: Board) -> Iterator[str]:
    """Stricter than the linter: only increase may use $__range, and no function another range."""
    for title, expr in exprs(board):
        for function, _, span in RANGED.findall(expr):
            allowed = {"increase": {"$__rate_interval", "$__range"}, "rate": {"$__rate_interval"}}
            if function in {"rate", "irate", "increase"} and span not in allowed.get(function, set()):
                yield f"{title}: {function} over {span}"


def target_matcher(name: str) -> Callable[[Board], Iterator[str]]:
    def rule(board: Board) -> Iterator[str]:
        for title, expr in exprs(board):
            for metric, matchers in selectors(expr):
                if matchers.get(name) != f'=~"${name}"':
                    yield f"{title}: {metric}"

    return rule


def target_counter_agg(board: Board) -> Iterator[str]:
    for title, expr in exprs(board):
        counters = re.findall(r"pgslot_\w+(?:_total|_bucket)\b", expr)
        ranged = [metric for function, metric, _ in RANGED.findall(expr) if function in {"rate", "irate", "increase"}]
        if counters != [metric for metric in ranged if metric in counters]:
            yield f"{title}: {counters}"


def uneditable(board: Board) -> Iterator[str]:
    if board["editable"] is not False:
        yield "editable"


RULES: dict[str, Callable[[Board], Iterator[str]]] = {
    "template-datasource-rule": template_datasource,
    "template-job-rule": template("job"),
    "template-instance-rule": template("instance"),
    "template-label-promql-rule": template_label_promql,
    "template-on-time-change-reload-rule": template_on_time_change_reload,
    "panel-datasource-rule": panel_datasource,
    "panel-title-description-rule": panel_title_description,
    "panel-units-rule": panel_units,
    "panel-no-targets-rule": panel_no_targets,
    "target-promql-rule": target_promql,
    "target-rate-interval-rule": target_rate_interval,
    "target-job-rule": target_matcher("job"),
    "target-instance-rule": target_matcher("instance"),
    "target-counter-agg-rule": target_counter_agg,
    "uneditable-dashboard": uneditable,
}
"""Keyed by the linter's names; its two rules about LogQL do not apply here."""

EXCLUDED: dict[str, dict[str, str]] = read_yaml(FOLDER / ".lint")["exclusions"]


@pytest.mark.parametrize("board", DASHBOARDS)
@pytest.mark.parametrize("rule", sorted(RULES.keys() - EXCLUDED.keys()))
def test_dashboard_keeps_the_rule(rule: str, board: str) -> None:
    assert list(RULES[rule](DASHBOARDS[board])) == []


@pytest.mark.parametrize("rule", EXCLUDED)
def test_exclusion_is_needed_and_says_why(rule: str) -> None:
    assert any(list(RULES[rule](board)) for board in DASHBOARDS.values())
    assert len(EXCLUDED[rule]["reason"]) > 50


@pytest.mark.parametrize("rule", sorted(RULES.keys() - EXCLUDED.keys()))
def test_rule_rejects_a_broken_dashboard(rule: str) -> None:
    """Every rule reports a dashboard that breaks all of them."""
    panel = {
        "id": 1,
        "type": "stat",
        "title": "",
        "datasource": {"type": "prometheus", "uid": "mine"},
        "fieldConfig": {"defaults": {"unit": "furlong"}, "overrides": []},
        "targets": [
            {"refId": "A", "expr": ""},
            {"refId": "A", "expr": "rate(pgslot_a_total[5m])"},
            {"refId": "A", "expr": "sum(pgslot_b_total)"},
        ],
    }
    variable = {"name": "x", "type": "query", "query": "nonsense", "refresh": 1}
    broken = {"editable": True, "panels": [panel], "templating": {"list": [variable]}}
    assert list(RULES[rule](broken)) != []


@pytest.mark.tools
def test_queries_of_variables_are_valid_promql(tmp_path: Path) -> None:
    queries = [
        variable["query"]
        for board in DASHBOARDS
        for variable in variables(board).values()
        if variable["type"] == "query"
    ]
    rules = [
        {"record": f"v{number}", "expr": substituted(query).removeprefix("label_values(").rpartition(", ")[0]}
        for number, query in enumerate(queries)
    ]
    file = tmp_path / "variables.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "variables", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", file], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("board", DASHBOARDS)
def test_every_panel_is_linted(board: str) -> None:
    assert visible_panels(DASHBOARDS[board]) == panels(board)
