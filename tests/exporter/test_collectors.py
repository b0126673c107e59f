"""A part of a scrape, collect[]: asked for by itself, told as in the whole, and in nobody's way."""

import asyncio
import itertools
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from exporter import collectors
from exporter.app import application
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerSettings, Node
from pgslot.config.reload import ConfigReloader
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.history import EMPTY_HISTORY
from pgslot.snapshot.model import QueryStatus
from pgslot.snapshot.queries import QUERIES, WAL_QUERIES, Scope
from tests.support.scrapes import get_metrics
from tests.support.servers.stack import EXPORTER_ROLE, Stack

Client = TestClient[Any, Any]
PROBES = len(QUERIES) + len(WAL_QUERIES) - 1
"""Of a server that archives nothing, which is not asked for files that wait."""
IDLE = {"pgslot_up", "pgslot_scrape_duration_seconds", "pgslot_creations_waiting"}


def config(stack: Stack) -> Config:
    nodes = tuple(Node("c", s.name, Conninfo(s.conninfo(EXPORTER_ROLE))) for s in (stack.primary, stack.standby))
    return Config((Cluster("c", nodes, None),), HealerSettings())


@pytest.fixture
async def client(databases: Stack) -> AsyncIterator[Client]:
    made = config(databases)
    async with TestClient(TestServer(application(ConfigReloader(lambda: made, made)))) as started:
        yield started


def test_each_scope_contains_the_one_before() -> None:
    """A collection of more answers one of less."""
    scopes = [set(scope.queries) for scope in Scope]
    assert all(smaller < larger for smaller, larger in itertools.pairwise(scopes))
    assert sorted(Scope, reverse=True) == list(reversed(Scope))
    assert Scope.EVERYTHING.queries == QUERIES
    assert {query.name for query in Scope.CREATIONS.queries} == {"node", "creations"}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([], Scope.EVERYTHING),
        (["creations"], Scope.CREATIONS),
        (["creations", "creations"], Scope.CREATIONS),
        (["creations", "slots"], Scope.EVERYTHING),
        (["transactions"], Scope.EVERYTHING),
    ],
)
def test_creations_alone_need_less_than_everything(names: list[str], expected: Scope) -> None:
    assert collectors.scope_for(collectors.parse_collect(names)) is expected


async def test_creations_alone_are_three_series_a_node_while_none_waits(client: Client, databases: Stack) -> None:
    metrics = await get_metrics(client, "/metrics?collect[]=creations")
    assert set(metrics.series) == IDLE
    assert all(len(series) == 2 for series in metrics.series.values())
    probed = await get_metrics(client, f"/probe?cluster=c&node={databases.standby.name}&collect[]=creations")
    assert {name: len(series) for name, series in probed.series.items()} == dict.fromkeys(IDLE, 1)


async def test_creation_has_the_same_series_alone_and_in_the_whole_page(client: Client, databases: Stack) -> None:
    with databases.quiet(), databases.standby.create_slot("parted"):
        # Younger than a second it has no series in a part.
        for path in ("/metrics?collect[]=creations", "/probe?cluster=c&node=standby&collect[]=creations"):
            async with asyncio.timeout(10):
                while not (metrics := await get_metrics(client, path)).found("pgslot_creation_wait_seconds"):
                    pass
            whole = await get_metrics(client, "/metrics")
            told = {name: [own for own, _ in metrics.found(name)] for name in metrics.series if "creation" in name}
            assert "pgslot_creation_wait_reason" in told
            for name, labels in told.items():
                shown = [own for own, _ in whole.found(name)]
                assert labels == (shown if "/metrics" in path or name != "pgslot_creations_waiting" else shown[1:]), (
                    name
                )
            assert metrics.state("pgslot_creation_wait_reason", "reason", slot_name="parted") == "running_xacts"
        assert (
            "pgslot_creation_wait_seconds"
            not in (await get_metrics(client, "/probe?cluster=c&node=primary&collect[]=creations")).series
        )
    databases.drop_slot("parted")


async def test_page_of_some_collectors_has_only_their_series(client: Client) -> None:
    metrics = await get_metrics(client, "/metrics?collect[]=standby&collect[]=transactions")
    names = set(metrics.series)
    assert {"pgslot_up", "pgslot_transactions", "pgslot_wal_replay_paused"} <= names
    assert not names & {"pgslot_creations_waiting", "pgslot_node_info", "pgslot_build_info", "pgslot_probe_status"}


@pytest.mark.parametrize("path", ["/metrics?", "/probe?cluster=c&node=primary&"])
async def test_unknown_collector_is_a_bad_request_that_names_it(client: Client, path: str) -> None:
    answer = await client.get(f"{path}collect[]=creations&collect[]=slot")
    assert answer.status == 400
    assert (
        await answer.text()
        == "collect[]: expected creations, node, senders, slots, standby, transactions, wal_directory; found 'slot'\n"
    )


async def test_whole_scrapes_stay_whole_beside_scrapes_of_creations(client: Client, databases: Stack) -> None:
    """They share one connection and the look in flight; neither gets less than it asked for."""
    databases.primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('whole', 'pgoutput')")
    ended = asyncio.Event()

    async def parts_all_the_time() -> int:
        seen = 0
        while not ended.is_set():
            metrics = await get_metrics(client, "/metrics?collect[]=creations")
            assert [value for _, value in metrics.found("pgslot_up")] == [1, 1]
            assert len(metrics.found("pgslot_creations_waiting")) == 2
            seen += 1
        return seen

    tasks = [asyncio.create_task(parts_all_the_time()) for _ in range(3)]
    try:
        for _ in range(60):
            whole = await get_metrics(client, "/metrics")
            assert len(whole.found("pgslot_slot_info", slot_name="whole")) == 1
            for own, value in whole.found("pgslot_probe_status"):
                assert value == (own["status"] == QueryStatus.OK)
            assert len(whole.found("pgslot_probe_status", status="ok")) == 2 * PROBES
        ended.set()
        assert min(await asyncio.gather(*tasks)) > 0
    finally:
        ended.set()
        await asyncio.gather(*tasks, return_exceptions=True)
        databases.drop_slot("whole")
    sessions = "SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE usename = %s"
    assert databases.primary.sql(sessions, [EXPORTER_ROLE]) == [(1,)]


async def test_collection_of_creations_is_not_recorded_in_the_history(databases: Stack) -> None:
    """It does not show the transactions: whoever was open then would be unknown."""
    observer = ClusterCollector(config(databases).clusters, "parts")
    try:
        for _ in range(3):
            [primary, _] = (await observer.collect_cluster("c", 5, Scope.CREATIONS)).nodes
            assert (set(primary.statuses), primary.history) == ({"node", "creations"}, EMPTY_HISTORY)
        [primary, _] = (await observer.collect_cluster("c", 5)).nodes
        assert len(primary.history.samples) == 1
        [again, _] = (await observer.collect_cluster("c", 5, Scope.CREATIONS)).nodes
        assert again.history is primary.history
    finally:
        await observer.close()


async def test_failure_of_whole_collections_is_logged_once_beside_those_of_creations(
    databases: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    """The part works each time in between."""
    caplog.set_level(logging.INFO, "pgslot.snapshot.node")
    [cluster] = config(databases).clusters
    observer = ClusterCollector([replace(cluster, nodes=cluster.nodes[:1])], "parts")
    databases.primary.sql("REVOKE SELECT ON pg_catalog.pg_prepared_xacts FROM PUBLIC")
    try:
        for _ in range(3):
            [primary] = (await observer.collect_cluster("c", 5)).nodes
            assert primary.statuses["transactions"] is QueryStatus.PERMISSION_DENIED
            [primary] = (await observer.collect_cluster("c", 5, Scope.CREATIONS)).nodes
            assert set(primary.statuses.values()) == {QueryStatus.OK}
        databases.primary.sql("GRANT SELECT ON pg_catalog.pg_prepared_xacts TO PUBLIC")
        await observer.collect_cluster("c", 5)
    finally:
        databases.primary.sql("GRANT SELECT ON pg_catalog.pg_prepared_xacts TO PUBLIC")
        await observer.close()
    said = [record.getMessage() for record in caplog.records if record.name == "pgslot.snapshot.node"]
    assert said == ["cannot query the node", "the node answers again"]
