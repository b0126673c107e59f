"""The live pages on real servers: what they show, what they cost the servers, and who may read them."""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from exporter import latest_look
from exporter.app import application
from pgslot.httpserver.middleware import WebConfigMiddleware
from pgslot.httpserver.web_config import load
from pgslot.pages.frame import REFRESHING_HEADERS
from tests.support.blocking_transactions import wait_until_blocked
from tests.support.pages import problems, text_of
from tests.support.scrapes import PRIMARY, Client, config_reloader, scrape
from tests.support.servers.stack import EXPORTER_ROLE, POWERLESS_ROLE, Stack
from tests.support.web_configs import basic, folder, hashed

pytestmark = pytest.mark.usefixtures("young_transactions")

QUERY_TEXT = "a_word_of_the_query"
STATE_CHANGES = "SELECT pid, state_change FROM pg_catalog.pg_stat_activity WHERE usename = %s"


@pytest.fixture
async def client(databases: Stack) -> AsyncIterator[Client]:
    async with TestClient(TestServer(application(reloader(databases)))) as started:
        yield started


def reloader(stack: Stack) -> Any:
    return config_reloader(stack.primary.conninfo(EXPORTER_ROLE), stack.standby.conninfo(EXPORTER_ROLE))


@pytest.fixture
def blocked(databases: Stack) -> Iterator[str]:
    """Return the name of a slot whose creation waits for a transaction that ran a query."""
    name = "waits_for_transaction"
    with databases.primary.hold_transaction("nightly <report>") as holder:
        holder.connection.execute(f"SELECT 1 AS {QUERY_TEXT}")
        with databases.primary.create_slot(name):
            wait_until_blocked(databases.primary, name)
            yield name
    databases.drop_slot(name)


async def page(client: Client, path: str, status: int = 200) -> str:
    answer = await client.get(path)
    text = await answer.text()
    assert answer.status == status, text
    assert answer.headers["Content-Security-Policy"] == REFRESHING_HEADERS["Content-Security-Policy"]
    assert problems(text) == []
    return text


async def test_pages_say_why_a_creation_waits_and_what_to_do_without_a_scrape_before(
    client: Client, blocked: str
) -> None:
    landing = text_of(await page(client, "/"))
    assert re.search(
        rf"{blocked} c/{PRIMARY}, postgres, logical \S+ ?\S* being created for \d+ s waits for a transaction to end:"
        r" pid \d+, postgres \(nightly <report>\)",
        landing,
    ), landing
    slot = text_of(await page(client, f"/slots/c/{PRIMARY}/{blocked}"))
    assert re.search(r"Because of pid \d+, postgres \(nightly <report>\), idle in transaction", slot), slot
    assert 'pgslot_creation_wait_reason{reason="transaction"} 1' in slot


async def test_pages_name_no_session_that_the_series_do_not_name(
    client: Client, blocked: str, databases: Stack
) -> None:
    pages = await page(client, "/") + await page(client, f"/slots/c/{PRIMARY}/{blocked}")
    metrics = await scrape(client)
    named = {dict(labels).get("pid") for series in metrics.values() for labels in series}
    assert set(re.findall(r"pid (\d+)", pages)) <= named
    assert re.search(r"pid \d+", pages)
    assert QUERY_TEXT not in pages
    assert "127.0.0.1" not in pages
    assert databases.primary.conninfo(EXPORTER_ROLE) not in pages


async def test_slot_page_has_the_series_of_its_slot_and_of_no_other(client: Client, databases: Stack) -> None:
    names = ("series_a", "series_ab")
    for name in names:
        databases.primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput')", [name])
    try:
        text = text_of(await page(client, f"/slots/c/{PRIMARY}/series_a")).partition("Evidence")[2]
        metrics = await scrape(client)
    finally:
        for name in names:
            databases.drop_slot(name)
    shown = set(re.findall(r"pgslot_\w+", text))
    expected = {name for name, series in metrics.items() if any(("slot_name", "series_a") in key for key in series)}
    states = {name for name in expected if all(value == 0 for value in metrics[name].values())}
    assert shown <= expected
    assert expected - shown <= states
    assert "series_ab" not in text
    assert 'pgslot_wal_status{wal_status="reserved"} 1' in text


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (f"/slots/c/{PRIMARY}/none", "n0 has no slot none, or one that comes and goes by itself"),
        ("/slots/c/other/none", "The configuration has no node other of a cluster c."),
        ("/slots/x/n0/none", "The configuration has no node n0 of a cluster x."),
        ("/slots/c/%3Cscript%3E%2F/none", "has no node <script>/ of a cluster c."),
    ],
)
async def test_unknown_slot_has_a_page_that_says_so(client: Client, path: str, reason: str) -> None:
    assert reason in text_of(await page(client, path, 404))


async def test_unknown_cluster_is_not_found(client: Client) -> None:
    assert (await client.get("/?cluster=x")).status == 404
    assert "primary, PostgreSQL" in text_of(await page(client, "/?cluster=c"))


async def test_readers_share_a_look_and_after_it_the_servers_are_not_asked(
    client: Client, databases: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latest_look, "LOOK_SECONDS", 3600.0)
    await asyncio.gather(*(page(client, "/") for _ in range(5)))
    before = databases.primary.sql(STATE_CHANGES, [EXPORTER_ROLE])
    assert len(before) == 1
    await asyncio.gather(*(page(client, "/") for _ in range(5)), page(client, f"/slots/c/{PRIMARY}/none", 404))
    assert databases.primary.sql(STATE_CHANGES, [EXPORTER_ROLE]) == before
    monkeypatch.setattr(latest_look, "LOOK_SECONDS", 0.0)
    await page(client, "/")
    assert databases.primary.sql(STATE_CHANGES, [EXPORTER_ROLE]) != before


async def test_page_asks_no_server_while_scrapes_go_on(
    client: Client, databases: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latest_look, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(latest_look, "LATE", 1e6)
    for _ in range(2):
        await scrape(client)
    before = databases.primary.sql(STATE_CHANGES, [EXPORTER_ROLE])
    for path in ("/", "/?cluster=c"):
        await page(client, path)
    assert databases.primary.sql(STATE_CHANGES, [EXPORTER_ROLE]) == before


async def test_node_that_is_down_is_named_and_its_slots_are_not_claimed_to_be_well(databases: Stack) -> None:
    app = application(config_reloader("host=127.0.0.1 port=1 user=x connect_timeout=1"))
    async with TestClient(TestServer(app)) as client:
        text = text_of(await page(client, "/"))
        missing = text_of(await page(client, "/slots/c/n0/any", 404))
    assert "No slot is known; 1 node could not be seen in full." in text
    assert "c n0 unreachable" in text
    assert "Whether n0 has a slot any is not known: the node did not show its slots." in missing
    app = application(config_reloader(databases.primary.conninfo(POWERLESS_ROLE)))
    async with TestClient(TestServer(app)) as client:
        assert "transactions: permission_denied" in text_of(await page(client, "/"))


async def test_web_configuration_guards_the_pages_as_the_metrics(databases: Stack, tmp_path: Path) -> None:
    app = application(reloader(databases))
    WebConfigMiddleware(load(folder(tmp_path).write({"basic_auth_users": {"alice": hashed("secret")}}))).install(app)
    async with TestClient(TestServer(app)) as client:
        for path in ("/", f"/slots/c/{PRIMARY}/none", "/metrics"):
            answer = await client.get(path)
            assert (answer.status, await answer.text()) == (401, "Unauthorized.\n")
        assert (await client.get("/", headers=basic("alice", "secret"))).status == 200
