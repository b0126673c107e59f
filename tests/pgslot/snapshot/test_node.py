"""Looks that several wait for: each within its own time, whatever the node, the others or a reload do meanwhile."""

import asyncio
import socket
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from psycopg.conninfo import make_conninfo

from exporter.app import application
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerSettings, Node
from pgslot.config.reload import ConfigReloader
from pgslot.diagnosis.peers import peers_needed
from pgslot.postgres.session import Session
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot, QueryStatus
from pgslot.snapshot.node import NodeCollector
from pgslot.snapshot.queries import CREATIONS, Query
from tests.exporter.test_scrape import configuration, scrape, status_of
from tests.support.running_healer import until
from tests.support.servers.proxy import Proxy
from tests.support.servers.stack import EXPORTER_ROLE, Stack


def clusters(**conninfos: str) -> list[Cluster]:
    return [Cluster("c", tuple(Node("c", name, Conninfo(text)) for name, text in conninfos.items()), None)]


@contextmanager
def silent() -> Iterator[str]:
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"host=127.0.0.1 port={listener.getsockname()[1]} user=x"


async def test_a_look_runs_to_the_longest_time_of_those_who_wait_for_it(databases: Stack) -> None:
    """Half a second is too short for a server that pauses for longer; ten seconds, asked for meanwhile, are not."""
    observer = ClusterCollector(clusters(p=databases.primary.conninfo(EXPORTER_ROLE)), "flights")

    async def look(timeout: float) -> tuple[NodeSnapshot, float]:
        began = time.monotonic()
        snapshot = await observer.collect_cluster("c", timeout)
        return snapshot.nodes[0], time.monotonic() - began

    try:
        await look(5)
        databases.primary.pause_all()
        try:
            short = asyncio.create_task(look(0.5))
            await asyncio.sleep(0.1)
            long = asyncio.create_task(look(10))
            node, took = await short
            assert (set(node.statuses.values()), took < 1) == ({QueryStatus.TIMEOUT}, True)
        finally:
            databases.primary.resume_all()
        node, took = await long
        assert set(node.statuses.values()) == {QueryStatus.OK}
        assert took < 9
    finally:
        await observer.close()


async def test_nobody_is_told_what_was_seen_before_he_asked(databases: Stack) -> None:
    """A look for creations ends, the whole one that somebody else has joined for hangs: a third one comes to that."""
    observer = NodeCollector(clusters(p=databases.primary.conninfo(EXPORTER_ROLE))[0].nodes[0], "flights")
    really = observer._look
    hung = asyncio.Event()

    async def look(deadline: float, probes: Sequence[Query]) -> NodeSnapshot:
        snapshot = await really(deadline, probes)
        if not hung.is_set():
            databases.primary.pause_all()
            hung.set()
        return snapshot

    observer._look = look  # type: ignore[method-assign]
    try:
        first = asyncio.create_task(observer.collect(1, CREATIONS))
        await asyncio.sleep(0)
        whole = asyncio.create_task(observer.collect(3))
        await hung.wait()
        late = await observer.collect(0.5, CREATIONS)
        assert set(late.statuses.values()) == {QueryStatus.TIMEOUT}
        assert set((await first).statuses.values()) == {QueryStatus.OK}
        assert set((await whole).statuses.values()) == {QueryStatus.TIMEOUT}
    finally:
        databases.primary.resume_all()
        await observer.close()


async def test_a_defect_that_one_node_brings_out_costs_that_node(
    databases: Stack, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What nobody thought of, as where a server answers in a way that none should."""
    really = NodeCollector._identify

    async def identify(observer: NodeCollector, session: Session, deadline: float) -> None:
        if observer.node.name == "n0":
            raise ValueError("not enough values to unpack")
        await really(observer, session, deadline)

    monkeypatch.setattr(NodeCollector, "_identify", identify)
    conninfo = databases.primary.conninfo(EXPORTER_ROLE)
    async with TestClient(TestServer(application(configuration(conninfo, conninfo)))) as client:
        for _ in range(2):
            metrics = await scrape(client)
            assert {dict(labels)["node"]: up for labels, up in metrics["pgslot_up"].items()} == {"n0": 0, "n1": 1}
            assert status_of(metrics, "n0", "node") == QueryStatus.ERROR
        # Once, with the place that it comes from; and the end of it as of any failure.
        [told] = [record for record in caplog.records if record.exc_info]
        assert "ValueError" in caplog.text
        assert told.levelname == "ERROR"
        monkeypatch.setattr(NodeCollector, "_identify", really)
        assert list((await scrape(client))["pgslot_up"].values()) == [1, 1]


async def test_a_reload_lets_a_scrape_in_flight_end(databases: Stack) -> None:
    with silent() as hung:
        before = clusters(p=databases.primary.conninfo(EXPORTER_ROLE), hung=hung)
        after = clusters(p=databases.primary.conninfo(EXPORTER_ROLE), hung=f"{hung} dbname=y")
        current = [Config(tuple(before), HealerSettings())]
        configured = ConfigReloader(lambda: current[0], current[0])
        async with TestClient(TestServer(application(configured))) as client:
            scraping = asyncio.create_task(scrape(client, 2))
            await asyncio.sleep(0.3)
            current[0] = Config(tuple(after), HealerSettings())
            assert await configured.reload_async() is None
            metrics = await scraping
            assert sorted(metrics["pgslot_up"].values()) == [0, 1]
            assert status_of(metrics, "hung", "node") == QueryStatus.TIMEOUT
            assert sorted((await scrape(client, 1))["pgslot_up"].values()) == [0, 1]


async def test_the_end_of_the_process_ends_a_look() -> None:
    with silent() as hung:
        observer = ClusterCollector(clusters(hung=hung), "flights")
        look = asyncio.create_task(observer.collect_cluster("c", 60))
        await asyncio.sleep(0.2)
        observer.reconfigure([])
        await asyncio.wait_for(observer.close(), 2)
        [node] = (await look).nodes
    assert set(node.statuses.values()) == {QueryStatus.UNREACHABLE}


async def with_all_gone_meanwhile(
    databases: Stack, observer: ClusterCollector, looking: Coroutine[Any, Any, ClusterSnapshot]
) -> ClusterSnapshot:
    """Return what the look shows when a reload takes everything out while the standby has not answered yet."""
    databases.standby.pause_all()
    try:
        look = asyncio.create_task(looking)
        await asyncio.sleep(0.3)
        observer.reconfigure([])
    finally:
        databases.standby.resume_all()
    snapshot = await look
    await observer.close()
    return snapshot


async def test_a_node_that_leaves_between_two_questions_of_a_probe_is_no_error(databases: Stack) -> None:
    """A standby's creation is explained by its primary, which is asked after a reload that knows neither."""
    with databases.quiet(), databases.standby.create_slot("leaving"), Proxy(databases.standby.port) as proxy:
        standby = f"host=127.0.0.1 port={proxy.port} dbname=postgres user={EXPORTER_ROLE}"
        observer = ClusterCollector(clusters(p=databases.primary.conninfo(EXPORTER_ROLE), s=standby), "flights")
        snapshot = await with_all_gone_meanwhile(
            databases, observer, observer.collect_node_with_peers("c", "s", 8, peers=peers_needed)
        )
    assert [node.node for node in snapshot.nodes] == ["s", "p"]
    databases.standby.drop_slot("leaving")


@pytest.mark.parametrize("one", [True, False], ids=["/probe", "/metrics"])
async def test_a_cluster_that_leaves_between_a_creation_and_its_explanation_is_no_error(
    databases: Stack, one: bool
) -> None:
    """A look for creations alone asks twice if there is one; the reload comes while it asks for the first time."""
    with databases.quiet(), databases.standby.create_slot("leaving"), Proxy(databases.standby.port) as proxy:
        await until(lambda: _creating(databases, "leaving"), "it is in creation", 10)
        standby = f"host=127.0.0.1 port={proxy.port} dbname=postgres user={EXPORTER_ROLE}"
        observer = ClusterCollector(clusters(p=databases.primary.conninfo(EXPORTER_ROLE), s=standby), "flights")
        looking = (
            observer.collect_node_with_peers("c", "s", 8, CREATIONS, peers=peers_needed)
            if one
            else observer.collect_cluster("c", 8, CREATIONS)
        )
        snapshot = await with_all_gone_meanwhile(databases, observer, looking)
    found = snapshot.node("s")
    assert found is not None
    assert found.standby is not None, "what explains it"
    assert [creation.slot_name for creation in found.creations or ()] == ["leaving"]
    databases.standby.drop_slot("leaving")


async def test_connections_that_are_cut_between_scrapes_are_no_outage(databases: Stack) -> None:
    with Proxy(databases.primary.port) as proxy:
        conninfo = f"host=127.0.0.1 port={proxy.port} dbname=postgres user={EXPORTER_ROLE}"
        async with TestClient(TestServer(application(configuration(conninfo)))) as client:
            for _ in range(4):
                assert list((await scrape(client))["pgslot_up"].values()) == [1]
                proxy.cut()


async def test_a_probe_of_a_standby_waits_for_its_primary_alone(databases: Stack) -> None:
    with silent() as hung, databases.quiet(), databases.standby.create_slot("alone"):
        both = {"p": databases.primary.conninfo(EXPORTER_ROLE), "s": databases.standby.conninfo(EXPORTER_ROLE)}
        observer = ClusterCollector(clusters(**both, hung=hung), "flights")
        try:
            await until(lambda: _creating(databases, "alone"), "it is in creation", 10)
            began = time.monotonic()
            snapshot = await observer.collect_node_with_peers("c", "s", 8, peers=peers_needed)
            assert time.monotonic() - began < 4
            assert [node.node for node in snapshot.nodes] == ["s", "p"]
            # With nobody who says that he is the primary, all are waited for.
            observer.reconfigure(clusters(s=both["s"], hung=hung))
            assert [
                node.node for node in (await observer.collect_node_with_peers("c", "s", 1, peers=peers_needed)).nodes
            ] == [
                "s",
                "hung",
            ]
        finally:
            await observer.close()
    databases.standby.drop_slot("alone")


def _creating(databases: Stack, name: str) -> bool:
    found = databases.standby.sql("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND active", [name])
    return bool(found)


async def test_a_failed_login_has_its_own_status_on_the_page(databases: Stack) -> None:
    conninfo = make_conninfo(databases.primary.conninfo(), user="nosuchrole")
    async with TestClient(TestServer(application(configuration(conninfo)))) as client:
        assert status_of(await scrape(client), "n0", "node") == "login_failed"


def test_a_node_is_known_without_going_through_all_of_them() -> None:
    """10,000 probes each 15 s ask this."""

    async def main() -> None:
        many = [Cluster(f"c{i}", (Node(f"c{i}", "n", Conninfo("host=x")),), None) for i in range(10_000)]
        observer = ClusterCollector(many, "flights")
        began = time.monotonic()
        assert all(observer.knows(f"c{i}", "n") for i in range(10_000))
        assert not observer.knows("c0", "m")
        assert not observer.knows("x", "n")
        assert time.monotonic() - began < 0.5
        await observer.close()

    asyncio.run(main())
