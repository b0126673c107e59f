"""Reads the shipped alert and recording rules for tests."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.paths import ROOT

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
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        yield from group["rules"]


ALERT_RULES = {rule["alert"]: rule for rule in shipped_rules() if "alert" in rule}
RECORDING_RULES = {rule["record"]: rule for rule in shipped_rules() if "record" in rule}
each_alert = pytest.mark.parametrize("name", ALERT_RULES)
