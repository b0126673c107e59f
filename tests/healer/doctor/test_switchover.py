"""The doctor's findings about switchovers, from the rehearsals; test_rehearsal.py has the rehearsals themselves."""

from dataclasses import replace

import pytest

from healer.doctor.checks.switchover import judge_switchover
from pgslot.diagnosis.switchover_facts import SwitchoverFacts
from pgslot.snapshot.model import NodeSnapshot, QueryStatus
from pgslot.snapshot.switchover import SwitchoverSettings
from tests.support.builders.snapshots import FACTS, SLOT, STANDBY, cluster, node, unreachable_node

FAILOVER = SLOT._replace(slot_name="cdc", failover=True)
COPY = FAILOVER._replace(synced=True, active=False)
PRIMARY = node("p", recovery=False, slots=(FAILOVER, SLOT))
STANDBY_NODE = node(
    "t", recovery=True, slots=(COPY,), standby=replace(STANDBY, sync_replication_slots=True, primary_slot_name="t")
)
SETTINGS = SwitchoverSettings(10, 1, True, True, "")
FACTS_OF_BOTH = SwitchoverFacts({"p": SETTINGS, "t": replace(SETTINGS, primary_slot_name="t")})
WAITS = replace(FACTS, in_recovery=True, synchronized_standby_slots="ghost")

CASES: dict[str, tuple[NodeSnapshot, list[tuple[str, str]]]] = {
    "what has failover goes on": (STANDBY_NODE, [("ok", "after a switchover: 2 slots: 1 goes on, 1 ends")]),
    "consumers would wait": (replace(STANDBY_NODE, facts=WAITS), [("warning", "2 slots: 1 goes on, 1 ends")]),
    "a failover slot would be lost": (
        replace(STANDBY_NODE, slots=()),
        [("warning", "failover slots that do not go on: cdc")],
    ),
    "the standby does not answer": (unreachable_node("t"), [("skipped", "t to answer: node unreachable")]),
}


@pytest.mark.parametrize("name", CASES)
def test_finding_about_a_switchover(name: str) -> None:
    target, expected = CASES[name]
    findings = list(judge_switchover(cluster(PRIMARY, target), FACTS_OF_BOTH))
    assert [(finding.check, finding.subject, str(finding.status)) for finding in findings] == [
        ("switchover", "c/t", status) for status, _ in expected
    ]
    for finding, (_, text) in zip(findings, expected, strict=True):
        assert text in finding.found


def test_advice_has_the_problem_and_the_command_that_shows_all() -> None:
    [finding] = judge_switchover(cluster(PRIMARY, replace(STANDBY_NODE, facts=WAITS)), FACTS_OF_BOTH)
    assert "names ghost, which t does not have" in finding.advice
    assert finding.advice.endswith("Everything: pg-slot-exporter rehearse c --to t")


def test_server_of_another_cluster_is_not_a_target() -> None:
    foreign = NodeSnapshot("c", "t", 0.0, {"node": QueryStatus.WRONG_CLUSTER})
    assert list(judge_switchover(cluster(PRIMARY, foreign), FACTS_OF_BOTH)) == []


def test_without_a_primary_there_is_no_finding() -> None:
    assert list(judge_switchover(cluster(STANDBY_NODE, unreachable_node("p")), FACTS_OF_BOTH)) == []
