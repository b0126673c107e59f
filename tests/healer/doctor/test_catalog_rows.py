"""The doctor's findings about the catalog rows that slots on standbys need."""

from dataclasses import replace

import pytest

from healer.doctor.checks.catalog_rows import judge_catalog_rows
from pgslot.snapshot.model import NodeSnapshot
from tests.support.builders.snapshots import SLOT, STANDBY, cluster, node, unreachable_node

PHYSICAL = SLOT._replace(slot_name="standby", slot_type="physical", catalog_xmin=600, confirmed_position=None)
OWN = SLOT._replace(slot_name="own", catalog_xmin=650)
KEEPING = node("p", recovery=False, slots=(PHYSICAL,))
BARE = node("p", recovery=False, slots=(PHYSICAL._replace(catalog_xmin=None),))
SAFE = node("s", recovery=True, slots=(OWN,))
OFF = replace(SAFE, standby=replace(STANDBY, hot_standby_feedback=False))

CASES: dict[str, tuple[tuple[NodeSnapshot, ...], list[tuple[str, str]]]] = {
    "kept": ((KEEPING, SAFE), [("ok", "kept on the primary for 1 logical slot(s)")]),
    "passed, and feedback is off": (
        (BARE, OFF),
        [
            (
                "failed",
                "the primary's horizon has passed the catalog_xmin of own by 53 transactions:"
                " hot_standby_feedback_off on s",
            )
        ],
    ),
    "another slot keeps them by chance": (
        (KEEPING, OFF),
        [("warning", "nothing keeps the catalog rows for logical slots here: hot_standby_feedback_off on s")],
    ),
    "the primary is dark": (
        (unreachable_node("p"), SAFE),
        [
            (
                "skipped",
                "what the primary keeps for logical slots here is unknown: it did not show its slots and walsenders",
            )
        ],
    ),
    "no logical slot on the standby": ((BARE, node("s", recovery=True, slots=(PHYSICAL,))), []),
    "the standby is dark": ((BARE, unreachable_node("s")), []),
}


@pytest.mark.parametrize(("nodes", "expected"), CASES.values(), ids=CASES.keys())
def test_findings_about_catalog_rows(nodes: tuple[NodeSnapshot, ...], expected: list[tuple[str, str]]) -> None:
    findings = list(judge_catalog_rows(cluster(*nodes)))
    assert [(finding.status, finding.found) for finding in findings] == expected


def test_advice_names_the_setting_and_the_node_to_blame() -> None:
    [finding] = judge_catalog_rows(cluster(BARE, OFF))
    assert finding.advice == (
        "On s set hot_standby_feedback = on and reload. The next vacuum of a catalog on the primary invalidates"
        " the slot. Runbook: PgSlotCatalogUnprotected."
    )
