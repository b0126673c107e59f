"""The healer's requests to Alertmanager's API, and what it does with alerts that it lists again and again."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from pgslot.config.model import HealerSettings
from tests.support.builders.episodes import healer_config
from tests.support.running_healer import Healer, alert, healing

LISTED = {"startsAt": "2026-11-23T10:00:00.000Z", "status": {"silencedBy": [], "inhibitedBy": [], "mutedBy": []}}


@pytest.fixture(autouse=True)
def brisk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healer.webhook.deadlines.LISTING_INTERVAL_SECONDS", 0.02)
    monkeypatch.setattr("healer.webhook.deadlines.LISTING_RETRY_SECONDS", 0.02)
    monkeypatch.setattr("healer.webhook.deadlines.LISTING_SHARE", 1.0)


class Listing:
    """Answers every listing with these alerts, and counts the listings."""

    def __init__(self, *alerts: dict[str, Any]) -> None:
        self.alerts = list(alerts)
        self.count = 0

    async def answer(self, _: web.Request) -> web.StreamResponse:
        self.count += 1
        return web.json_response(self.alerts)

    async def some_more(self) -> None:
        """Wait until the healer has worked through four more listings."""
        until = self.count + 5
        async with asyncio.timeout(20):
            while self.count < until:  # noqa: ASYNC110 - it is behind a socket
                await asyncio.sleep(0.01)


@asynccontextmanager
async def listing_healer(
    listing: Listing, *clusters: str, settings: HealerSettings | None = None
) -> AsyncIterator[Healer]:
    app = web.Application()
    app.router.add_get("/api/v2/alerts", listing.answer)
    async with TestServer(app) as server:
        url = f"http://127.0.0.1:{server.port}"
        settings = replace(settings or HealerSettings(), alertmanager_url=url)
        async with healing(*healer_config(*clusters).clusters, settings=settings) as healer:
            yield healer


async def counted(healer: Healer, action: str) -> float | None:
    return await healer.value("pgslot_heal_alerts_total", action=action)


async def test_alert_that_is_not_taken_counts_once_however_often_it_is_listed() -> None:
    listing = Listing(alert("s", cluster="unknown") | LISTED, alert("t", node="unknown") | LISTED)
    async with listing_healer(listing) as healer:
        await listing.some_more()
        assert await counted(healer, "ignored_unknown_cluster") == 1
        assert await counted(healer, "ignored_unknown_node") == 1


async def test_refused_alert_is_submitted_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    listing = Listing(alert("s", cluster="c", node="n") | LISTED, alert("s", cluster="d", node="n") | LISTED)
    settings = HealerSettings(clusters_at_once=1)
    async with listing_healer(listing, "c", "d", settings=settings) as healer:
        await listing.some_more()
        assert await counted(healer, "started") == 1
        assert await counted(healer, "refused_budget") == 1
    monkeypatch.setattr("healer.webhook.deadlines.RESUBMIT_AFTER_SECONDS", 0.05)
    async with listing_healer(listing, "c", "d", settings=settings) as healer:
        # An episode that cannot reach its servers leaves its place to others.
        await healer.until("the refused alert has an episode", lambda episodes: len(episodes) == 2)
        assert (await counted(healer, "refused_budget") or 0) >= 1


async def test_webhooks_of_two_alertmanagers_and_the_listing_are_one_alert() -> None:
    listing = Listing(alert("s", node="n") | LISTED)
    async with listing_healer(listing) as healer:
        await healer.post(alert("s", node="n", startsAt="2026-11-23T10:00:00.000999Z"))
        await healer.post(alert("s", node="n", startsAt="2026-11-23T10:00:00.000999Z"))
        await listing.some_more()
        assert len(await healer.episodes()) == 1
        assert await counted(healer, "started") == 1


async def test_healer_that_restarts_takes_up_what_is_listed() -> None:
    listing = Listing(alert("s", node="n") | LISTED)
    for _ in range(2):
        async with listing_healer(listing) as healer:
            await healer.until("the listed alert was taken", len)
            assert await counted(healer, "started") == 1


@pytest.mark.parametrize("key", ["silencedBy", "inhibitedBy", "mutedBy"])
async def test_muted_alert_is_never_acted_on_until_it_is_listed_unmuted(key: str) -> None:
    muted = alert("s", node="n") | LISTED
    listing = Listing(muted | {"status": {key: ["1234"]}})
    async with listing_healer(listing) as healer:
        await listing.some_more()
        assert "1 of them silenced or inhibited" in await (await healer.client.get("/")).text()
        # It ends and fires again, still muted.
        listing.alerts = [listing.alerts[0] | {"startsAt": "2026-11-23T10:00:40.000Z"}]
        await listing.some_more()
        assert await healer.episodes() == []
        listing.alerts = [muted]
        await healer.until("it was taken", len)


async def test_alertmanager_that_hangs_is_asked_once_at_a_time_and_holds_up_no_webhook(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("healer.webhook.deadlines.LISTING_TIMEOUT_SECONDS", 0.3)
    connections: set[Any] = set()

    class Hanging(Listing):
        async def answer(self, request: web.Request) -> web.StreamResponse:
            self.count += 1
            assert request.transport is not None
            connections.add(request.transport)
            open_connections.append(sum(not transport.is_closing() for transport in connections))
            await asyncio.sleep(60)
            raise AssertionError("the healer waits for a minute")

    open_connections: list[int] = []
    listing = Hanging()
    async with listing_healer(listing) as healer:
        await listing.some_more()
        assert await healer.value("pgslot_heal_alertmanager_up") == 0
        assert "has given no valid answer for" in await (await healer.client.get("/")).text()
        began = asyncio.get_running_loop().time()
        assert (await healer.post(alert("s", node="n")))[0] == 200
        assert (await healer.client.get("/-/healthy")).status == 200
        assert asyncio.get_running_loop().time() - began < 5
        assert await counted(healer, "started") == 1
    assert set(open_connections) == {1}
