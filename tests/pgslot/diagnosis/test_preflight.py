"""The verdict of a preflight, from what servers showed."""

from dataclasses import replace
from typing import Any

import pytest

from pgslot.diagnosis.preflight import preflight, without_node
from pgslot.diagnosis.preflight_model import Line, Observation, Outcome, Preflight, Status, Wait
from pgslot.postgres.replication_login import LoginOutcome, ReplicationLogin
from pgslot.snapshot.model import NodeSnapshot, QueryStatus
from pgslot.snapshot.preflight import PreflightFacts, SlotRequest
from pgslot.snapshot.preflight_rows import PreflightLibrary, PreflightPublication, PreflightServer
from tests.support.builders.snapshots import FACTS, SLOT, STANDBY, TRANSACTION, cluster, node, unreachable_node

SERVER = PreflightServer(
    session_user="exporter",
    usename="cdc",
    datname="shop",
    user_exists=True,
    user_may_login=True,
    user_replicates=True,
    user_in_rds_replication=False,
    has_rds_replication=False,
    database_connectable=True,
    user_may_connect=True,
    lock_timeout_seconds=0.0,
    statement_timeout_seconds=0.0,
    max_wal_senders=10,
    wal_senders=1,
    plugin_in_use=False,
    reads_libraries=False,
    may_force_record=False,
    user_may_force_record=False,
    may_force_records=["healer", "postgres"],
    xid_holders=[],
    upstream=None,
)
PUBLICATION = PreflightPublication(
    exists=True,
    publications=["p"],
    needs_identity=True,
    all_tables=False,
    table_count=2,
    unidentified_count=0,
    unidentified=[],
    heartbeats=["public.heartbeat"],
    unpublished_heartbeats=[],
)
ADMITTED = ReplicationLogin(LoginOutcome.ADMITTED)
LIMITED = replace(FACTS, max_slot_wal_keep_size_bytes=4 * FACTS.max_wal_size_bytes)
FACTS_17 = replace(LIMITED, version="17.10")
ASKED = SlotRequest("shop", "cdc")


def judged(
    target: NodeSnapshot,
    *others: NodeSnapshot,
    before: tuple[NodeSnapshot, ...] | None = None,
    request: SlotRequest = ASKED,
    primary: PreflightServer | None = None,
    volume: int | None = None,
    **facts: Any,
) -> Preflight:
    """Judge a creation on the first node; `facts` of PreflightFacts."""
    nodes = (target, *others)
    seen = PreflightFacts(**{"server": SERVER, "login": ADMITTED, **facts})
    earlier = cluster(*(before if before is not None else nodes))
    return preflight(
        Observation(request, target.node, cluster(*nodes), earlier, 1.2, seen, primary, wal_volume_bytes=volume)
    )


def on_primary(**facts: Any) -> Preflight:
    return judged(node("a", recovery=False, facts=LIMITED), **facts)


def line(result: Preflight, check: str) -> Line:
    [found] = [found for found in result.lines if found.check == check]
    return found


def test_primary_where_nothing_stands_in_the_way() -> None:
    result = on_primary(publication=PUBLICATION, request=replace(ASKED, publication="p"))
    assert result.outcome is Outcome.AT_ONCE
    assert result.everything_known
    assert not result.fails
    assert {found.status for found in result.lines if found.check != "disk"} == {Status.OK}


SERVERS = [
    ("user", {"user_exists": False, "user_may_login": None, "user_replicates": None}, "CREATE ROLE"),
    ("user", {"user_may_login": False}, 'ALTER ROLE "cdc" LOGIN;'),
    ("user", {"user_replicates": False}, 'ALTER ROLE "cdc" REPLICATION;'),
    ("user", {"user_replicates": False, "has_rds_replication": True}, 'GRANT rds_replication TO "cdc";'),
    ("database", {"database_connectable": None, "user_may_connect": None}, None),
    ("database", {"database_connectable": False}, "ALLOW_CONNECTIONS true"),
    ("database", {"user_may_connect": False}, 'GRANT CONNECT ON DATABASE "shop" TO "cdc";'),
    ("WAL senders", {"wal_senders": 10}, "ALTER SYSTEM SET max_wal_senders = 20;"),
]


@pytest.mark.parametrize(("check", "fields", "fix"), SERVERS)
def test_what_fails_has_its_statement(check: str, fields: dict[str, Any], fix: str | None) -> None:
    result = on_primary(server=replace(SERVER, **fields))
    assert result.outcome is Outcome.FAILS
    assert [found.check for found in result.lines if found.status is Status.FAIL] == [check]
    assert fix is None or fix in line(result, check).fix[0]


def test_member_of_rds_replication_replicates() -> None:
    server = replace(SERVER, user_replicates=False, user_in_rds_replication=True, has_rds_replication=True)
    assert on_primary(server=server).outcome is Outcome.AT_ONCE


NODES = [
    ("wal_level", replace(LIMITED, wal_level="replica", effective_wal_level="replica"), Status.FAIL),
    ("wal_level", replace(LIMITED, version="19.0", wal_level="replica", effective_wal_level="replica"), Status.OK),
    ("wal_level", replace(LIMITED, version="19.0", wal_level="minimal", effective_wal_level="minimal"), Status.FAIL),
    ("replication slots", replace(LIMITED, replication_slots=10), Status.FAIL),
    ("replication slots", replace(LIMITED, replication_slots=9), Status.OK),
    ("WAL limit", FACTS, Status.WARNING),
    ("WAL limit", replace(FACTS, max_slot_wal_keep_size_bytes=FACTS.max_wal_size_bytes - 1), Status.WARNING),
    ("idle timeout", replace(LIMITED, idle_replication_slot_timeout_seconds=60.0), Status.WARNING),
    ("idle timeout", replace(LIMITED, idle_replication_slot_timeout_seconds=86400.0), Status.OK),
]


@pytest.mark.parametrize(("check", "facts", "status"), NODES)
def test_settings_of_a_primary(check: str, facts: Any, status: Status) -> None:
    result = judged(node("a", recovery=False, facts=facts))
    assert line(result, check).status is status
    assert result.outcome is (Outcome.FAILS if status is Status.FAIL else Outcome.AT_ONCE)
    assert bool(line(result, check).fix) == (status is not Status.OK)


LOGINS = [
    (LoginOutcome.NOT_TRIED, "", "cdc", Status.UNKNOWN),
    (LoginOutcome.UNREACHABLE, "no answer", "cdc", Status.UNKNOWN),
    (LoginOutcome.PASSWORD, "fe_sendauth: no password supplied", "cdc", Status.UNKNOWN),
    (LoginOutcome.PASSWORD, "x failed: FATAL: password authentication failed", "exporter", Status.FAIL),
    (LoginOutcome.REFUSED, "x failed: FATAL: pg_hba.conf rejects connection for host", "cdc", Status.FAIL),
    (LoginOutcome.REFUSED, "x failed: FATAL: too many connections for role", "cdc", Status.UNKNOWN),
]


@pytest.mark.parametrize(("outcome", "error", "user", "status"), LOGINS)
def test_login_of_the_user(outcome: LoginOutcome, error: str, user: str, status: Status) -> None:
    result = on_primary(server=replace(SERVER, usename=user), login=ReplicationLogin(outcome, error))
    assert line(result, "pg_hba.conf").status is status
    assert result.outcome is (Outcome.FAILS if status is Status.FAIL else Outcome.UNKNOWN)


PLUGINS = [
    ("wal2json", None, False, Status.UNKNOWN),
    ("wal2json", QueryStatus.TIMEOUT, False, Status.UNKNOWN),
    ("wal2json", None, True, Status.OK),
    ("wal2json", PreflightLibrary("/lib", True, True), False, Status.OK),
    ("plpgsql", PreflightLibrary("/lib", True, True), False, Status.UNKNOWN),
    ("wal2json", PreflightLibrary("/lib", False, True), False, Status.FAIL),
    ("wal2json", PreflightLibrary("/lib", False, False), False, Status.UNKNOWN),
    ("pgrepack", None, False, Status.FAIL),
    ("pgoutput", None, False, Status.OK),
]


@pytest.mark.parametrize(("plugin", "library", "in_use", "status"), PLUGINS)
def test_plugin(plugin: str, library: Any, in_use: bool, status: Status) -> None:
    server = replace(SERVER, plugin_in_use=in_use)
    result = on_primary(server=server, library=library, request=replace(ASKED, plugin=plugin))
    assert line(result, "plugin").status is status


@pytest.mark.parametrize(
    ("slot", "status"), [(None, Status.OK), (SLOT, Status.FAIL), (SLOT._replace(active=False), Status.FAIL)]
)
def test_name_of_the_slot(slot: Any, status: Status) -> None:
    slots = () if slot is None else (slot,)
    result = judged(node("a", recovery=False, facts=LIMITED, slots=slots), request=replace(ASKED, slot="s"))
    assert line(result, "slot name").status is status
    assert bool(line(result, "slot name").fix) == (slot is not None and not slot.active)


PREPARED = replace(TRANSACTION, kind="prepared", pid=None, application_name="it's", backend_type="prepared")


@pytest.mark.parametrize(
    ("transaction", "who", "fix"),
    [
        (TRANSACTION, "pid 200, user worker, application batch, database app", "pg_terminate_backend(200)"),
        (PREPARED, 'prepared transaction "it\'s" of worker in app', "ROLLBACK PREPARED 'it''s'"),
    ],
)
def test_transaction_in_both_snapshots_makes_it_wait(transaction: Any, who: str, fix: str) -> None:
    result = judged(node("a", recovery=False, facts=LIMITED, transactions=(transaction,)))
    found = line(result, "transactions")
    assert result.outcome is Outcome.WAITS
    assert who in found.text
    assert fix in found.fix[0]
    assert found.fix_on == "a"


def test_transaction_in_one_snapshot_alone_has_ended_or_will() -> None:
    quiet = node("a", recovery=False, facts=LIMITED)
    busy = replace(quiet, transactions=(TRANSACTION,))
    other = replace(quiet, transactions=(replace(TRANSACTION, xid=695),))
    for first, second in [(quiet, busy), (busy, quiet), (other, busy)]:
        assert judged(second, before=(first,)).outcome is Outcome.AT_ONCE


def test_transaction_without_an_xid_does_not_block() -> None:
    snapshot = replace(TRANSACTION, kind="snapshot", xid=None, xid_age=None)
    assert judged(node("a", recovery=False, facts=LIMITED, transactions=(snapshot,))).outcome is Outcome.AT_ONCE


def test_hidden_transactions_are_counted_by_their_locks() -> None:
    hidden = node("a", recovery=False, facts=LIMITED, transactions=None)
    assert judged(hidden).outcome is Outcome.AT_ONCE
    result = judged(hidden, server=replace(SERVER, xid_holders=[0, 77]))
    assert result.outcome is Outcome.WAITS
    assert "a prepared transaction, pid 77" in line(result, "transactions").text
    assert "GRANT pg_read_all_stats" in line(result, "transactions").fix[0]


def test_timeout_of_the_user_is_shown_where_the_creation_waits() -> None:
    waiting = node("a", recovery=False, facts=LIMITED, transactions=(TRANSACTION,))
    server = replace(SERVER, statement_timeout_seconds=5.0)
    assert "call of pg_create_logical_replication_slot()" in line(judged(waiting, server=server), "timeouts").text
    server = replace(server, lock_timeout_seconds=0.3)
    assert "lock_timeout = 0.3 s of cdc ends the creation" in line(judged(waiting, server=server), "timeouts").text
    assert "timeouts" not in {found.check for found in judged(waiting).lines}
    assert "timeouts" not in {found.check for found in on_primary(server=server).lines}


PRIMARY = node("p", recovery=False, facts=FACTS_17)
REPLICA = node("s", recovery=True, facts=replace(FACTS_17, in_recovery=True))


def writes(wal: int) -> NodeSnapshot:
    return replace(PRIMARY, facts=replace(FACTS_17, wal_written_bytes=1000 + wal))


@pytest.mark.parametrize(("wal", "bounded"), [(0, False), (100, False), (5000, True)])
def test_standby_waits_for_a_record_of_its_primary(wal: int, bounded: bool) -> None:
    result = judged(REPLICA, writes(wal), before=(REPLICA, PRIMARY), primary=SERVER)
    [wait] = result.waits
    assert result.outcome is Outcome.WAITS
    assert wait.wait is Wait.RECORD
    assert wait.at_most_seconds == (4 * 15 + 50 * 0.2 if bounded else None)
    assert wait.fix == (
        "SELECT pg_catalog.pg_log_standby_snapshot();",
        'GRANT EXECUTE ON FUNCTION pg_catalog.pg_log_standby_snapshot() TO "cdc";',
    )
    assert "healer and postgres may ask for one; cdc may not." in wait.text


def test_user_who_may_ask_for_a_record_needs_no_grant() -> None:
    result = judged(REPLICA, PRIMARY, primary=replace(SERVER, user_may_force_record=True))
    assert line(result, "record").fix == ("SELECT pg_catalog.pg_log_standby_snapshot();",)
    assert "cdc may ask for one itself" in line(result, "record").text


REPLAYS = [
    ({"replay_pause_state": "paused"}, "replay is paused", True),
    ({"startup_wait_event": "RecoveryConflictSnapshot"}, "queries on this standby", True),
    ({"startup_wait_event": "RecoveryApplyDelay", "apply_delay_seconds": 60.0}, "delayed by 1 min", True),
    ({"receiver_running": False}, "no WAL arrives", True),
    ({"replay_lag_bytes": 64 * 1024 * 1024}, "64.0 MiB behind", True),
    ({"replay_lag_bytes": 1024}, "1.0 KiB behind", False),
]


@pytest.mark.parametrize(("fields", "text", "waits"), REPLAYS)
def test_replay_of_a_standby(fields: dict[str, Any], text: str, waits: bool) -> None:
    target = replace(REPLICA, standby=replace(STANDBY, **fields))
    result = judged(target, PRIMARY, primary=SERVER)
    assert text in line(result, "replay").text
    assert [found.wait for found in result.waits] == ([Wait.REPLAY] if waits else []) + [Wait.RECORD]


def test_standby_without_its_primary_says_what_is_unknown() -> None:
    result = judged(REPLICA, server=replace(SERVER, upstream="10.0.0.1:5432"))
    assert line(result, "primary's wal_level").status is Status.UNKNOWN
    assert "10.0.0.1:5432" in line(result, "primary's wal_level").text
    assert line(result, "transactions").status is Status.UNKNOWN
    assert result.outcome is Outcome.WAITS
    assert not result.everything_known
    with_slot = replace(REPLICA, slots=(SLOT,))
    assert line(judged(with_slot), "primary's wal_level").status is Status.OK


def test_standby_of_a_primary_with_too_low_a_wal_level() -> None:
    low = replace(PRIMARY, facts=replace(FACTS_17, wal_level="replica", effective_wal_level="replica"))
    result = judged(REPLICA, low, primary=SERVER)
    assert result.outcome is Outcome.FAILS
    assert line(result, "primary's wal_level").fix_on == "p"


def test_standby_before_16_fails_and_nothing_else_is_said_of_the_creation() -> None:
    old = replace(FACTS_17, version="15.18")
    result = judged(
        node("s", recovery=True, facts=replace(old, in_recovery=True)), node("p", recovery=False, facts=old)
    )
    assert result.outcome is Outcome.FAILS
    assert [found.check for found in result.lines if found.stage == "creation"] == ["server"]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, Status.OK),
        ({"hot_standby_feedback": False}, Status.WARNING),
        ({"primary_slot_name": ""}, Status.WARNING),
    ],
)
def test_feedback_of_a_standby(fields: dict[str, Any], status: Status) -> None:
    result = judged(replace(REPLICA, standby=replace(STANDBY, **fields)), PRIMARY, primary=SERVER)
    assert line(result, "feedback").status is status


PUBLICATIONS = [
    ("publication", {"exists": False, "publications": ["q"]}, Status.FAIL, "CREATE PUBLICATION"),
    ("publication", {"table_count": 0}, Status.WARNING, "ADD TABLE"),
    ("publication", {"table_count": 0, "all_tables": True}, Status.WARNING, None),
    ("replica identity", {"unidentified_count": 1, "unidentified": ["public.t"]}, Status.FAIL, "REPLICA IDENTITY FULL"),
    ("replica identity", {"needs_identity": False, "unidentified_count": 1}, Status.OK, None),
    ("heartbeat", {"heartbeats": []}, Status.WARNING, "CREATE TABLE public.heartbeat"),
    (
        "heartbeat",
        {"heartbeats": [], "unpublished_heartbeats": ["public.heartbeats"]},
        Status.WARNING,
        "ADD TABLE public.heartbeats",
    ),
]


@pytest.mark.parametrize(("check", "fields", "status", "fix"), PUBLICATIONS)
def test_publication(check: str, fields: dict[str, Any], status: Status, fix: str | None) -> None:
    found = replace(PUBLICATION, **fields)
    result = on_primary(publication=found, request=replace(ASKED, publication="p"))
    assert line(result, check).status is status
    assert fix is None or fix in line(result, check).fix[0]
    assert result.outcome is Outcome.AT_ONCE, "it is the consumer that fails"
    assert result.fails == (status is Status.FAIL)


def test_publication_that_could_not_be_read_is_unknown() -> None:
    result = on_primary(publication=QueryStatus.TIMEOUT, request=replace(ASKED, publication="p"))
    assert line(result, "publication").status is Status.UNKNOWN
    assert not result.everything_known


def test_other_plugin_does_not_read_the_publication() -> None:
    request = replace(ASKED, plugin="test_decoding", publication="p")
    result = on_primary(publication=PUBLICATION, server=replace(SERVER, plugin_in_use=True), request=request)
    assert line(result, "publication").status is Status.WARNING


@pytest.mark.parametrize(
    ("room", "status"), [(None, Status.UNKNOWN), (2 * 1024**3, Status.WARNING), (100 * 1024**3, Status.OK)]
)
def test_disk_is_judged_by_the_configuration_alone(room: int | None, status: Status) -> None:
    result = on_primary(volume=room)
    assert line(result, "disk").status is status
    assert result.outcome is Outcome.AT_ONCE
    assert result.everything_known, "it does not decide about the creation"


def test_server_that_does_not_answer_is_unknown() -> None:
    for result in (
        judged(unreachable_node("a"), server=QueryStatus.UNREACHABLE),
        judged(node("a", recovery=False), server=QueryStatus.LOGIN_FAILED),
    ):
        assert result.outcome is Outcome.UNKNOWN
        assert [found.status for found in result.lines] == [Status.UNKNOWN]
    [found] = without_node(cluster(REPLICA, unreachable_node("p")), ASKED).lines
    assert found.text == "no host is a primary: name the node with --on (p: it did not answer)"
    [found] = without_node(cluster(PRIMARY, replace(PRIMARY, node="q")), ASKED).lines
    assert found.text == "p and q are primaries: name the node with --on"
