"""`pg-slot-exporter rules` prints the rules with the user's own runbook base, also from an installed package."""

import tomllib
from pathlib import Path

import pytest
import yaml

from exporter.__main__ import main
from pgslot.alerting_rules import FILE
from pgslot.cli.exit_codes import BAD_INPUT
from tests.support.alert_rules import ALERT_RULES, RULES, run_tool

BASE = "https://pgslot.example.com/night/runbooks"


def printed_rules(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    main(["rules", *arguments])
    return capsys.readouterr().out


def test_rules_without_a_base_are_the_shipped_rules(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed_rules(capsys) == RULES.read_text("utf-8")


@pytest.mark.parametrize("base", [BASE, f"{BASE}/"])
def test_base_changes_every_runbook_link_and_nothing_else(capsys: pytest.CaptureFixture[str], base: str) -> None:
    text = printed_rules(capsys, f"--runbook-base={base}")
    rules = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"] if "alert" in rule]
    links = {rule["alert"]: rule["annotations"]["runbook_url"] for rule in rules}
    assert links == {name: f"{BASE}/{name}" for name in ALERT_RULES}
    assert text.replace(BASE, "http://localhost:9877/runbooks") == RULES.read_text("utf-8")


@pytest.mark.tools
def test_promtool_accepts_the_rules_with_a_base(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(printed_rules(capsys, f"--runbook-base={BASE}"), "utf-8")
    done = run_tool("promtool", "check", "rules", "--lint=all", "--lint-fatal", tmp_path / "rules.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "base", ["pgslot.example.com", "ftp://a/b", "https://", "https://a/{{ 1 }}", "https://a/?x=", ""]
)
def test_error_names_an_invalid_base(capsys: pytest.CaptureFixture[str], base: str) -> None:
    with pytest.raises(SystemExit) as exit_error:
        main(["rules", f"--runbook-base={base}"])
    assert exit_error.value.code == BAD_INPUT
    error = capsys.readouterr().err
    assert "--runbook-base: expected a URL such as" in error
    assert f"found {base!r}" in error


def test_wheel_includes_the_rules_and_the_runbooks() -> None:
    """Checks only pyproject.toml: building a wheel would download the build backend."""
    project = tomllib.loads((RULES.parent.parent / "pyproject.toml").read_text("utf-8"))
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"] == {
        "alerts/runbooks": "exporter/runbooks",
        "alerts/pgslot.rules.yml": f"pgslot/{FILE}",
    }
