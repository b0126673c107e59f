"""The exporter on real servers: what a scrape shows, and that it cannot hurt."""

import asyncio
import gzip
import time
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple, Self

import pytest
from aiohttp.test_utils import TestClient, TestServer

from exporter.app import accepts_gzip, application, collect_timeout
from pgslot.postgres import login
from pgslot.postgres.session import Session
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.model import QueryStatus
from tests.support.scrapes import Client, config_reloader, exporter_config, probe_status, scrape
from tests.support.servers.processes import free_port, wait_for
from tests.support.servers.stack import EXPORTER_ROLE, POWERLESS_ROLE, Stack

pytestmark = pytest.mark.usefixtures("young_transactions")


class Setting(NamedTuple):
    """A row of pg_settings."""

    name: str
    setting: str


@pytest.fixture
async def client(databases: Stack) -> AsyncIterator[Client]:
    app = application(
        config_reloader(databases.primary.conninfo(EXPORTER_ROLE), databases.standby.conninfo(EXPORTER_ROLE))
    )
    async with TestClient(TestServer(app)) as started:
        yield started


@pytest.fixture
def slot(databases: Stack) -> Iterator[str]:
    databases.primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('idle_slot', 'pgoutput')")
    yield "idle_slot"
    databases.drop_slot("idle_slot")


async def test_primary_and_standby_are_exposed(client: Client, slot: str) -> None:
    metrics = await scrape(client)
    assert metrics["pgslot_up"] == {(("cluster", "c"), ("node", f"n{i}")): 1 for i in (0, 1)}
    roles = {dict(labels)["node"]: dict(labels)["role"] for labels in metrics["pgslot_node_info"]}
    assert roles == {"n0": "primary", "n1": "standby"}
    assert list(metrics["pgslot_wal_receiver_streaming"].values()) == [1]
    [retained] = [v for labels, v in metrics["pgslot_retained_wal_bytes"].items() if dict(labels)["slot_name"] == slot]
    [unconfirmed] = [
        v for labels, v in metrics["pgslot_unconfirmed_wal_bytes"].items() if dict(labels)["slot_name"] == slot
    ]
    [pinned] = [v for labels, v in metrics["pgslot_pinned_wal_bytes"].items() if dict(labels)["slot_name"] == slot]
    assert retained == unconfirmed + pinned
    assert retained > 0
    causes = [
        dict(labels)["cause"]
        for labels, value in metrics["pgslot_retention_cause"].items()
        if value == 1 and dict(labels)["slot_name"] == slot
    ]
    assert causes == ["inactive"]


async def test_concurrent_scrapes_share_one_kept_connection_a_node(client: Client, databases: Stack) -> None:
    await asyncio.gather(*(scrape(client) for _ in range(20)))
    query = "SELECT pid, application_name FROM pg_catalog.pg_stat_activity WHERE usename = %s"
    first = databases.primary.sql(query, [EXPORTER_ROLE])
    await asyncio.gather(*(scrape(client) for _ in range(20)))
    assert databases.primary.sql(query, [EXPORTER_ROLE]) == first
    assert [name for _, name in first] == ["pg_slot_exporter"]
    between = databases.primary.sql(
        "SELECT state, backend_xmin, backend_xid, xact_start FROM pg_catalog.pg_stat_activity WHERE usename = %s",
        [EXPORTER_ROLE],
    )
    assert between == [("idle", None, None, None)]


async def test_kept_session_is_read_only_and_has_timeouts(databases: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kept session itself is asked for its settings, with a statement that sets none."""
    sessions: list[Session] = []

    class RecordedSession(Session):
        @classmethod
        async def connect(cls, conninfo: str, *, application_name: str, timeout: float) -> Self:
            session = await super().connect(conninfo, application_name=application_name, timeout=timeout)
            sessions.append(session)
            return session

    monkeypatch.setattr(login, "Session", RecordedSession)
    collector = ClusterCollector(
        exporter_config(databases.primary.conninfo(EXPORTER_ROLE)).clusters, "pg_slot_exporter"
    )
    try:
        await collector.collect_cluster("c", 5.0)
        [kept] = sessions
        query = (
            "SELECT name, setting FROM pg_catalog.pg_settings"
            " WHERE name IN ('statement_timeout', 'lock_timeout', 'default_transaction_read_only')"
        )
        [rows] = await kept.fetch([(query, Setting)], 5.0, bare=True)
        settings = {row.name: row.setting for row in rows}
        assert settings["default_transaction_read_only"] == "on"
        assert 0 < int(settings["lock_timeout"]) < int(settings["statement_timeout"]) < 5000
    finally:
        await collector.close()


async def test_node_that_refuses_is_down_and_the_other_is_up(databases: Stack) -> None:
    app = application(config_reloader(databases.primary.conninfo(EXPORTER_ROLE), f"host=127.0.0.1 port={free_port()}"))
    async with TestClient(TestServer(app)) as client:
        metrics = await scrape(client)
    assert sorted(metrics["pgslot_up"].values()) == [0, 1]
    assert probe_status(metrics, "n0", "slots") == QueryStatus.OK
    assert probe_status(metrics, "n1", "slots") == QueryStatus.UNREACHABLE
    assert all(dict(labels)["node"] == "n0" for labels in metrics["pgslot_creations_waiting"])


async def test_hung_server_is_down_within_the_timeout_and_comes_back_by_itself(databases: Stack) -> None:
    """A server whose processes are stopped keeps its sockets and answers nothing."""
    hung = databases.primary.standby("hung")
    try:
        app = application(config_reloader(databases.primary.conninfo(EXPORTER_ROLE), hung.conninfo(EXPORTER_ROLE)))
        async with TestClient(TestServer(app)) as client:
            assert sorted((await scrape(client))["pgslot_up"].values()) == [1, 1]
            hung.pause_all()
            for connection in ("a kept connection", "a new connection"):
                started = time.monotonic()
                metrics = await scrape(client, timeout=2)
                # Far below what an unbounded connection attempt takes, and far above the noise of a busy machine.
                assert time.monotonic() - started < 8, connection
                assert sorted(metrics["pgslot_up"].values()) == [0, 1]
                assert probe_status(metrics, "n0", "slots") == QueryStatus.OK
                assert probe_status(metrics, "n1", "slots") == QueryStatus.TIMEOUT
            hung.resume_all()
            assert sorted((await scrape(client))["pgslot_up"].values()) == [1, 1]
    finally:
        hung.resume_all()
        hung.stop()
        databases.primary.drop_slot("hung")


async def test_address_that_drops_packets_is_down_within_the_timeout(databases: Stack) -> None:
    """It takes the connection and never says a word, as a black hole behind a load balancer does."""
    taken: list[asyncio.StreamWriter] = []
    silent = await asyncio.start_server(lambda _, writer: taken.append(writer), "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    app = application(config_reloader(databases.primary.conninfo(EXPORTER_ROLE), f"host=127.0.0.1 port={port} user=x"))
    async with TestClient(TestServer(app)) as client:
        metrics = await scrape(client, timeout=2)
    assert sorted(metrics["pgslot_up"].values()) == [0, 1]
    assert probe_status(metrics, "n0", "slots") == QueryStatus.OK
    assert probe_status(metrics, "n1", "slots") == QueryStatus.TIMEOUT
    for writer in taken:
        writer.close()
    silent.close()


async def test_connection_that_breaks_during_a_query_is_replaced_within_the_scrape(
    client: Client, databases: Stack
) -> None:
    assert len((await scrape(client))["pgslot_up"]) == 2
    [kept] = databases.primary.sql("SELECT pid FROM pg_stat_activity WHERE usename = %s", [EXPORTER_ROLE])
    with databases.primary.lock("pg_catalog.pg_authid") as holder:
        # pg_prepared_xacts reads pg_authid: the scrape waits for the lock, until its session is ended.
        waiting = asyncio.create_task(scrape(client, timeout=30))
        await asyncio.to_thread(
            wait_for,
            lambda: holder.execute(
                "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_locks WHERE NOT granted"
            ).fetchall(),
            "the scrape waits",
        )
    metrics = await waiting
    assert sorted(metrics["pgslot_up"].values()) == [1, 1]
    assert probe_status(metrics, "n0", "slots") == QueryStatus.OK
    [new] = databases.primary.sql("SELECT pid FROM pg_stat_activity WHERE usename = %s", [EXPORTER_ROLE])
    assert new != kept


async def test_lock_costs_one_query_and_not_the_scrape(client: Client, databases: Stack) -> None:
    """lock_timeout ends the wait, and the probes that need no lock still answer."""
    await scrape(client)
    with databases.primary.lock("pg_catalog.pg_authid"):
        metrics = await scrape(client, timeout=3)
    assert sorted(metrics["pgslot_up"].values()) == [1, 1]
    assert probe_status(metrics, "n0", "transactions") == QueryStatus.TIMEOUT
    assert probe_status(metrics, "n0", "slots") == QueryStatus.OK
    assert all(dict(labels)["node"] == "n1" for labels in metrics["pgslot_transactions"])


async def test_restarted_server_is_up_in_the_next_scrape(databases: Stack) -> None:
    other = databases.primary.standby("restarted")
    try:
        app = application(config_reloader(other.conninfo(EXPORTER_ROLE)))
        async with TestClient(TestServer(app)) as client:
            assert list((await scrape(client))["pgslot_up"].values()) == [1]
            other.restart()
            assert list((await scrape(client))["pgslot_up"].values()) == [1]
    finally:
        other.stop()
        databases.primary.drop_slot("restarted")


@pytest.mark.servers
async def test_next_scrape_follows_a_failover() -> None:
    with Stack() as stack:
        stack.start_databases()
        both = (stack.primary.conninfo(EXPORTER_ROLE), stack.standby.conninfo(EXPORTER_ROLE))
        async with TestClient(TestServer(application(config_reloader(*both)))) as client:
            await scrape(client)
            stack.primary.kill()
            stack.standby.promote()
            metrics = await scrape(client)
    assert metrics["pgslot_up"] == {(("cluster", "c"), ("node", "n0")): 0, (("cluster", "c"), ("node", "n1")): 1}
    [info] = [dict(labels) for labels in metrics["pgslot_node_info"]]
    assert (info["node"], info["role"]) == ("n1", "primary")
    assert "pgslot_wal_receiver_streaming" not in metrics


async def test_role_without_pg_read_all_stats_has_status_permission_denied(databases: Stack) -> None:
    app = application(config_reloader(databases.primary.conninfo(POWERLESS_ROLE)))
    async with TestClient(TestServer(app)) as client:
        metrics = await scrape(client)
    assert list(metrics["pgslot_up"].values()) == [1]
    for probe in ("creations", "transactions", "standby"):
        assert probe_status(metrics, "n0", probe) == QueryStatus.PERMISSION_DENIED
    assert probe_status(metrics, "n0", "slots") == QueryStatus.OK
    assert "pgslot_creations_waiting" not in metrics
    assert "pgslot_transactions" not in metrics


async def test_transactions_are_counted_by_kind_without_the_exporters_own(client: Client, databases: Stack) -> None:
    before = await scrape(client)
    with databases.primary.hold_transaction(application_name='quote " back \\ slash') as holder:
        metrics = await scrape(client)
    key = (("cluster", "c"), ("kind", "xid"), ("node", "n0"))
    assert before["pgslot_transactions"][key] == 0
    assert metrics["pgslot_transactions"][key] == 1
    [info] = [dict(x) for x in metrics["pgslot_oldest_transaction_info"] if dict(x)["kind"] == "xid"]
    assert (info["pid"], info["application_name"]) == (str(holder.pid), 'quote " back \\ slash')


async def test_creation_on_the_primary_names_the_prepared_transaction(client: Client, databases: Stack) -> None:
    databases.primary.sql_in_one_transaction(
        "SELECT pg_catalog.pg_current_xact_id()", "PREPARE TRANSACTION 'left over'"
    )
    try:
        with databases.primary.create_slot("waits") as creator:
            metrics = await until_waiting(client, "waits")
            [blocker] = [dict(labels) for labels in metrics["pgslot_creation_blocker_age_seconds"]]
            assert (blocker["backend_type"], blocker["pid"], blocker["application_name"]) == (
                "prepared",
                "",
                "left over",
            )
            databases.primary.sql("ROLLBACK PREPARED 'left over'")
            assert creator.wait(10)
    finally:
        databases.drop_slot("waits")


async def until_waiting(client: Client, slot: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        metrics = await scrape(client)
        waiting = {
            dict(labels)["reason"]
            for labels, value in metrics.get("pgslot_creation_wait_reason", {}).items()
            if value == 1 and dict(labels)["slot_name"] == slot
        }
        if waiting == {"transaction"}:
            return metrics
    raise AssertionError(f"{slot} was not seen to wait for a transaction")


async def test_pages_and_health_endpoints_answer(client: Client) -> None:
    assert (await client.get("/-/healthy")).status == 200
    assert "pg-slot-exporter" in await (await client.get("/")).text()
    runbook = await client.get("/runbooks/PgSlotCreationStuck")
    assert "<h1>PgSlotCreationStuck</h1>" in await runbook.text()
    assert "<table>" in await runbook.text()
    assert (await client.get("/runbooks/PgSlotCreationStuck.md")).status == 200
    for missing in ("/runbooks/Nothing", "/runbooks/..%2F..%2FREADME", "/nothing"):
        assert (await client.get(missing)).status == 404


async def test_openmetrics_is_served_when_the_scraper_accepts_it(client: Client) -> None:
    answer = await client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.content_type == "application/openmetrics-text"
    assert (await answer.text()).endswith("# EOF\n")


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, 9.5),
        ("10", 9.5),
        ("0.2", 0.5),
        ("nan", 9.5),
        ("inf", 9.5),
        ("-1", 0.5),
        ("1e9", 60),
        ("nonsense", 9.5),
        ("", 9.5),
    ],
)
def test_scrape_timeout_bounds_the_collection(header: str | None, seconds: float) -> None:
    assert collect_timeout(header) == seconds


async def test_page_is_compressed_only_if_the_scraper_accepts_gzip(databases: Stack) -> None:
    """As Prometheus asks; both pages say the same, and each cache is told that they differ."""
    app = application(config_reloader(databases.primary.conninfo(EXPORTER_ROLE)))
    async with TestClient(TestServer(app), auto_decompress=False) as client:
        for path in ("/metrics", "/probe?cluster=c&node=n0"):
            plain = await client.get(path, headers={"Accept-Encoding": "identity"})
            packed = await client.get(path, headers={"Accept-Encoding": "gzip"})
            assert ("Content-Encoding" in plain.headers, packed.headers["Content-Encoding"]) == (False, "gzip")
            assert plain.headers["Vary"] == packed.headers["Vary"] == "Accept-Encoding"
            body = await packed.read()
            assert len(body) < len(await plain.read()) / 3
            assert b"pgslot_up{" in gzip.decompress(body)
            assert plain.headers["Content-Type"] == packed.headers["Content-Type"]


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("deflate, GZIP;q=0.5", True),
        ("gzip;q=0", False),
        ("br, gzip; q=0.000", False),
        ("gzip;q=0.001", True),
        ("xgzip", False),
        ("identity", False),
        ("*", False),
        ("", False),
    ],
)
def test_accept_encoding_says_whether_gzip_is_accepted(header: str, accepted: bool) -> None:
    assert accepts_gzip(header) is accepted
