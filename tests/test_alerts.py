"""The rules, the examples for Prometheus and Alertmanager, and the runbooks."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ALERTS = Path(__file__).parent.parent / "alerts"
RULES = ALERTS / "pgslot.rules.yml"
RUNBOOKS = ALERTS / "runbooks"
SECTIONS = ["Meaning", "Impact", "Diagnosis", "Mitigation", "Prevention"]


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """A missing program fails the test: FileNotFoundError."""
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def rules() -> Iterator[dict[str, Any]]:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from group["rules"]


ALERT_RULES = {rule["alert"]: rule for rule in rules()}
each_alert = pytest.mark.parametrize("name", ALERT_RULES)


def test_promtool_accepts_the_rules() -> None:
    done = run("promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES)
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_passes_the_tests_of_the_rules() -> None:
    done = run("promtool", "test", "rules", ALERTS / "tests/pgslot.rules.test.yml")
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_accepts_the_example_configuration_with_its_rules() -> None:
    done = run("promtool", "check", "config", ALERTS / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(ALERT_RULES)} rules found" in done.stdout


def test_amtool_accepts_the_example_configuration() -> None:
    done = run("amtool", "check-config", ALERTS / "alertmanager.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@each_alert
def test_alertmanager_routes_what_can_be_healed_to_the_healer_and_everything_to_people(name: str) -> None:
    labels = {"alertname": name, "cluster": "orders", **ALERT_RULES[name]["labels"]}
    receivers = "healer,people" if "heal" in labels else "people"
    done = run(
        *("amtool", "config", "routes", "test", f"--config.file={ALERTS / 'alertmanager.yml'}"),
        f"--verify.receivers={receivers}",
        *(f"{label}={value}" for label, value in labels.items()),
    )
    assert done.returncode == 0, done.stdout + done.stderr


@each_alert
def test_every_alert_has_a_test_that_fires_it_and_one_that_does_not(name: str) -> None:
    tests = yaml.safe_load((ALERTS / "tests/pgslot.rules.test.yml").read_text())["tests"]
    checks = [check for test in tests for check in test["alert_rule_test"] if check["alertname"] == name]
    assert any(check["exp_alerts"] for check in checks)
    assert any(not check["exp_alerts"] for check in checks)


@each_alert
def test_every_alert_says_what_where_and_how_bad(name: str) -> None:
    rule = ALERT_RULES[name]
    assert name.startswith("PgSlot")
    assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    assert rule["labels"]["component"] == "pgslot"
    assert re.fullmatch(r"[A-Z][^{}]*\.", rule["annotations"]["summary"])  # a sentence, the same for all of a group
    assert "{{ $labels.cluster }}" in rule["annotations"]["description"]
    assert "{{" not in str(rule["labels"])  # a label that changes makes another alert of it


def test_the_healer_is_asked_only_for_creations() -> None:
    asked = {name: rule["labels"]["heal"] for name, rule in ALERT_RULES.items() if "heal" in rule["labels"]}
    assert asked == dict.fromkeys(("PgSlotCreationStuck", "PgSlotCreationBlocked"), "log_standby_snapshot")


@pytest.mark.parametrize("name", ["PgSlotCreationStuck", "PgSlotCreationBlocked"])
def test_the_threshold_of_a_creation_alert_is_its_only_greater_than(name: str) -> None:
    """The test stack lowers it by replacing the number."""
    assert re.findall(r">.*", ALERT_RULES[name]["expr"]) in (["> 30"], ["> 60"])


@each_alert
def test_every_alert_links_its_runbook(name: str) -> None:
    assert ALERT_RULES[name]["annotations"]["runbook_url"] == f"http://localhost:9877/runbooks/{name}"
    lines = (RUNBOOKS / f"{name}.md").read_text().splitlines()
    assert lines[0] == f"# {name}"
    assert [line.removeprefix("## ") for line in lines if line.startswith("## ")] == SECTIONS


def test_there_is_no_runbook_without_an_alert() -> None:
    assert {path.stem for path in RUNBOOKS.glob("*.md")} == set(ALERT_RULES)
