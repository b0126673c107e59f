"""What the doctor says of PostgreSQL servers: their facts, the primary, identifiers, and the capability to act."""

from dataclasses import replace

import pytest

from healer.doctor.checks.servers import (
    judge_capability,
    judge_duplicates,
    judge_hosts,
    judge_identities,
    judge_node,
    judge_primary,
)
from healer.doctor.result import CheckStatus
from healer.doctor.server_facts import NoAnswer, Server, ServerFacts, ServerOrError
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
    reads_all_settings=True,
    lists_wal=True,
    wal_level="logical",
    address="10.0.0.1:5432",
    started=1.5,
    hot_standby_feedback=True,
    primary_slot_name="",
)
STANDBY = replace(FACTS, in_recovery=True, primary_slot_name="n", address="10.0.0.2:5432", started=2.5)


def snapshot_with(**statuses: QueryStatus) -> NodeSnapshot:
    all_ok = dict.fromkeys((query.name for query in QUERIES), QueryStatus.OK)
    return NodeSnapshot("c", "n", 0.0, all_ok | statuses)


ALL_OK = snapshot_with()
NODES = [
    (FACTS, ALL_OK, []),
    (STANDBY, ALL_OK, []),
    (replace(FACTS, superuser=True), ALL_OK, [("node", "warning", "as eyes in database app, a superuser")]),
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
    (
        replace(FACTS, reads_all_settings=False),
        ALL_OK,
        [("probes", "warning", "ok, but eyes lacks pg_read_all_settings")],
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


NO_ANSWERS = [
    (NoAnswer("Connection refused"), "unreachable: Connection refused", "Start the server if it is down;"),
    (NoAnswer("no answer within 5 s", QueryStatus.TIMEOUT), "timeout: no answer within 5 s", "Start the server"),
    (
        NoAnswer('failed: FATAL: role "eyes" does not exist', QueryStatus.LOGIN_FAILED),
        'login_failed: failed: FATAL: role "eyes" does not exist',
        'Create role "eyes" on the primary, as pg-slot-healer grants prints it.',
    ),
]


@pytest.mark.parametrize(("answer", "found", "advice"), NO_ANSWERS)
def test_node_without_facts_has_the_exporters_status_and_one_advice(answer: NoAnswer, found: str, advice: str) -> None:
    node, *skipped = judge_node(NODE, answer, None)
    assert (node.status, node.found) == (CheckStatus.FAILED, found)
    assert node.advice.startswith(advice)
    assert [finding.status for finding in skipped] == [CheckStatus.SKIPPED] * 3


PRIMARY = Server(FACTS, "1")
REPLICA = Server(STANDBY, "1")
REFUSED = NoAnswer("Connection refused")
SPLIT = Server(replace(FACTS, started=3.5), "1")
FOREIGN = Server(replace(FACTS, started=3.5), "2")
PRIMARIES = [
    ({NODE: PRIMARY, OTHER: REPLICA}, CheckStatus.OK, "n"),
    ({NODE: PRIMARY, OTHER: REFUSED}, CheckStatus.OK, "n"),
    # A server that is named twice is one primary: `same server` reports it.
    ({NODE: PRIMARY, OTHER: PRIMARY}, CheckStatus.OK, "n, o"),
    ({NODE: PRIMARY, OTHER: SPLIT}, CheckStatus.FAILED, "several: n, o"),
    ({NODE: PRIMARY, OTHER: FOREIGN}, CheckStatus.FAILED, "several: n, o"),
    ({NODE: REPLICA, OTHER: REPLICA}, CheckStatus.FAILED, "all nodes are standbys"),
    ({NODE: REPLICA, OTHER: REFUSED}, CheckStatus.SKIPPED, "some nodes did not answer"),
]


@pytest.mark.parametrize(("servers", "status", "found"), PRIMARIES)
def test_exactly_one_node_has_to_be_the_primary(
    servers: dict[Node, ServerOrError], status: CheckStatus, found: str
) -> None:
    finding = judge_primary(CLUSTER, servers)
    assert finding.status is status
    assert found in finding.found


def test_advice_about_several_primaries_is_never_to_stop_a_server() -> None:
    split = judge_primary(CLUSTER, {NODE: PRIMARY, OTHER: SPLIT}).advice
    assert "Ask your failover manager which server is the leader" in split
    assert "stop neither by hand" in split
    foreign = judge_primary(CLUSTER, {NODE: PRIMARY, OTHER: FOREIGN}).advice
    assert foreign == "These are servers of several clusters: list each under the name of its own cluster."


def test_server_that_is_named_twice_is_reported_as_a_typo() -> None:
    alias = Server(replace(FACTS, address="127.0.0.1:5432"), "1")
    for role, named in ((FACTS, alias), (STANDBY, Server(STANDBY, "1"))):
        [finding] = judge_duplicates(CLUSTER, {NODE: Server(role, "1"), OTHER: named})
        assert finding.status is CheckStatus.FAILED
        assert finding.found.startswith(f"n and o are the same server: {role.address}, started 1970-01-01T00:00:0")
        assert finding.advice == "Correct host and port in the conninfo of n or o: each node is its own server."
    for different in (REPLICA, SPLIT, FOREIGN, REFUSED):
        assert list(judge_duplicates(CLUSTER, {NODE: PRIMARY, OTHER: different})) == []


HOSTS = [
    ("host=a,b port=1,2", "the conninfo names 2 hosts (a:1, b:2) with target_session_attrs=any"),
    ("host=a,b target_session_attrs=prefer-standby", "2 hosts (a:5432, b:5432) with target_session_attrs=prefer-"),
    ("host=a,b target_session_attrs=read-write", None),
    ("postgresql://a,b/app?target_session_attrs=primary", None),
    # A virtual address or a proxy.
    ("host=a", None),
    ("service=nowhere", None),
]


@pytest.mark.parametrize(("conninfo", "found"), HOSTS)
def test_several_hosts_need_target_session_attrs(conninfo: str, found: str | None) -> None:
    findings = list(judge_hosts("c", replace(TARGET, conninfo=Conninfo(conninfo))))
    assert [finding.status for finding in findings] == ([] if found is None else [CheckStatus.WARNING])
    assert all(found is not None and found in finding.found for finding in findings)
    assert all("Add target_session_attrs=read-write" in finding.advice for finding in findings)


IDENTITIES = [
    ("1", "1", "1", CheckStatus.OK, "system identifier 1 everywhere"),
    ("1", "2", "1", CheckStatus.FAILED, "n 1, o 2, healer.conninfo 1"),
    ("1", "1", "2", CheckStatus.FAILED, "n 1, o 1, healer.conninfo 2"),
    ("1", None, "2", CheckStatus.FAILED, "n 1, healer.conninfo 2"),
    ("1", None, "1", CheckStatus.SKIPPED, "could not compare system identifiers: o: the role may not read it"),
    ("1", "down", "1", CheckStatus.SKIPPED, "could not compare system identifiers: o: unreachable"),
    ("1", "1", "down", CheckStatus.SKIPPED, "could not compare system identifiers: healer.conninfo: unreachable"),
    ("1", "1", "off", CheckStatus.OK, "system identifier 1 everywhere"),
]


@pytest.mark.parametrize(("node", "other", "acting", "status", "found"), IDENTITIES)
def test_system_identifiers_have_to_agree(
    node: str, other: str | None, acting: str, status: CheckStatus, found: str
) -> None:
    def server(identifier: str | None) -> ServerOrError:
        return REFUSED if identifier == "down" else Server(FACTS, identifier)

    acting_server = None if acting == "off" else server(acting)
    finding = judge_identities(CLUSTER, {NODE: server(node), OTHER: server(other)}, acting_server)
    assert finding.status is status
    assert found in finding.found


CAPABILITIES = [
    (TARGET, None, PRIMARY, CheckStatus.OK, "can act as eyes in database app"),
    (TARGET, None, REFUSED, CheckStatus.OK, "can act"),
    (replace(TARGET, dry_run=True), None, PRIMARY, CheckStatus.WARNING, "but dry_run: true"),
    (TARGET, None, Server(replace(FACTS, superuser=True), "1"), CheckStatus.WARNING, ", a superuser"),
    (TARGET, Unavailable.DISABLED, None, CheckStatus.WARNING, "switched off in this file: the remedy"),
    (TARGET, Unavailable.MISSING_PRIVILEGE, PRIMARY, CheckStatus.FAILED, "missing_privilege"),
    (
        replace(TARGET, fallback=True),
        Unavailable.MISSING_PRIVILEGE,
        PRIMARY,
        CheckStatus.WARNING,
        "emit_message it heals",
    ),
    (replace(TARGET, fallback=True), Unavailable.UNREACHABLE, REFUSED, CheckStatus.FAILED, "unreachable"),
]


@pytest.mark.parametrize(("target", "reason", "acting", "status", "found"), CAPABILITIES)
def test_findings_about_the_capability_to_act(
    target: HealerConfig, reason: Unavailable | None, acting: ServerOrError | None, status: CheckStatus, found: str
) -> None:
    finding = judge_capability("c", target, Capability(reason, "the remedy"), acting)
    assert finding.status is status
    assert found in finding.found
    if status is CheckStatus.FAILED:
        assert finding.advice == "the remedy"
