"""Reads the shipped alert and recording rules for tests."""

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.documents import read_yaml
from tests.support.paths import ROOT
from tests.support.promql import template_queries

ALERTS = ROOT / "alerts"
RULES = ALERTS / "pgslot.rules.yml"
RULE_TESTS = sorted((ALERTS / "tests").glob("*.test.yml"))
ALERTS_TO_HEALER_ALONE = {"PgSlotCreationWaiting", "PgSlotEndangeredByTransaction"}
ALERTS_TO_HEALER = ALERTS_TO_HEALER_ALONE | {
    "PgSlotCreationStuck",
    "PgSlotCreationBlocked",
    "PgSlotCreationRetried",
    "PgSlotStalled",
    "PgSlotNotPersisted",
}


def run_tool(*command: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run a tool; raises FileNotFoundError if it is missing. promtool needs 7 s of CPU for all tests of the rules."""
    return subprocess.run(command, capture_output=True, text=True, timeout=180, check=False, cwd=cwd)


def shipped_rules() -> Iterator[dict[str, Any]]:
    for group in read_yaml(RULES)["groups"]:
        yield from group["rules"]


def rule_queries(rules: Iterable[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Return (name of the rule, query) for all queries in the expressions and the texts of rules."""
    for rule in rules:
        name = str(rule.get("alert", rule.get("record")))
        yield name, rule["expr"]
        for text in rule.get("annotations", {}).values():
            for query in template_queries(text):
                yield name, query


ALERT_RULES = {rule["alert"]: rule for rule in shipped_rules() if "alert" in rule}
RECORDING_RULES = {rule["record"]: rule for rule in shipped_rules() if "record" in rule}
[DISK_RULES] = [group["rules"] for group in read_yaml(RULES)["groups"] if group["name"] == "pgslot-disk"]
"""Those about the volume that holds the WAL."""
each_alert = pytest.mark.parametrize("name", ALERT_RULES)
