"""The dashboards are up to date with their code, complete, linked and easy to read for an on-call engineer."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards import terms
from exporter.catalogue import CATALOGUE
from tests.support.alert_rules import RECORDING_RULES
from tests.support.dashboards import (
    ANNOTATIONS,
    DASHBOARDS,
    FOLDER,
    PANELS,
    TARGETS,
    Target,
    selectors,
    substituted,
    variables,
)
from tests.support.documents import read_yaml
from tests.support.paths import ROOT

QUESTIONS = {
    "pgslot-fleet": [
        "Is anything stuck or about to be lost?",
        "Which cluster?",
        "Why?",
        "What did the healer do, and could it?",
        "Would a slot survive a failover?",
    ],
    "pgslot-cluster": [
        "Is anything stuck or about to be lost?",
        "Why does a creation wait?",
        "Why is WAL retained, and how long can that go on?",
        "Who keeps a transaction open?",
        "What did the healer do?",
        "Is anything missing on this page?",
        "Would a slot survive a failover?",
    ],
}
PROMETHEUS_OWN = {"ALERTS", "ALERTS_FOR_STATE"}
METRICS_WITHOUT_CLUSTER = {
    "pgslot_heal_seconds_bucket",
    "pgslot_heal_alerts_total",
    "pgslot_heal_alertmanager_up",
    "pgslot_heal_clusters_remaining",
    "pgslot_heal_last_webhook_timestamp_seconds",
}
"""The healer's metrics without the label cluster."""

each_board = pytest.mark.parametrize("board", DASHBOARDS)
each_panel = pytest.mark.parametrize(
    ("board", "panel"), PANELS, ids=[f"{board} {panel['title']}" for board, panel in PANELS]
)
each_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program in the repository; raises FileNotFoundError if it is missing."""
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)


def runbooks() -> set[str]:
    return {file.stem for file in (ROOT / "alerts/runbooks").glob("*.md")}


def test_json_is_up_to_date_with_its_code() -> None:
    done = run(sys.executable, "-m", "dashboards.generate", "--check")
    assert done.returncode == 0, done.stderr


def test_check_names_outdated_json(tmp_path: Path) -> None:
    (tmp_path / "pgslot-fleet.json").write_text("{}")
    (tmp_path / "pgslot-cluster.json").write_bytes((FOLDER / "pgslot-cluster.json").read_bytes())
    done = run(sys.executable, "-m", "dashboards.generate", "--check", tmp_path)
    assert done.returncode == 1
    assert done.stderr == "pgslot-fleet.json is out of step with its code: run make dashboards\n"
    assert (tmp_path / "pgslot-fleet.json").read_text() == "{}"


@each_board
def test_dashboard_can_be_provisioned_and_linked(board: str) -> None:
    dashboard = DASHBOARDS[board]
    assert dashboard["uid"] == board
    assert dashboard["schemaVersion"] == 41
    assert dashboard["graphTooltip"] == 1
    assert dashboard["refresh"] == "30s"
    assert "pgslot" in dashboard["tags"]
    assert "__inputs" not in dashboard
    assert dashboard.get("id") is None
    [link] = dashboard["links"]
    [linked_board] = DASHBOARDS.keys() - {board}
    assert link["url"].startswith(f"/d/{linked_board}?var-datasource=${{datasource}}")
    assert link["keepTime"] is True


@each_board
def test_rows_follow_the_questions_of_an_on_call_engineer(board: str) -> None:
    assert [panel["title"] for panel in DASHBOARDS[board]["panels"] if panel["type"] == "row"] == QUESTIONS[board]


@each_board
def test_panel_ids_are_unique_and_stable(board: str) -> None:
    """The code gives every panel an id within the hundred of its row, so that links to a panel stay valid."""
    ids = [panel["id"] for panel in DASHBOARDS[board]["panels"]]
    assert len(set(ids)) == len(ids)
    assert ids == sorted(ids)
    row = 0
    for panel in DASHBOARDS[board]["panels"]:
        if panel["type"] == "row":
            row = panel["id"]
            assert row % 100 == 0
        assert row <= panel["id"] < row + 100


@each_board
def test_panels_fill_the_grid_without_overlap(board: str) -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARDS[board]["panels"]:
        area = panel["gridPos"]
        panel_cells = {
            (x, y) for x in range(area["x"], area["x"] + area["w"]) for y in range(area["y"], area["y"] + area["h"])
        }
        assert area["x"] + area["w"] <= 24
        assert not panel_cells & cells, panel["title"]
        cells |= panel_cells
    assert len(cells) == 24 * (1 + max(y for _, y in cells))


@each_panel
def test_panel_description_says_healthy_bad_and_next(board: str, panel: dict[str, Any]) -> None:
    del board
    assert panel["type"] in {"stat", "timeseries", "table"}  # what dashboards/pictures can draw
    for part in ("Healthy: ", "Bad: ", "Next"):
        assert part in panel["description"]


@each_panel
def test_panel_links_to_runbooks(board: str, panel: dict[str, Any]) -> None:
    del board
    assert panel["links"]
    for link in panel["links"]:
        alert = link["url"].removeprefix("${runbooks}/")
        assert link["title"] == f"Runbook: {alert}"
        assert alert in runbooks()


@each_board
def test_runbook_base_is_set_in_one_place(board: str) -> None:
    """The sed command for the rules changes the dashboards, too."""
    rules = read_yaml(ROOT / "alerts/pgslot.rules.yml")
    urls = {
        rule["annotations"]["runbook_url"] for group in rules["groups"] for rule in group["rules"] if "alert" in rule
    }
    base = variables(board)["runbooks"]
    assert base["type"] == "constant"
    assert {url.rpartition("/")[0] for url in urls} == {base["query"]}
    assert (FOLDER / f"{board}.json").read_text("utf-8").count(base["query"]) == 1


@each_board
def test_table_rows_link_to_the_cluster(board: str) -> None:
    """Links to a dashboard lead to an existing one and set only variables that it has."""
    urls = re.findall(r'"url": "(/d/[^"]*)"', (FOLDER / f"{board}.json").read_text("utf-8"))
    assert any("pgslot-cluster" in url and "var-cluster=" in url for url in urls)
    for url in urls:
        uid, _, parameters = url.removeprefix("/d/").partition("?")
        assert uid in DASHBOARDS
        assert set(re.findall(r"var-(\w+)=", parameters)) <= set(variables(uid))


@each_target
def test_query_selects_by_the_variables(target: Target) -> None:
    chosen = '=~"$cluster"' if target.board == "pgslot-fleet" else '="$cluster"'
    for metric, matchers in selectors(target.expr):
        if metric in METRICS_WITHOUT_CLUSTER:
            assert matchers == {}
        elif metric in PROMETHEUS_OWN:
            assert matchers["alertname"] == '=~"PgSlot.*"'
            assert matchers["severity"] == '!="info"'  # the heartbeat always fires
            assert matchers["cluster"].replace("|", "") == chosen
        else:
            assert matchers["cluster"] == chosen
            assert matchers.get("node") in {None, '=~"$node"'}
            assert matchers.get("slot_name") in {None, '=~"$slot"'}


def test_queries_read_only_exported_metrics() -> None:
    healer = set(re.findall(r'"(pgslot_heal_\w+)"', (ROOT / "healer/metrics.py").read_text("utf-8")))
    exported = (
        set(CATALOGUE)
        | set(RECORDING_RULES)
        | healer
        | {f"{name}{suffix}" for name in healer for suffix in ("_total", "_bucket")}
    )
    read = {metric for target in TARGETS for metric, _ in selectors(target.expr)}
    read |= {metric for _, annotation in ANNOTATIONS for metric, _ in selectors(annotation["expr"])}
    assert read - exported - PROMETHEUS_OWN == set()


@each_board
def test_variables_default_to_all(board: str) -> None:
    board_variables = variables(board)
    single = {"cluster"} if board == "pgslot-cluster" else set()
    multiple = {"pgslot-fleet": {"cluster"}, "pgslot-cluster": {"node", "slot"}}[board]
    assert board_variables.keys() == {"datasource", "runbooks"} | single | multiple
    for name in multiple:
        assert board_variables[name]["multi"] is board_variables[name]["includeAll"] is True
        assert board_variables[name]["allValue"] == ".+"
        assert board_variables[name]["current"]["value"] == ["$__all"]
    for name in single:
        assert board_variables[name]["multi"] is board_variables[name]["includeAll"] is False


@each_board
def test_alerts_and_heals_are_annotations(board: str) -> None:
    annotations = {annotation["name"]: annotation for annotation in DASHBOARDS[board]["annotations"]["list"]}
    assert list(annotations) == ["Alerts", "Heal episodes", "Heal calls", "Ended transactions"]
    for annotation in annotations.values():
        assert annotation["enable"] is True
        assert annotation["datasource"]["uid"] == "${datasource}"
        assert "filter" not in annotation


@pytest.mark.tools
def test_queries_are_valid_promql(tmp_path: Path) -> None:
    """Promtool checks the queries as recording rules."""
    exprs = [target.expr for target in TARGETS] + [annotation["expr"] for _, annotation in ANNOTATIONS]
    recordings = [{"record": f"panel_{number}", "expr": substituted(expr)} for number, expr in enumerate(exprs)]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": recordings}]}))
    done = run("promtool", "check", "rules", file)
    assert done.returncode == 0, done.stdout + done.stderr


def threshold(alert: str, pattern: str) -> float:
    """Return the number in a rule's expression; the largest if there is another for the urgent case."""
    groups = read_yaml(ROOT / "alerts/pgslot.rules.yml")["groups"]
    [expr] = [rule["expr"] for group in groups for rule in group["rules"] if rule.get("alert") == alert]
    return max(float(number) for number in re.findall(rf"{pattern} ([\d.]+)", expr))


def test_thresholds_match_the_alerts() -> None:
    assert threshold("PgSlotCreationStuck", ">") == terms.CREATION_STUCK
    assert threshold("PgSlotCreationBlocked", ">") == terms.CREATION_BLOCKED
    assert threshold("PgSlotWalHeadroomLow", "<") == terms.LITTLE_HEADROOM
    assert threshold("PgSlotLossPredicted", "seconds <") == terms.SOON
    assert threshold("PgSlotPinnedByTransaction", "age_seconds >") == terms.OLD_TRANSACTION


def test_provisioning_finds_the_dashboards_and_the_data_source() -> None:
    provisioning = ROOT / "dashboards/provisioning"
    (source,) = read_yaml(provisioning / "datasources/prometheus.yml")["datasources"]
    (provider,) = read_yaml(provisioning / "dashboards/pgslot.yml")["providers"]
    prometheus = read_yaml(ROOT / "alerts/prometheus.yml")
    assert source["type"] == "prometheus"
    assert source["isDefault"] is True
    assert source["jsonData"]["timeInterval"] == prometheus["global"]["scrape_interval"]
    grafana = read_yaml(ROOT / "docker-compose.yml")["services"]["grafana"]
    assert f"./dashboards/json:{provider['options']['path']}:ro" in grafana["volumes"]
    assert {file.stem for file in FOLDER.glob("*.json")} == set(DASHBOARDS)
    assert grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].endswith("/pgslot-fleet.json")
