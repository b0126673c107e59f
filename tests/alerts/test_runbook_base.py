"""`pg-slot-exporter rules` prints the rules with the user's own runbook base, also from an installed package."""

import tomllib
from pathlib import Path

import pytest
import yaml

from pgslot.alerting_rules import FILE
from pgslot.cli.exit_codes import BAD_INPUT
from tests.support import in_process
from tests.support.alert_rules import ALERT_RULES, RULES, run_tool

BASE = "https://pgslot.example.com/night/runbooks"


def printed_rules(*arguments: str) -> str:
    return in_process.run("pg-slot-exporter", "rules", *arguments).stdout


def test_rules_without_a_base_are_the_shipped_rules() -> None:
    assert printed_rules() == RULES.read_text("utf-8")


@pytest.mark.parametrize("base", [BASE, f"{BASE}/"])
def test_base_changes_every_runbook_link_and_nothing_else(base: str) -> None:
    text = printed_rules(f"--runbook-base={base}")
    rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"] if "alert" in rule]
    links = {rule["alert"]: rule["annotations"]["runbook_url"] for rule in rules}
    assert links == {name: f"{BASE}/{name}" for name in ALERT_RULES}
    assert text.replace(BASE, "http://localhost:9877/runbooks") == RULES.read_text("utf-8")


@pytest.mark.tools
def test_promtool_accepts_the_rules_with_a_base(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(printed_rules(f"--runbook-base={BASE}"), "utf-8")
    done = run_tool("promtool", "check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "base", ["pgslot.example.com", "ftp://a/b", "https://", "https://a/{{ 1 }}", "https://a/?x=", ""]
)
def test_error_names_an_invalid_base(base: str) -> None:
    completed = in_process.run("pg-slot-exporter", "rules", f"--runbook-base={base}")
    assert completed.returncode == BAD_INPUT
    error = completed.stderr
    assert "--runbook-base: expected a URL such as" in error
    assert f"found {base!r}" in error


def test_wheel_includes_the_rules_and_the_runbooks() -> None:
    """Checks only pyproject.toml: building a wheel would download the build backend."""
    project = tomllib.loads((RULES.parent.parent / "pyproject.toml").read_text("utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"] == {
        "alerts/runbooks": "exporter/runbooks",
        "alerts/pgslot.rules.yml": f"pgslot/{FILE}",
    }
