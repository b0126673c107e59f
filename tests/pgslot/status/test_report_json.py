"""The JSON of `status`: stable, complete, and described."""

import json
import re
from typing import Any

from pgslot.status.report import Report, cluster_report
from pgslot.status.report_json import as_json
from pgslot.status.slot_status import Concern, Severity, SlotState, Unseen
from tests.support.builders.retention import EARLY, SLOT_HISTORY, primary_with
from tests.support.builders.snapshots import cluster, node, unreachable_node
from tests.support.builders.statuses import HEALTHY, LOST, PINNED_SLOT, UNUSED
from tests.support.paths import ROOT

REFERENCE = (ROOT / "docs/reference/status.md").read_text("utf-8")


def report() -> Report:
    failover = HEALTHY._replace(failover=True)
    return cluster_report(
        cluster(
            node("p", recovery=False, slots=(UNUSED, LOST, failover)),
            unreachable_node("t"),
        )
    )


def parsed(shown: Report, **options: Any) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(as_json(shown, looked_at=1.5, **options))
    return result


def keys_of(value: object) -> set[str]:
    if isinstance(value, list):
        return {key for item in value for key in keys_of(item)}
    if isinstance(value, dict):
        return set(value) | {key for name, item in value.items() if name != "failures" for key in keys_of(item)}
    return set()


def test_every_key_and_every_value_is_described() -> None:
    shown = {**parsed(report(), explained=True), "pinned": parsed(cluster_report(pinned()))}
    described = set(re.findall(r"`(\w+)`", REFERENCE))
    words = {*Concern, *Unseen, *SlotState, *(severity.name.lower() for severity in Severity)}
    assert (keys_of(shown) - {"pinned"}) | words <= described


def pinned() -> Any:
    return cluster(primary_with(PINNED_SLOT, SLOT_HISTORY, (EARLY,)))


def test_slot_has_the_facts_of_its_row() -> None:
    shown = parsed(report())
    assert (shown["looked_at"], shown["exit_code"]) == (1.5, 1)
    [unused] = [slot for slot in shown["slots"] if slot["slot_name"] == "unused"]
    assert (unused["state"], unused["severity"], unused["concerns"]) == ("inactive", "warning", ["inactive"])
    assert (unused["cause"], unused["held_bytes"], unused["seconds_left"]) == ("inactive", 3 * 1024**3, None)
    assert [step["node"] for step in unused["steps"]] == [None, "p"]


def test_failover_slot_has_its_readiness_on_each_standby() -> None:
    primary = node("p", recovery=False, slots=(HEALTHY._replace(failover=True),))
    [slot] = parsed(cluster_report(cluster(primary, node("s", recovery=True))))["slots"]
    [copy] = slot["failover"]
    assert copy == {"node": "s", "ready": False, "reason": "sync_off", "lag_bytes": None}


def test_node_that_is_down_is_unknown() -> None:
    down = parsed(report())["nodes"][-1]
    assert (down["node"], down["role"], down["version"], down["failures"]) == ("t", None, None, {"node": "unreachable"})


def test_culprits_are_candidates_until_one_is_known() -> None:
    [slot] = parsed(cluster_report(pinned()))["slots"]
    assert slot["culprit_known"] is False
    assert [culprit["xid"] for culprit in slot["culprits"]] == [500]


def test_one_line_for_each_look_of_watch() -> None:
    assert "\n" not in as_json(report(), looked_at=1.5, indent=None)
