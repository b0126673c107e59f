"""Concurrent callers of one node: each is answered in its own time, whatever the node, the others or a reload do."""

import asyncio
import socket
import time
from collections.abc import Collection, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from aiohttp.test_utils import TestClient, TestServer
from psycopg.conninfo import make_conninfo

from exporter.app import application
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerSettings, Node
from pgslot.config.reload import ConfigReloader
from pgslot.diagnosis.peers import peers_needed
from pgslot.postgres.session import Session, SessionQuery
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.identity import Identity
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot, QueryStatus
from pgslot.snapshot.node import NodeCollector
from pgslot.snapshot.queries import OLDEST_SUPPORTED, QUERIES, Scope
from pgslot.snapshot.refused_functions import Answers, called_functions
from pgslot.snapshot.rows import NodeFacts, Slot
from pgslot.snapshot.service_signs import ServiceSigns
from tests.support.builders.snapshots import FACTS
from tests.support.running_healer import until
from tests.support.scrapes import config_reloader, probe_status, scrape
from tests.support.servers.proxy import Proxy
from tests.support.servers.stack import EXPORTER_ROLE, POWERLESS_ROLE, Stack


def clusters(**conninfos: str) -> list[Cluster]:
    return [Cluster("c", tuple(Node("c", name, Conninfo(text)) for name, text in conninfos.items()), None)]


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"host=127.0.0.1 port={listener.getsockname()[1]} user=x"


async def test_collection_runs_until_the_latest_deadline_of_its_callers(databases: Stack) -> None:
    """Half a second is too short for a server that pauses for longer; ten seconds, asked for meanwhile, are not."""
    collector = ClusterCollector(clusters(p=databases.primary.conninfo(EXPORTER_ROLE)), "in flight")

    async def collect(timeout: float) -> tuple[NodeSnapshot, float]:
        began = time.monotonic()
        snapshot = await collector.collect_cluster("c", timeout)
        return snapshot.nodes[0], time.monotonic() - began

    try:
        await collect(5)
        databases.primary.pause_all()
        try:
            short = asyncio.create_task(collect(0.5))
            await asyncio.sleep(0.1)
            long = asyncio.create_task(collect(10))
            node, took = await short
            assert (set(node.statuses.values()), took < 1) == ({QueryStatus.TIMEOUT}, True)
        finally:
            databases.primary.resume_all()
        node, took = await long
        assert set(node.statuses.values()) == {QueryStatus.OK}
        assert took < 9
    finally:
        await collector.close()


async def test_late_caller_does_not_get_a_stale_snapshot(databases: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection of creations ends, the complete one that it goes on with hangs: a third caller joins that."""
    collector = NodeCollector(clusters(p=databases.primary.conninfo(EXPORTER_ROLE))[0].nodes[0], "in flight")
    fetch = Session.fetch
    hung = asyncio.Event()

    async def fetch_then_hang(session: Session, queries: Sequence[SessionQuery], timeout: float) -> list[list[Any]]:
        rows = await fetch(session, queries, timeout)
        if len(queries) == len(Scope.CREATIONS.queries) and not hung.is_set():
            databases.primary.pause_all()
            hung.set()
        return rows

    monkeypatch.setattr(Session, "fetch", fetch_then_hang)
    try:
        first = asyncio.create_task(collector.collect(1, Scope.CREATIONS))
        await asyncio.sleep(0)
        complete = asyncio.create_task(collector.collect(3))
        await hung.wait()
        late = await collector.collect(0.5, Scope.CREATIONS)
        assert set(late.statuses.values()) == {QueryStatus.TIMEOUT}
        assert set((await first).statuses.values()) == {QueryStatus.OK}
        assert set((await complete).statuses.values()) == {QueryStatus.TIMEOUT}
    finally:
        databases.primary.resume_all()
        await collector.close()


async def test_internal_error_of_one_node_costs_that_node_alone(
    databases: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As if its server answered in a way in which none should."""
    connect = Session.connect

    async def misbehave(*_: object) -> list[list[Any]]:
        raise ValueError("not enough values to unpack")

    async def connect_to(conninfo: str, **more: Any) -> Session:
        session = await connect(conninfo, **more)
        if "misbehaves" in conninfo:
            monkeypatch.setattr(session, "fetch", misbehave)
        return session

    monkeypatch.setattr(Session, "connect", connect_to)
    conninfo = databases.primary.conninfo(EXPORTER_ROLE)
    app = application(config_reloader(make_conninfo(conninfo, application_name="misbehaves"), conninfo))
    async with TestClient(TestServer(app)) as client:
        for _ in range(2):
            metrics = await scrape(client)
            assert {dict(labels)["node"]: up for labels, up in metrics["pgslot_up"].items()} == {"n0": 0, "n1": 1}
            assert probe_status(metrics, "n0", "node") == QueryStatus.ERROR
        # It is logged once, with a traceback; and so is its end, as that of any failure.
        [logged] = [record for record in caplog.records if record.exc_info]
        assert "ValueError" in caplog.text
        assert logged.levelname == "ERROR"
        monkeypatch.setattr(Session, "connect", connect)
        assert list((await scrape(client))["pgslot_up"].values()) == [1, 1]


async def test_reload_lets_scrape_in_flight_end(databases: Stack) -> None:
    with silent() as hung:
        before = clusters(p=databases.primary.conninfo(EXPORTER_ROLE), hung=hung)
        after = clusters(p=databases.primary.conninfo(EXPORTER_ROLE), hung=f"{hung} dbname=y")
        current = [Config(tuple(before), HealerSettings())]
        configured = ConfigReloader(lambda: current[0], current[0])
        async with TestClient(TestServer(application(configured))) as client:
            scraping = asyncio.create_task(scrape(client, 2))
            await asyncio.sleep(0.3)
            current[0] = Config(tuple(after), HealerSettings())
            assert await configured.reload() is None
            metrics = await scraping
            assert sorted(metrics["pgslot_up"].values()) == [0, 1]
            assert probe_status(metrics, "hung", "node") == QueryStatus.TIMEOUT
            assert sorted((await scrape(client, 1))["pgslot_up"].values()) == [0, 1]


async def test_closing_ends_a_collection_in_flight_even_of_a_removed_node() -> None:
    with silent() as hung:
        collector = ClusterCollector(clusters(hung=hung), "in flight")
        collecting = asyncio.create_task(collector.collect_cluster("c", 60))
        await asyncio.sleep(0.2)
        collector.reconfigure([])
        await asyncio.wait_for(collector.close(), 2)
        [node] = (await collecting).nodes
    assert set(node.statuses.values()) == {QueryStatus.UNREACHABLE}


async def removed_meanwhile(
    databases: Stack, collector: ClusterCollector, collection: Coroutine[Any, Any, ClusterSnapshot]
) -> ClusterSnapshot:
    """Return what is collected when a reload removes everything while the standby has not answered yet."""
    databases.standby.pause_all()
    try:
        collecting = asyncio.create_task(collection)
        await asyncio.sleep(0.3)
        collector.reconfigure([])
    finally:
        databases.standby.resume_all()
    snapshot = await collecting
    await collector.close()
    return snapshot


async def test_node_removed_between_two_queries_of_a_probe_is_not_an_error(databases: Stack) -> None:
    """A standby's creation is explained by its primary, which is queried after a reload that has removed both."""
    with databases.quiet(), databases.standby.create_slot("leaving"), Proxy(databases.standby.port) as proxy:
        standby = f"host=127.0.0.1 port={proxy.port} dbname=postgres user={EXPORTER_ROLE}"
        collector = ClusterCollector(clusters(p=databases.primary.conninfo(EXPORTER_ROLE), s=standby), "in flight")
        snapshot = await removed_meanwhile(
            databases, collector, collector.collect_node_with_peers("c", "s", 8, peers=peers_needed)
        )
    assert [node.node for node in snapshot.nodes] == ["s", "p"]
    databases.standby.drop_slot("leaving")


@pytest.mark.parametrize("one_node", [True, False], ids=["/probe", "/metrics"])
async def test_cluster_removed_between_a_creation_and_its_explanation_is_not_an_error(
    databases: Stack, one_node: bool
) -> None:
    """Creations alone are collected twice if there are any; the reload comes during the first time."""
    with databases.quiet(), databases.standby.create_slot("leaving"), Proxy(databases.standby.port) as proxy:
        await until(lambda: _creating(databases, "leaving"), "it is in creation", 10)
        standby = f"host=127.0.0.1 port={proxy.port} dbname=postgres user={EXPORTER_ROLE}"
        collector = ClusterCollector(clusters(p=databases.primary.conninfo(EXPORTER_ROLE), s=standby), "in flight")
        collection = (
            collector.collect_node_with_peers("c", "s", 8, Scope.CREATIONS, peers=peers_needed)
            if one_node
            else collector.collect_cluster("c", 8, Scope.CREATIONS)
        )
        snapshot = await removed_meanwhile(databases, collector, collection)
    node = snapshot.node("s")
    assert node is not None
    assert node.standby is not None, "what explains it"
    assert [creation.slot_name for creation in node.creations or ()] == ["leaving"]
    databases.standby.drop_slot("leaving")


async def test_connection_cut_between_scrapes_is_not_an_outage(databases: Stack) -> None:
    with Proxy(databases.primary.port) as proxy:
        conninfo = f"host=127.0.0.1 port={proxy.port} dbname=postgres user={EXPORTER_ROLE}"
        async with TestClient(TestServer(application(config_reloader(conninfo)))) as client:
            for _ in range(4):
                assert list((await scrape(client))["pgslot_up"].values()) == [1]
                proxy.cut()


async def test_probe_of_a_standby_waits_for_its_primary_alone(databases: Stack) -> None:
    with silent() as hung, databases.quiet(), databases.standby.create_slot("alone"):
        both = {"p": databases.primary.conninfo(EXPORTER_ROLE), "s": databases.standby.conninfo(EXPORTER_ROLE)}
        collector = ClusterCollector(clusters(**both, hung=hung), "in flight")
        try:
            await until(lambda: _creating(databases, "alone"), "it is in creation", 10)
            began = time.monotonic()
            snapshot = await collector.collect_node_with_peers("c", "s", 8, peers=peers_needed)
            assert time.monotonic() - began < 4
            assert [node.node for node in snapshot.nodes] == ["s", "p"]
            # Without a node that says that it is the primary, all are waited for.
            collector.reconfigure(clusters(s=both["s"], hung=hung))
            snapshot = await collector.collect_node_with_peers("c", "s", 1, peers=peers_needed)
            assert [node.node for node in snapshot.nodes] == ["s", "hung"]
        finally:
            await collector.close()
    databases.standby.drop_slot("alone")


def _creating(databases: Stack, name: str) -> bool:
    return bool(databases.standby.sql("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND active", [name]))


async def test_failed_login_has_its_own_status(databases: Stack) -> None:
    conninfo = make_conninfo(databases.primary.conninfo(), user="nosuchrole")
    async with TestClient(TestServer(application(config_reloader(conninfo)))) as client:
        assert probe_status(await scrape(client), "n0", "node") == "login_failed"


async def test_grant_that_the_log_asks_for_gives_the_role_what_it_lacks(
    databases: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    collector = NodeCollector(Node("c", "n", Conninfo(databases.primary.conninfo(POWERLESS_ROLE))), "powerless")
    try:
        assert QueryStatus.PERMISSION_DENIED in (await collector.collect(5)).statuses.values()
        [error] = [getattr(record, "fields", {}).get("error", "") for record in caplog.records]
        grant = error.partition("As a superuser on the primary: ")[2]
        assert grant == f'GRANT pg_read_all_stats, pg_read_all_settings TO "{POWERLESS_ROLE}";'
        databases.primary.sql(grant)
        assert set((await collector.collect(5)).statuses.values()) == {QueryStatus.OK}
    finally:
        await collector.close()
        databases.primary.sql(f"REVOKE pg_read_all_stats, pg_read_all_settings FROM {POWERLESS_ROLE}")


def test_node_is_looked_up_without_a_search_through_all() -> None:
    """10,000 requests to /probe every 15 s do this."""

    async def main() -> None:
        many = [Cluster(f"c{i}", (Node(f"c{i}", "n", Conninfo("host=x")),), None) for i in range(10_000)]
        collector = ClusterCollector(many, "in flight")
        began = time.monotonic()
        assert all(collector.knows(f"c{i}", "n") for i in range(10_000))
        assert not collector.knows("c0", "m")
        assert not collector.knows("x", "n")
        assert time.monotonic() - began < 0.5
        await collector.close()

    asyncio.run(main())


class ScriptedSession:
    """A connection to a server that fails at some queries, or dies at its next one."""

    def __init__(self, major: int = 18, fails: Collection[type[Any]] = ()) -> None:
        self.major = major
        self.fails = fails
        self.pooled = False
        self.closed = False
        self.dies = False
        self.renew_at: float | None = None
        self.round_trips: list[list[type[Any]]] = []

    async def fetch(self, queries: Sequence[tuple[str, type[Any]]], _timeout: float) -> list[list[Any]]:
        rows = [row for _, row in queries]
        self.round_trips.append(rows)
        if self.dies:
            self.closed = True
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        if set(rows) & set(self.fails):
            raise psycopg.errors.InsufficientPrivilege("permission denied")
        answers: dict[type[Any], list[Any]] = {Identity: [Identity("1")], NodeFacts: [FACTS]}
        return [answers.get(row, []) for row in rows]

    async def close(self) -> None:
        self.closed = True


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedSession]:
    """The sessions that connections lead to, in this order; each is taken out when it is connected to."""
    sessions: list[ScriptedSession] = []

    async def connect(_conninfo: str, **_: object) -> ScriptedSession:
        return sessions.pop(0)

    monkeypatch.setattr(Session, "connect", connect)
    return sessions


ALL_ROWS = [query.row for query in QUERIES]
ONCE = [[Identity], [ServiceSigns]]
"""The round trips at the beginning of a connection."""


def scripted_node() -> NodeCollector:
    return NodeCollector(Node("c", "n", Conninfo("host=x")), "scripted")


async def test_all_queries_run_in_one_round_trip_after_the_identity_was_asked_once(
    scripted: list[ScriptedSession],
) -> None:
    session, collector = ScriptedSession(), scripted_node()
    scripted.append(session)
    for _ in range(2):
        assert set((await collector.collect(5)).statuses.values()) == {QueryStatus.OK}
    assert session.round_trips == [*ONCE, ALL_ROWS, ALL_ROWS]
    await collector.close()


async def test_when_a_query_fails_each_runs_by_itself(scripted: list[ScriptedSession]) -> None:
    session, collector = ScriptedSession(fails=[Slot]), scripted_node()
    scripted.append(session)
    snapshot = await collector.collect(5)
    by_themselves = [[row] for row in ALL_ROWS]
    # Whether the role may call what the failed query calls, asked once; here it may.
    functions = [[Answers]] * len(called_functions(QUERIES[1].sql(18)))
    assert functions
    assert session.round_trips == [*ONCE, ALL_ROWS, *by_themselves[:2], *functions, *by_themselves[2:]]
    expected = dict.fromkeys((query.name for query in QUERIES), QueryStatus.OK)
    assert snapshot.statuses == expected | {"slots": QueryStatus.PERMISSION_DENIED}
    assert (snapshot.slots, snapshot.creations) == (None, ())
    await collector.close()


async def test_dead_kept_connection_is_replaced_once(scripted: list[ScriptedSession]) -> None:
    first, second, third = (ScriptedSession() for _ in range(3))
    collector = scripted_node()
    scripted.extend((first, second, third))
    assert (await collector.collect(5)).up
    first.dies = True
    assert (await collector.collect(5)).up
    second.dies = third.dies = True
    assert set((await collector.collect(5)).statuses.values()) == {QueryStatus.UNREACHABLE}
    assert (scripted, third.closed) == ([], True)
    await collector.close()


async def test_server_that_is_too_old_answers_node_alone(
    scripted: list[ScriptedSession], caplog: pytest.LogCaptureFixture
) -> None:
    session, collector = ScriptedSession(major=OLDEST_SUPPORTED - 1), scripted_node()
    scripted.append(session)
    snapshot = await collector.collect(5)
    assert session.round_trips == [[Identity], [NodeFacts]]
    expected = dict.fromkeys((query.name for query in QUERIES), QueryStatus.UNSUPPORTED)
    assert snapshot.statuses == expected | {"node": QueryStatus.OK}
    assert snapshot.up
    assert [record.getMessage() for record in caplog.records] == ["cannot query the node"]
    await collector.close()
