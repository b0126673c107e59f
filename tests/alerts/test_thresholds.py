"""The promtool tests hold every alert to its threshold: they fail if a rule changes slightly."""

import re
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.alert_rules import ALERT_RULES, RULE_TESTS, RULES, each_alert, run_tool, shipped_rules

EVALUATION = 15
ALWAYS_FIRES = "PgSlotWatchdog"
SECONDS = {"s": 1, "m": 60, "h": 3600}

Mutant = tuple[str, str, dict[str, Any]]
"""A rule's name, the change, and the changed rule."""

SELECTORS_WITHOUT_EFFECT = {
    # Every program with this counter exports this code from the start.
    '{code="200"}',
}


@cache
def rule_test_cases() -> list[dict[str, Any]]:
    return [case for file in RULE_TESTS for case in yaml.safe_load(file.read_text())["tests"]]


def evaluations(name: str) -> Iterator[list[tuple[float, bool]]]:
    """Return for each test case about the alert when it is evaluated, in seconds, and whether it fires then."""
    for case in rule_test_cases():
        alert_checks = [check for check in case["alert_rule_test"] if check["alertname"] == name]
        if alert_checks:
            yield sorted((seconds(check["eval_time"]), bool(check["exp_alerts"])) for check in alert_checks)


def seconds(duration: str) -> float:
    return sum(int(number) * SECONDS[unit] for number, unit in re.findall(r"(\d+)([smh])", duration))


@each_alert
def test_alerts_are_tested_silent_then_firing_then_resolved(name: str) -> None:
    if name == ALWAYS_FIRES:
        assert all(fires for case in evaluations(name) for _, fires in case)
        return
    in_order = [[fires for _, fires in case] for case in evaluations(name)]
    assert any(fires[:2] == [False, True] and not fires[-1] for fires in in_order), in_order


def with_rule(changed: dict[str, Any]) -> str:
    """Return the YAML of all rules, with the changed rule in place of the shipped rule of that name."""
    key = "alert" if "alert" in changed else "record"
    rules = yaml.safe_load(RULES.read_text())
    for group in rules["groups"]:
        group["rules"] = [changed if rule.get(key) == changed[key] else rule for rule in group["rules"]]
    return yaml.safe_dump(rules, sort_keys=False)


def mutants() -> Iterator[Mutant]:
    """Return rules with a threshold eased by 2 %, with `for` one evaluation shorter, or without a selector."""
    for rule in shipped_rules():
        name: str = rule["alert"] if "alert" in rule else rule["record"]
        expr: str = rule["expr"]
        for comparison in re.finditer(r"([<>]=?) ([\d.]+)", expr):
            if float(comparison[2]) == 0:
                continue
            easier = float(comparison[2]) * (1.02 if comparison[1].startswith("<") else 0.98)
            changed = f"{expr[: comparison.start()]}{comparison[1]} {easier}{expr[comparison.end() :]}"
            yield name, f"{comparison[1]} {easier}", rule | {"expr": changed}
        for selector in re.finditer(r"\{[^}]+\}", expr):
            if selector[0] not in SELECTORS_WITHOUT_EFFECT:
                changed = expr[: selector.start()] + expr[selector.end() :]
                yield name, f"without {selector[0]}", rule | {"expr": changed}
        if "for" in rule:
            shorter = f"{int(seconds(rule['for'])) - EVALUATION}s"
            yield name, f"for {shorter}", rule | {"for": shorter}


@pytest.mark.parametrize(("name", "change", "rule"), [pytest.param(*m, id=f"{m[0]}: {m[1]}") for m in mutants()])
@pytest.mark.tools
def test_rule_that_fires_sooner_fails_the_promtool_tests(
    name: str, change: str, rule: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "pgslot.rules.yml").write_text(with_rule(rule))
    for file in RULE_TESTS:
        # Recording rules serve several alerts; the tests of an alert are in one file.
        if name not in ALERT_RULES or f"alertname: {name}\n" in file.read_text():
            shutil.copy(file, tmp_path / "tests")
    done = run_tool("promtool", "test", "rules", *sorted((tmp_path / "tests").iterdir()))
    assert done.returncode != 0, f"{name} with {change} passes all tests"
    # The tests fail, not the syntax of the changed rule.
    assert "exp:" in done.stdout + done.stderr or "expected" in done.stdout + done.stderr, done.stdout + done.stderr


def test_changed_rules_include_every_alert_with_a_threshold() -> None:
    assert {name for name, _, _ in mutants()} >= set(ALERT_RULES) - {ALWAYS_FIRES, "PgSlotLost"} - {"PgSlotTargetDown"}
