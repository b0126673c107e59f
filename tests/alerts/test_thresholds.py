"""The promtool tests hold every alert to its threshold: they fail if a rule changes slightly."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.alert_rules import ALERT_RULES, RULE_TESTS, RULES, each_alert, run_tool, shipped_rules

EVALUATION = 15
ALWAYS_FIRES = "PgSlotWatchdog"
WORKERS = 6
"""The tests of changed rules share nothing, so several workers of pytest-xdist run them."""
SECONDS = {"s": 1, "m": 60, "h": 3600}

Mutant = tuple[str, str, dict[str, Any]]
"""A rule's name, the change, and the changed rule."""

SELECTORS_WITHOUT_EFFECT = {
    # Every program with this counter exports this code from the start.
    ("PgSlotHealerDown", '{code="200"}'),
    # Each of the two in the expression is implied by the other.
    ("node:pgslot_primary:timestamp", '{probe="slots",status="ok"}'),
    # Slots with another cause are in the first part of the expression.
    ("slot:pgslot_retention_cause:max", '{cause="unknown"}'),
}
"""The rule's name, and the selector."""


class _PrometheusLoader(yaml.CSafeLoader):
    """Leaves `0x40`, promtool's way to write forty times zero, as it stands; to YAML 1.1 it is the number 64."""


_INTEGER = "tag:yaml.org,2002:int"
_PrometheusLoader.yaml_implicit_resolvers = {
    first: [resolver for resolver in resolvers if resolver[0] != _INTEGER]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}
_PrometheusLoader.add_implicit_resolver(_INTEGER, re.compile(r"[-+]?\d+$"), list("-+0123456789"))


def name_of(rule: dict[str, Any]) -> str:
    return str(rule.get("alert") or rule["record"])


RULES_BY_NAME = {name_of(rule): rule for rule in shipped_rules()}


@cache
def parsed(file: Path) -> Any:
    return yaml.load(file.read_text("utf-8"), _PrometheusLoader)  # noqa: S506 - a subclass of a safe loader


@cache
def rule_test_cases() -> list[dict[str, Any]]:
    return [case for file in RULE_TESTS for case in parsed(file)["tests"]]


def evaluations(name: str) -> Iterator[list[tuple[float, bool]]]:
    """Return for each test case about the alert when it is evaluated, in seconds, and whether it fires then."""
    for case in rule_test_cases():
        alert_checks = [check for check in case.get("alert_rule_test", []) if check["alertname"] == name]
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


@cache
def names_read_by(name: str) -> frozenset[str]:
    """Return the rules whose series the expression and the texts of this rule read."""
    rule = RULES_BY_NAME[name]
    text = "\n".join([rule["expr"], *rule.get("annotations", {}).values()])
    read = {*re.findall(r'alertname="(\w+)"', text), *re.findall(r"\w+:\w+:\w+", text)}
    return frozenset(read & RULES_BY_NAME.keys())


@cache
def with_everything_read(names: frozenset[str]) -> frozenset[str]:
    """Return the rules, and the rules that they read, directly or through others."""
    more = names.union(*(names_read_by(name) for name in names))
    return names if more == names else with_everything_read(more)


@cache
def judges(name: str) -> frozenset[str]:
    """Return the rules whose promtool checks hold this rule: an alert's own; for a recording rule all that read it."""
    if name in ALERT_RULES:
        return frozenset({name})
    return frozenset(reader for reader in RULES_BY_NAME if name in with_everything_read(frozenset({reader})))


def with_rule(changed: dict[str, Any]) -> str:
    """
    Return the YAML of the rules with the changed rule in place of the shipped rule of that name.

    These are the rules that its judges read, and no more: promtool evaluates every rule at every step. With ALERTS that
    has lost its selector, these are all rules.
    """
    name = name_of(changed)
    reads_all = re.search(r"\bALERTS\b(?!\{)", changed["expr"])
    needed = RULES_BY_NAME.keys() if reads_all else with_everything_read(judges(name))
    groups = [
        group
        | {"rules": [changed if name_of(rule) == name else rule for rule in group["rules"] if name_of(rule) in needed]}
        for group in parsed(RULES)["groups"]
    ]
    return dump({"groups": groups})


def with_cases_of(names: frozenset[str], file: Path) -> str | None:
    """Return the test file with the cases and checks of these rules alone; None: it has none."""
    tests = parsed(file)
    cases = []
    for case in tests["tests"]:
        alerts = [check for check in case.get("alert_rule_test", []) if check["alertname"] in names]
        queries = [
            check for check in case.get("promql_expr_test", []) if names & set(re.findall(r"[\w:]+", check["expr"]))
        ]
        if alerts or queries:
            cases.append(case | {"alert_rule_test": alerts, "promql_expr_test": queries})
    return dump(tests | {"tests": cases}) if cases else None


def dump(document: object) -> str:
    return yaml.dump(document, Dumper=yaml.CSafeDumper, sort_keys=False)


def write_files(rule: dict[str, Any], folder: Path) -> list[Path]:
    """Write the rules with this rule, and the promtool tests that hold it; return their files, small ones first."""
    (folder / "tests").mkdir()
    (folder / "pgslot.rules.yml").write_text(with_rule(rule))
    for file in RULE_TESTS:
        if (cases := with_cases_of(judges(name_of(rule)), file)) is not None:
            (folder / "tests" / file.name).write_text(cases)
    return sorted((folder / "tests").iterdir(), key=lambda file: file.stat().st_size)


def mutants() -> Iterator[Mutant]:
    """Return rules with a threshold eased by 2 %, with `for` one evaluation shorter, or without a selector."""
    for rule in shipped_rules():
        name = name_of(rule)
        expr: str = rule["expr"]
        for comparison in re.finditer(r"([<>]=?) ([\d.]+)", expr):
            if float(comparison[2]) == 0:
                continue
            easier = float(comparison[2]) * (1.02 if comparison[1].startswith("<") else 0.98)
            changed = f"{expr[: comparison.start()]}{comparison[1]} {easier}{expr[comparison.end() :]}"
            yield name, f"{comparison[1]} {easier}", rule | {"expr": changed}
        for selector in re.finditer(r"\{[^}]+\}", expr):
            if (name, selector[0]) not in SELECTORS_WITHOUT_EFFECT:
                changed = expr[: selector.start()] + expr[selector.end() :]
                yield name, f"without {selector[0]}", rule | {"expr": changed}
        if "for" in rule:
            shorter = f"{int(seconds(rule['for'])) - EVALUATION}s"
            yield name, f"for {shorter}", rule | {"for": shorter}


@pytest.mark.parametrize(
    ("name", "change", "rule"),
    [
        pytest.param(*mutant, id=f"{mutant[0]}: {mutant[1]}", marks=pytest.mark.xdist_group(f"mutants {i % WORKERS}"))
        for i, mutant in enumerate(mutants())
    ],
)
@pytest.mark.tools
def test_rule_that_fires_sooner_fails_the_promtool_tests(
    name: str, change: str, rule: dict[str, Any], tmp_path: Path
) -> None:
    # The small files first: one that fails is enough.
    for file in write_files(rule, tmp_path):
        done = run_tool("promtool", "test", "rules", file)
        if done.returncode != 0:
            break
    assert done.returncode != 0, f"{name} with {change} passes all tests"
    # The tests fail, not the syntax of the changed rule.
    assert "exp:" in done.stdout + done.stderr or "expected" in done.stdout + done.stderr, done.stdout + done.stderr


@each_alert
@pytest.mark.tools
def test_unchanged_alert_passes_with_only_the_rules_that_it_reads(name: str, tmp_path: Path) -> None:
    """
    A changed rule fails because of its change, and not because a rule is missing that the tests need.

    A changed recording rule is tested with the rules of several alerts together.
    """
    done = run_tool("promtool", "test", "rules", *write_files(RULES_BY_NAME[name], tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_changed_rules_include_every_alert_with_a_threshold() -> None:
    assert {name for name, _, _ in mutants()} >= set(ALERT_RULES) - {ALWAYS_FIRES, "PgSlotLost"} - {"PgSlotTargetDown"}
