"""The doctor's findings about standbys that may be missing in the configuration."""

from collections.abc import Sequence

import pytest

from healer.doctor.checks.standbys import judge_unconfigured_standbys
from healer.doctor.result import CheckStatus
from pgslot.snapshot.model import NodeSnapshot
from pgslot.snapshot.rows import WalSender
from tests.support.builders.snapshots import cluster, node, unreachable_node
from tests.support.builders.standbys import BARE, WALSENDER_A, WALSENDER_B, standby_node

CASES: list[tuple[Sequence[WalSender], Sequence[NodeSnapshot], CheckStatus | None, str]] = [
    ([], [], None, ""),
    ([WALSENDER_A], [standby_node("s", "a")], CheckStatus.OK, "all 1 that stream from p are among the nodes"),
    (
        [WALSENDER_A, BARE],
        [],
        CheckStatus.WARNING,
        "not among the nodes: a (10.0.0.2, slot a), walreceiver (10.0.0.4)",
    ),
    (
        [WALSENDER_A, WALSENDER_B],
        [standby_node("s", "a"), unreachable_node("t")],
        CheckStatus.SKIPPED,
        "unknown whether b (10.0.0.3, slot b) is among the nodes",
    ),
    (
        [WALSENDER_A, WALSENDER_B],
        [unreachable_node("t")],
        CheckStatus.WARNING,
        "not among the nodes: 1 of these: a (10.0.0.2, slot a), b (10.0.0.3, slot b)",
    ),
]


@pytest.mark.parametrize(("senders", "standbys", "status", "text"), CASES)
def test_streaming_standbys_are_compared_with_the_nodes(
    senders: Sequence[WalSender], standbys: Sequence[NodeSnapshot], status: CheckStatus | None, text: str
) -> None:
    findings = list(judge_unconfigured_standbys(cluster(node("p", recovery=False, senders=tuple(senders)), *standbys)))
    assert [finding.status for finding in findings] == ([] if status is None else [status])
    for finding in findings:
        assert finding.found.startswith(text)
        assert bool(finding.advice) == (status is CheckStatus.WARNING)
