"""The dashboard: in step with its generator, and fit to be read at night."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parent.parent
DASHBOARD: dict[str, Any] = json.loads((ROOT / "dashboards/pgslot.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES: dict[str, dict[str, Any]] = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
ROWS = [
    "Is anything stuck or about to be lost?",
    "Why?",
    "Retained WAL",
    "Long transactions",
    "What did the healer do?",
]
SUBSTITUTES = {"$__rate_interval": "1m", "$__range": "1h", "$cluster": ".+", "$node": ".+", "$slot_name": ".+"}
WITHOUT_CLUSTER = {"pgslot_heal_seconds_bucket"}  # a histogram of the healer as a whole

each_panel = pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])


def substituted(expr: str) -> str:
    for variable, value in SUBSTITUTES.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr
    return expr


def panel_queries() -> Iterator[tuple[str, str]]:
    """(title of the panel, PromQL with the variables substituted): what Grafana would ask with "All" chosen."""
    for panel in PANELS:
        for target in panel["targets"]:
            yield panel["title"], substituted(target["expr"])


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """A missing program fails the test: FileNotFoundError."""
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


def test_the_json_is_in_step_with_its_generator() -> None:
    done = run(sys.executable, "-m", "dashboards.generate", "--check")
    assert done.returncode == 0, done.stderr


def test_the_generator_says_when_the_json_is_out_of_step(tmp_path: Path) -> None:
    (tmp_path / "pgslot.json").write_text("{}")
    done = run(sys.executable, "-m", "dashboards.generate", "--check", tmp_path / "pgslot.json")
    assert done.returncode == 1
    assert "out of step" in done.stderr
    assert (tmp_path / "pgslot.json").read_text() == "{}"


def test_the_dashboard_can_be_provisioned_and_linked() -> None:
    assert DASHBOARD["uid"] == "pgslot"
    assert DASHBOARD["editable"] is False
    assert DASHBOARD["graphTooltip"] == 1
    assert DASHBOARD["refresh"] == "30s"
    assert DASHBOARD["tags"]
    assert "__inputs" not in DASHBOARD
    assert DASHBOARD.get("id") is None


def test_the_rows_follow_the_questions_of_somebody_woken_at_night() -> None:
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == ROWS


def test_ids_are_unique() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    assert all(isinstance(number, int) and number > 0 for number in ids)


def test_panels_fill_the_grid_without_overlap() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        mine = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not mine & cells, panel["title"]
        cells |= mine
    assert len(cells) == 24 * (1 + max(y for _, y in cells))


@each_panel
def test_a_panel_explains_itself(panel: dict[str, Any]) -> None:
    assert panel["type"] in {"stat", "timeseries", "table"}
    assert panel["title"]
    for part in ("Healthy: ", "Bad: ", "Next"):
        assert part in panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"]


@each_panel
def test_a_panel_asks_the_chosen_data_source(panel: dict[str, Any]) -> None:
    assert panel["targets"]
    for source in (panel, *panel["targets"]):
        assert source["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    refs = [target["refId"] for target in panel["targets"]]
    assert len(set(refs)) == len(refs)


@each_panel
def test_a_query_keeps_to_the_chosen_cluster(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        for metric, selector in re.findall(r"(pgslot_\w+)(\{[^}]*\})?", target["expr"]):
            assert metric in WITHOUT_CLUSTER or 'cluster=~"$cluster"' in selector


@each_panel
def test_a_counter_is_read_only_as_an_increase(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        counters = re.findall(r"pgslot_\w+(?:_total|_bucket)\b", target["expr"])
        increases = re.findall(
            r"(?:rate|increase)\(pgslot_\w+(?:\{[^}]*\})?\[\$__(?:rate_interval|range)\]", target["expr"]
        )
        assert len(counters) == len(increases)


def test_variables_can_be_left_at_all() -> None:
    assert list(VARIABLES) == ["datasource", "cluster", "node", "slot_name"]
    assert VARIABLES["datasource"]["type"] == "datasource"
    assert VARIABLES["datasource"]["label"] == "Data source"
    for name in ("cluster", "node", "slot_name"):
        variable = VARIABLES[name]
        assert variable["multi"] is variable["includeAll"] is True
        assert variable["allValue"] == ".+"
        assert variable["refresh"] == 2  # Grafana's number for "on time range change"
        assert variable["datasource"]["uid"] == "${datasource}"


def test_every_query_is_promql(tmp_path: Path) -> None:
    """Promtool reads them as recording rules."""
    recordings = [{"record": f"panel_{number}", "expr": expr} for number, (_, expr) in enumerate(panel_queries())]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recordings}]}))
    done = run("promtool", "check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def test_provisioning_finds_the_dashboard_and_the_data_source() -> None:
    provisioning = ROOT / "dashboards/provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    (provider,) = yaml.safe_load((provisioning / "dashboards/pgslot.yml").read_text())["providers"]
    prometheus = yaml.safe_load((ROOT / "alerts/prometheus.yml").read_text())
    assert source["type"] == "prometheus"
    assert source["isDefault"] is True
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    assert f"./dashboards/pgslot.json:{provider['options']['path']}/pgslot.json:ro" in grafana["volumes"]
