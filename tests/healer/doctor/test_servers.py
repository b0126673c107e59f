"""What the doctor says of PostgreSQL servers: their facts, the primary, identifiers, and the capability to act."""

from dataclasses import replace

import pytest

from healer.doctor.checks.servers import judge_capability, judge_identities, judge_node, judge_primary
from healer.doctor.result import CheckStatus
from healer.doctor.server_facts import Server, ServerFacts
from healer.remedies.attempt import Capability, Unavailable
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, HealerConfig, Node
from pgslot.snapshot.model import NodeSnapshot, QueryStatus
from pgslot.snapshot.queries import QUERIES
from tests.support.fakes.monitoring import notable

NODE = Node("c", "n", Conninfo("host=nowhere"))
OTHER = Node("c", "o", Conninfo("host=nowhere"))
TARGET = HealerConfig(Conninfo("host=nowhere"), enabled=True, dry_run=False)
CLUSTER = Cluster("c", (NODE, OTHER), TARGET)
FACTS = ServerFacts(
    in_recovery=False,
    version="18.6",
    version_num=180006,
    role="eyes",
    database="app",
    superuser=False,
    wal_level="logical",
    hot_standby_feedback=True,
    primary_slot_name="",
)
STANDBY = replace(FACTS, in_recovery=True, primary_slot_name="n")


def snapshot_with(**statuses: QueryStatus) -> NodeSnapshot:
    all_ok = dict.fromkeys((query.name for query in QUERIES), QueryStatus.OK)
    return NodeSnapshot("c", "n", 0.0, all_ok | statuses)


ALL_OK = snapshot_with()
NODES = [
    (FACTS, ALL_OK, []),
    (STANDBY, ALL_OK, []),
    (replace(FACTS, superuser=True), ALL_OK, [("node", "warning", "as eyes in database app, who is a superuser")]),
    (replace(FACTS, wal_level="replica"), ALL_OK, [("wal_level", "failed", "replica")]),
    # 19 raises it with the primary's first logical slot.
    (replace(FACTS, wal_level="replica", version_num=190000), ALL_OK, []),
    (
        replace(STANDBY, wal_level="replica", version_num=190000),
        ALL_OK,
        [("wal_level", "warning", "replica, until the primary's first logical slot is created")],
    ),
    (replace(FACTS, wal_level="minimal", version_num=190000), ALL_OK, [("wal_level", "failed", "minimal")]),
    (
        replace(STANDBY, hot_standby_feedback=False, primary_slot_name=""),
        ALL_OK,
        [("standby", "warning", "hot_standby_feedback is off, primary_slot_name is empty")],
    ),
    # Before 16 a standby has no logical slots.
    (replace(STANDBY, version_num=150018, hot_standby_feedback=False), ALL_OK, []),
    (
        FACTS,
        snapshot_with(creations=QueryStatus.PERMISSION_DENIED),
        [("probes", "failed", "creations: permission_denied")],
    ),
    (FACTS, snapshot_with(slots=QueryStatus.UNSUPPORTED), [("probes", "failed", "slots: unsupported")]),
    (FACTS, snapshot_with(slots=QueryStatus.TIMEOUT), [("probes", "failed", "slots: timeout")]),
    (FACTS, snapshot_with(slots=QueryStatus.ERROR), [("probes", "failed", "slots: error")]),
]


@pytest.mark.parametrize(("facts", "snapshot", "expected"), NODES)
def test_findings_about_a_node(
    facts: ServerFacts, snapshot: NodeSnapshot, expected: list[tuple[str, str, str]]
) -> None:
    findings = list(judge_node(NODE, Server(facts, "1"), snapshot))
    actual = notable(findings)
    assert [(check, status) for check, _, status, _ in actual] == [(check, status) for check, status, _ in expected]
    assert all(part in text for (*_, text), (*_, part) in zip(actual, expected, strict=True))
    assert all(finding.advice for finding in findings if finding.status is not CheckStatus.OK)


def test_advised_grant_quotes_the_role() -> None:
    server = Server(replace(FACTS, role='o"d'), "1")
    denied = snapshot_with(standby=QueryStatus.PERMISSION_DENIED)
    advice = [finding.advice for finding in judge_node(NODE, server, denied)]
    assert 'GRANT pg_read_all_stats, pg_read_all_settings TO "o""d";' in "".join(advice)


PRIMARY = Server(FACTS, "1")
REPLICA = Server(STANDBY, "1")
PRIMARIES = [
    ({NODE: PRIMARY, OTHER: REPLICA}, CheckStatus.OK, "n"),
    ({NODE: PRIMARY, OTHER: "refused"}, CheckStatus.OK, "n"),
    ({NODE: PRIMARY, OTHER: PRIMARY}, CheckStatus.FAILED, "several: n, o"),
    ({NODE: REPLICA, OTHER: REPLICA}, CheckStatus.FAILED, "all nodes are standbys"),
    ({NODE: REPLICA, OTHER: "refused"}, CheckStatus.SKIPPED, "not all nodes answered"),
]


@pytest.mark.parametrize(("servers", "status", "found"), PRIMARIES)
def test_exactly_one_node_has_to_be_the_primary(
    servers: dict[Node, Server | str], status: CheckStatus, found: str
) -> None:
    finding = judge_primary(CLUSTER, servers)
    assert finding.status is status
    assert found in finding.found


IDENTITIES = [
    ("1", "1", "1", CheckStatus.OK, "system identifier 1 everywhere"),
    ("1", "2", "1", CheckStatus.FAILED, "n 1, o 2, healer.conninfo 1"),
    ("1", "1", "2", CheckStatus.FAILED, "n 1, o 1, healer.conninfo 2"),
    ("1", None, "2", CheckStatus.FAILED, "n 1, healer.conninfo 2"),
    ("1", None, "1", CheckStatus.SKIPPED, "may not be read on o"),
    ("1", "down", "1", CheckStatus.SKIPPED, "not all servers answered"),
    ("1", "1", "down", CheckStatus.SKIPPED, "not all servers answered"),
]


@pytest.mark.parametrize(("node", "other", "acting", "status", "found"), IDENTITIES)
def test_system_identifiers_have_to_agree(
    node: str, other: str | None, acting: str, status: CheckStatus, found: str
) -> None:
    def server(identifier: str | None) -> Server | str:
        return "no answer" if identifier == "down" else Server(FACTS, identifier)

    finding = judge_identities(CLUSTER, {NODE: server(node), OTHER: server(other)}, server(acting))
    assert finding.status is status
    assert found in finding.found


CAPABILITIES = [
    (TARGET, None, PRIMARY, CheckStatus.OK, "can act as eyes in database app"),
    (TARGET, None, "gone", CheckStatus.OK, "can act"),
    (replace(TARGET, dry_run=True), None, PRIMARY, CheckStatus.WARNING, "but dry_run: true"),
    (TARGET, None, Server(replace(FACTS, superuser=True), "1"), CheckStatus.WARNING, "who is a superuser"),
    (TARGET, Unavailable.DISABLED, "off", CheckStatus.WARNING, "switched off: the remedy"),
    (TARGET, Unavailable.MISSING_PRIVILEGE, PRIMARY, CheckStatus.FAILED, "missing_privilege"),
    (
        replace(TARGET, fallback=True),
        Unavailable.MISSING_PRIVILEGE,
        PRIMARY,
        CheckStatus.WARNING,
        "emit_message it heals",
    ),
    (replace(TARGET, fallback=True), Unavailable.UNREACHABLE, "gone", CheckStatus.FAILED, "unreachable"),
]


@pytest.mark.parametrize(("target", "reason", "acting", "status", "found"), CAPABILITIES)
def test_findings_about_the_capability_to_act(
    target: HealerConfig, reason: Unavailable | None, acting: Server | str, status: CheckStatus, found: str
) -> None:
    finding = judge_capability("c", target, Capability(reason, "the remedy"), acting)
    assert finding.status is status
    assert found in finding.found
    if status is CheckStatus.FAILED:
        assert finding.advice == "the remedy"
