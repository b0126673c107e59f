"""Standbys that the configuration forgot, and nodes of another cluster: the decisions, and both on real servers."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import psycopg
import pytest
from aiohttp.test_utils import TestClient, TestServer

from exporter.app import application
from healer.episodes.partial_snapshot import PartialCollector
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerSettings, Node
from pgslot.config.reload import ConfigReloader
from pgslot.diagnosis.unconfigured_standbys import unconfigured_standbys
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.identity import expected_system_identifier
from pgslot.snapshot.model import NodeSnapshot, QueryStatus
from pgslot.snapshot.queries import QUERIES
from pgslot.snapshot.rows import WalSender
from tests.support.builders.snapshots import cluster, node, unreachable_node
from tests.support.builders.standbys import BARE, WALSENDER_A, WALSENDER_B, standby_node
from tests.support.scrapes import Client, get_metrics
from tests.support.servers import binaries
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import Process, wait_for
from tests.support.servers.stack import CREATE_EXPORTER, EXPORTER_ROLE, Stack

NAMED = WalSender("report", "10.0.0.5", "")


ELSEWHERE = NodeSnapshot("c", "x", 0.0, dict.fromkeys((query.name for query in QUERIES), QueryStatus.WRONG_CLUSTER))

MATCHES: dict[str, tuple[Sequence[WalSender], Sequence[NodeSnapshot], int | None, Sequence[WalSender]]] = {
    "nobody streams": ([], [standby_node("s", "a")], 0, []),
    "nobody streams, and a standby is down": ([], [unreachable_node("s")], 0, []),
    "all are configured": ([WALSENDER_A, WALSENDER_B], [standby_node("s", "a"), standby_node("t", "b")], 0, []),
    "one standby is not configured": ([WALSENDER_A, WALSENDER_B], [standby_node("s", "a")], 1, [WALSENDER_B]),
    "no standby is configured": ([WALSENDER_A, BARE], [], 2, [WALSENDER_A, BARE]),
    "the standby that is down may be it": (
        [WALSENDER_A, WALSENDER_B],
        [standby_node("s", "a"), unreachable_node("t")],
        None,
        [WALSENDER_B],
    ),
    "more than are down": (
        [WALSENDER_A, WALSENDER_B, BARE],
        [standby_node("s", "a"), unreachable_node("t")],
        1,
        [WALSENDER_B, BARE],
    ),
    "a node of another cluster may not be it": ([WALSENDER_A], [ELSEWHERE], 1, [WALSENDER_A]),
    "without slots, by name": ([NAMED, BARE], [standby_node("s", None, "report")], 1, [BARE]),
    "without slots, of one name, by number": ([BARE, BARE], [standby_node("s", None, "walreceiver")], 1, [BARE]),
    "without slots, all configured": (
        [BARE, BARE],
        [standby_node("s", None, "walreceiver"), standby_node("t", None, "walreceiver")],
        0,
        [],
    ),
    "a receiver that does not say its name": (
        [NAMED, BARE],
        [standby_node("s"), standby_node("t", None, "walreceiver")],
        0,
        [],
    ),
    "a receiver without a slot is not matched with a walsender that has one": (
        [WALSENDER_A],
        [standby_node("s", None, "a")],
        1,
        [WALSENDER_A],
    ),
    "a standby of a standby": ([WALSENDER_A], [standby_node("s", "a"), standby_node("t", "s")], 0, []),
    "a standby of a standby does not stand for another": (
        [WALSENDER_A, WALSENDER_B],
        [standby_node("s", "a"), standby_node("t", "s")],
        1,
        [WALSENDER_B],
    ),
    "a standby that does not stream": ([WALSENDER_A], [standby_node("s", "a", running=False)], 1, [WALSENDER_A]),
}


@pytest.mark.parametrize(("senders", "standbys", "count", "unmatched"), MATCHES.values(), ids=MATCHES)
def test_walsenders_without_a_configured_standby_are_counted(
    senders: Sequence[WalSender], standbys: Sequence[NodeSnapshot], count: int | None, unmatched: Sequence[WalSender]
) -> None:
    missing = unconfigured_standbys(cluster(node("p", recovery=False, senders=tuple(senders)), *standbys))
    assert missing is not None
    assert (missing.count, list(missing.senders)) == (count, list(unmatched))


def test_nothing_is_known_without_a_primary_or_its_walsenders() -> None:
    assert unconfigured_standbys(cluster(standby_node("s", "a"))) is None
    assert unconfigured_standbys(cluster(node("p", recovery=False, senders=None))) is None
    split = [node(name, recovery=False, senders=(WALSENDER_A,)) for name in "pq"]
    assert unconfigured_standbys(cluster(*split)) is None


@pytest.mark.parametrize(
    ("identifiers", "declared", "expected"),
    [
        ({}, None, None),
        ({"a": None}, None, None),
        ({"a": None, "b": "2"}, None, "2"),
        ({"a": "1", "b": "2", "c": "2"}, None, "2"),
        ({"a": "1", "b": "2"}, None, "1"),
        ({"a": "1", "b": "1"}, "2", "2"),
    ],
)
def test_expected_identifier_is_declared_or_that_of_most_nodes(
    identifiers: dict[str, str | None], declared: str | None, expected: str | None
) -> None:
    assert expected_system_identifier(identifiers, declared) == expected


def of(*servers: Postgres) -> Config:
    nodes = tuple(Node("c", server.name, Conninfo(server.conninfo(EXPORTER_ROLE))) for server in servers)
    return Config((Cluster("c", nodes, None),), HealerSettings())


def load_again(config: Config) -> Config:
    return config


@contextmanager
def receiving(server: Postgres, stack: Stack, *arguments: str) -> Iterator[None]:
    """Run pg_receivewal into a folder of its own, until it streams."""
    programs = binaries.find(stack.folder, stack.major)
    folder = stack.folder / "received"
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    command: list[str | Path] = [programs.tools / "pg_receivewal", "-d", server.conninfo(), "-D", folder, "-s", "1"]
    process = Process([*command, *arguments], stack.folder / "received.log", user=programs.user)
    process.start()
    streams = "application_name = 'pg_receivewal' AND flush_lsn IS NOT NULL"
    streaming = f"SELECT 1 FROM pg_catalog.pg_stat_replication WHERE {streams}"
    try:
        wait_for(lambda: server.sql(streaming), "pg_receivewal streams", log=process.log)
        yield
    finally:
        process.stop()


async def test_standby_is_counted_and_other_receivers_are_not(databases: Stack) -> None:
    """A client that receives WAL without being a standby, or decodes it, is not one, with or without a slot."""
    primary = databases.primary
    both, alone = of(databases.primary, databases.standby), of(databases.primary)
    for config, expected in ((both, 0), (alone, 1)):
        async with TestClient(TestServer(application(ConfigReloader(partial(load_again, config), config)))) as client:
            with (
                receiving(primary, databases, "--synchronous"),
                psycopg.connect(primary.conninfo(), autocommit=True) as session,
            ):
                assert await counts(client) == [expected, expected]
                session.execute("SELECT pg_catalog.pg_create_logical_replication_slot('decoded', 'pgoutput')")
                assert await counts(client) == [expected, expected]
            primary.drop_slot("decoded")


@contextmanager
def another(source: Postgres, name: str, **settings: str) -> Iterator[Postgres]:
    """One more standby, with a slot of its name on its source."""
    made = source.standby(name, **settings)
    try:
        yield made
    finally:
        made.stop()
        source.drop_slot(name)


async def test_cascading_standby_and_one_without_a_slot_are_matched(databases: Stack) -> None:
    primary, standby = databases.primary, databases.standby
    with another(standby, "cascade") as cascade, another(primary, "bare", primary_slot_name="''") as bare:
        for servers, expected in (
            ((primary, standby, cascade, bare), 0),
            ((primary, standby, cascade), 1),
            ((primary, cascade, bare), 1),
            ((primary, bare), 1),
            ((primary, cascade), 2),
        ):
            config = of(*servers)
            async with TestClient(
                TestServer(application(ConfigReloader(partial(load_again, config), config)))
            ) as client:
                assert await counts(client) == [expected, expected], [server.name for server in servers]


async def counts(client: Client) -> list[float | None]:
    """Return the count in /metrics, and in /probe of the primary alone."""
    paths = ("/metrics", "/probe?cluster=c&node=primary")
    return [(await get_metrics(client, path)).value("pgslot_unlisted_standbys", node="primary") for path in paths]


async def test_subscription_is_not_a_standby(databases: Stack) -> None:
    """It reports how far it has replayed, as a standby does."""
    primary = databases.primary
    with Stack() as other:
        subscriber = other.single()
        subscriber.sql("CREATE TABLE orders (id int PRIMARY KEY, item text NOT NULL)")
        subscriber.sql(f"CREATE SUBSCRIPTION shop CONNECTION '{primary.conninfo()}' PUBLICATION shop")
        try:
            replays = "application_name = 'shop' AND state = 'streaming' AND replay_lsn IS NOT NULL"
            streams = f"SELECT 1 FROM pg_catalog.pg_stat_replication WHERE {replays}"
            wait_for(lambda: primary.sql(streams), "the subscription streams")
            config = of(primary, databases.standby)
            async with TestClient(
                TestServer(application(ConfigReloader(partial(load_again, config), config)))
            ) as client:
                assert await counts(client) == [0, 0]
            assert primary.sql(streams)
        finally:
            subscriber.sql("DROP SUBSCRIPTION shop")


async def test_configured_node_that_is_down_may_be_the_one_that_streams(databases: Stack) -> None:
    [configured] = of(databases.primary).clusters
    away = Node("c", "away", Conninfo("host=127.0.0.1 port=1 dbname=postgres"))
    config = Config((replace(configured, nodes=(*configured.nodes, away)),), HealerSettings())
    async with TestClient(TestServer(application(ConfigReloader(lambda: config, config)))) as client:
        assert await counts(client) == [None, None]


async def test_server_of_another_cluster_is_reported_and_left_out(
    databases: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    """It is a primary, too: counted in, it would be unclear which of the two explains the standby."""
    caplog.set_level(logging.INFO, "pgslot.snapshot.identity")
    with Stack() as other:
        foreign = other.single()
        foreign.sql(CREATE_EXPORTER)
        config = of(databases.primary, databases.standby, foreign)
        async with TestClient(TestServer(application(ConfigReloader(lambda: config, config)))) as client:
            for path in ("/metrics", "/probe?cluster=c&node=single", "/metrics?collect[]=node"):
                metrics = await get_metrics(client, path)
                assert metrics.value("pgslot_up", node="single") == 0
                assert metrics.found("pgslot_node_info", node="single") == []
                for own, value in metrics.found("pgslot_probe_status", node="single"):
                    assert value == (own["status"] == "wrong_cluster")
            metrics = await get_metrics(client, "/metrics")
            assert [metrics.value("pgslot_up", node=name) for name in ("primary", "standby")] == [1, 1]
            assert metrics.value("pgslot_unlisted_standbys", node="primary") == 0
        collector = PartialCollector(config.clusters[0])
        try:
            # All are queried until one says that it is the primary; from the second time on it is known which one is.
            for _ in range(2):
                snapshot = await collector.collect({"standby"})
            assert snapshot.primary is not None
            assert snapshot.primary.node == "primary"
        finally:
            await collector.close()
    messages = [record.getMessage() for record in caplog.records if record.name == "pgslot.snapshot.identity"]
    assert set(messages) == {"the server belongs to another cluster"}
    assert len(messages) <= 2, "once per collector"


async def test_unreadable_system_identifier_rules_nothing_out(databases: Stack) -> None:
    [(before,)] = databases.primary.sql(
        "SELECT proacl::text FROM pg_catalog.pg_proc WHERE proname = 'pg_control_system'"
    )
    assert before is None, "PUBLIC may execute it"
    databases.primary.sql("REVOKE EXECUTE ON FUNCTION pg_catalog.pg_control_system() FROM PUBLIC")
    collector = ClusterCollector(of(databases.primary, databases.standby).clusters, "unconfigured")
    try:
        snapshot = await collector.collect_cluster("c", 5)
        assert {status for node in snapshot.nodes for status in node.statuses.values()} == {QueryStatus.OK}
        missing = unconfigured_standbys(snapshot)
        assert missing is not None
        assert missing.count == 0
    finally:
        await collector.close()
        databases.primary.sql("GRANT EXECUTE ON FUNCTION pg_catalog.pg_control_system() TO PUBLIC")
