"""Reconciliation: what a listing changes, and the same with a real Alertmanager."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests
from aiohttp import web
from aiohttp.test_utils import TestServer

from healer.webhook.alertmanager_api import AlertListing, AlertmanagerError, ListedAlerts, is_complete, parse_listing
from healer.webhook.payload import Alert, parse
from healer.webhook.reconcile import Changes, compare, pause
from tests.support.running_healer import QUICK, Healer, alert, healing, watched
from tests.support.servers.monitoring import Alertmanager
from tests.support.servers.processes import free_port
from tests.support.servers.stack import Stack

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LATER = NOON + timedelta(seconds=40)
A, B = (Alert(firing=True, labels={"slot_name": name}, fingerprint=name, starts_at=NOON) for name in ("a", "b"))
A_AGAIN = replace(A, starts_at=LATER)
A_UNDATED = replace(A, starts_at=None)


def listing(*alerts: Alert, **muted: str) -> AlertListing:
    return AlertListing({alert.fingerprint: alert for alert in alerts}, muted)


NOTHING = Changes((), {}, frozenset())
Seen = dict[str, datetime | None]
CASES: dict[str, tuple[AlertListing, set[str], Seen, set[str], Changes]] = {
    # The listing; active alerts, starts of seen alerts, earlier listed alerts; the changes.
    "nothing new": (listing(A), {"a"}, {"a": NOON}, {"a"}, NOTHING),
    "a webhook was lost": (listing(A, B), {"a"}, {"a": NOON}, {"a"}, replace(NOTHING, submit=(B,))),
    "a webhook was lost at the healer's start": (listing(A), set(), {}, set(), replace(NOTHING, submit=(A,))),
    "its episode is over, and it still fires": (listing(A), set(), {"a": NOON}, {"a"}, NOTHING),
    "it ended and fires again, between two webhooks": (
        listing(A_AGAIN),
        set(),
        {"a": NOON},
        {"a"},
        replace(NOTHING, submit=(A_AGAIN,)),
    ),
    "it fires again while the episode before runs": (
        listing(A_AGAIN),
        {"a"},
        {"a": NOON},
        {"a"},
        replace(NOTHING, submit=(A_AGAIN,)),
    ),
    "it fires again, and is silenced": (listing(A_AGAIN, a="silenced"), set(), {"a": NOON}, {"a"}, NOTHING),
    "it fires again, and is inhibited": (listing(A_AGAIN, a="inhibited"), set(), {"a": NOON}, {"a"}, NOTHING),
    "another Alertmanager knows an earlier start": (listing(A), set(), {"a": LATER}, {"a"}, NOTHING),
    "the webhook had no start": (listing(A), set(), {"a": None}, {"a"}, NOTHING),
    "the listing has no start": (listing(A_UNDATED), set(), {"a": NOON}, {"a"}, NOTHING),
    "a reload forgot it, but its episode runs": (listing(A), {"a"}, {}, {"a"}, NOTHING),
    "silenced in flight": (
        listing(A, a="silenced"),
        {"a"},
        {"a": NOON},
        {"a"},
        replace(NOTHING, withdraw={"a": "silenced"}),
    ),
    "silenced before it was seen": (listing(A, a="silenced"), set(), {}, set(), NOTHING),
    "inhibited before it was seen": (listing(A, a="inhibited"), set(), {}, set(), NOTHING),
    "no longer silenced": (listing(A), set(), {}, {"a"}, replace(NOTHING, submit=(A,))),
    "listed no more": (
        listing(B),
        {"a"},
        {"a": NOON, "b": NOON},
        {"a", "b"},
        replace(NOTHING, absent=frozenset({"a"})),
    ),
    "never listed: another Alertmanager's": (listing(), {"a"}, {"a": NOON}, set(), NOTHING),
}


@pytest.mark.parametrize(("listed", "active", "seen", "before", "expected"), CASES.values(), ids=CASES.keys())
def test_listing_submits_missed_alerts_and_withdraws_silenced_ones(
    listed: AlertListing, active: set[str], seen: Seen, before: set[str], expected: Changes
) -> None:
    assert compare(listed, active, seen, before) == expected


@pytest.mark.parametrize(
    ("seconds", "failures", "expected"),
    [
        (0.005, 0, 1.0),
        # At most a tenth of Alertmanager's time.
        (0.5, 0, 5.0),
        (60.0, 0, 30.0),
        # A failure: soon again, then seldom, for however long it lasts.
        (0.005, 1, 1.0),
        (0.005, 2, 2.0),
        (5.0, 3, 4.0),
        (5.0, 4, 5.0),
        (5.0, 1_000_000, 5.0),
    ],
)
def test_pause_between_listings_is_bounded_by_their_cost(seconds: float, failures: int, expected: float) -> None:
    assert pause(seconds, failures) == pytest.approx(expected)


ITEM: dict[str, Any] = {
    "labels": {"alertname": "x", "cluster": "c"},
    "fingerprint": "f",
    "startsAt": "2026-11-23T12:00:40.123Z",
    "endsAt": "2026-11-23T12:04:00.000Z",
    "status": {"state": "active", "silencedBy": [], "inhibitedBy": [], "mutedBy": []},
}


@pytest.mark.parametrize(
    ("answer", "complete"),
    [
        ({"uptime": "2026-11-23T11:54:59.123456789Z", "cluster": {"status": "ready"}}, True),
        ({"uptime": "2026-11-23T11:54:59Z", "cluster": {"status": "disabled"}}, True),
        ({"uptime": "2026-11-23T11:59:00.123Z", "cluster": {"status": "ready"}}, False),
        ({"uptime": "2026-11-23T01:00:00Z", "cluster": {"status": "settling"}}, False),
        ({"uptime": "2026-11-23T01:00:00Z", "cluster": {"status": "a new one"}}, False),
    ],
)
def test_listing_is_incomplete_while_alertmanager_has_just_started(answer: dict[str, Any], *, complete: bool) -> None:
    assert is_complete(answer, NOON) is complete


@pytest.mark.parametrize(
    "sent", ["2026-11-23T12:00:40.123456789Z", "2026-11-23T14:00:40.1239+02:00", "2026-11-23T12:00:40.123Z"]
)
def test_start_of_an_alert_is_the_same_in_a_webhook_and_in_a_listing(sent: str) -> None:
    """A webhook has nanoseconds and any time zone, a listing milliseconds and UTC."""
    [sent_alert] = parse(json.dumps({"version": "4", "alerts": [alert("s", startsAt=sent)]}).encode()).alerts
    assert sent_alert.starts_at == parse_listing([ITEM]).alerts["f"].starts_at


@pytest.mark.parametrize("key", ["silencedBy", "inhibitedBy", "mutedBy"])
def test_silenced_inhibited_and_muted_alerts_count_as_muted(key: str) -> None:
    item = ITEM | {"status": ITEM["status"] | {key: ["1234"]}}
    parsed = parse_listing([item])
    assert list(parsed.alerts) == ["f"]
    assert parsed.muted["f"].endswith("(by 1234)")


def test_older_alertmanager_without_muted_by_is_understood() -> None:
    item = ITEM | {"status": {"state": "active", "silencedBy": [], "inhibitedBy": []}}
    assert parse_listing([item]).muted == {}


async def test_unreachable_alertmanager_is_an_error() -> None:
    async with ListedAlerts(f"http://127.0.0.1:{free_port()}") as listed_alerts:
        with pytest.raises(AlertmanagerError, match="ClientConnector"):
            await listed_alerts.fetch()
        with pytest.raises(AlertmanagerError, match="ClientConnector"):
            await listed_alerts.complete()


async def test_listing_does_not_wait_for_asyncios_thread_pool() -> None:
    """A name server that hangs delays no other request, nor the end of the process, which waits for that pool."""
    released = threading.Event()
    loop = asyncio.get_running_loop()
    for _ in range(100):
        loop.run_in_executor(None, released.wait, 20)

    async def answer(_: web.Request) -> web.Response:
        return web.json_response([ITEM])

    try:
        app = web.Application()
        app.router.add_get("/api/v2/{what}", answer)
        async with TestServer(app) as server:
            began = loop.time()
            async with ListedAlerts(f"http://localhost:{server.port}") as listed_alerts:
                assert set((await listed_alerts.fetch()).alerts) == {"f"}
            assert loop.time() - began < 10
    finally:
        released.set()


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[Alertmanager]:
    (tmp_path / "webhook-token").write_text("unused")
    addresses = {
        "alertmanager:9093": f"127.0.0.1:{free_port()}",
        # Webhooks are not delivered: every alert that reaches the healer in these tests comes from a listing.
        "healer:9878": f"127.0.0.1:{free_port()}",
        "/run/secrets/webhook-token": str(tmp_path / "webhook-token"),
    }
    server = Alertmanager(tmp_path, addresses)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def healer(
    databases: Stack, alertmanager: Alertmanager, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Healer]:
    monkeypatch.setattr("healer.webhook.deadlines.LISTING_INTERVAL_SECONDS", 0.2)
    async with healing(watched(databases), settings=replace(QUICK, alertmanager_url=alertmanager.url)) as healer:
        yield healer


def fire(alertmanager: Alertmanager, slot: str, *, ended: bool = False) -> None:
    now = datetime.now(UTC)
    times = {"startsAt": (now - timedelta(minutes=5)).isoformat()}
    times["endsAt"] = (now if ended else now + timedelta(minutes=5)).isoformat()
    body = [{"labels": alert(slot)["labels"]} | times]
    requests.post(f"{alertmanager.url}/api/v2/alerts", json=body, timeout=10).raise_for_status()


def silence(alertmanager: Alertmanager, slot: str) -> str:
    now = datetime.now(UTC)
    body = {
        "matchers": [{"name": "slot_name", "value": slot, "isRegex": False, "isEqual": True}],
        "startsAt": now.isoformat(),
        "endsAt": (now + timedelta(minutes=5)).isoformat(),
        "createdBy": "test",
        "comment": "maintenance",
    }
    answer = requests.post(f"{alertmanager.url}/api/v2/silences", json=body, timeout=10)
    answer.raise_for_status()
    return str(answer.json()["silenceID"])


def expire(alertmanager: Alertmanager, number: str) -> None:
    requests.delete(f"{alertmanager.url}/api/v2/silence/{number}", timeout=10).raise_for_status()


async def test_am_silence_is_honoured_mid_flight_and_the_alert_is_taken_again_when_it_ends(
    databases: Stack, alertmanager: Alertmanager, healer: Healer
) -> None:
    with (
        databases.quiet(),
        databases.primary.hold_transaction(),
        databases.standby.create_slot("silenced"),
    ):
        fire(alertmanager, "silenced")
        await healer.until("the listed alert has led to a call", lambda episodes: episodes and episodes[0]["calls"])
        number = silence(alertmanager, "silenced")
        episode = await healer.ended()
        assert episode["outcome"] == "cancelled"
        assert f"silenced (by {number})" in episode["why"]
        calls = await healer.value("pgslot_heal_calls_total", cluster="c", result="ok")
        expire(alertmanager, number)
        await healer.until("another episode has called", lambda episodes: len(episodes) == 2 and episodes[0]["calls"])
        assert calls == episode["calls"]
    databases.drop_slot("silenced")


async def test_alert_that_resolved_without_a_webhook_ends_its_episode(
    databases: Stack, alertmanager: Alertmanager, healer: Healer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("healer.webhook.deadlines.REFILL_SECONDS", 0.0)
    with (
        databases.quiet(),
        databases.primary.hold_transaction(),
        databases.standby.create_slot("unsaid"),
    ):
        fire(alertmanager, "unsaid")
        await healer.until("the listed alert has led to a call", lambda episodes: episodes and episodes[0]["calls"])
        fire(alertmanager, "unsaid", ended=True)
        episode = await healer.ended()
    assert episode["outcome"] == "cancelled"
    assert "no webhook said so" in episode["why"]
    databases.drop_slot("unsaid")


async def test_alertmanager_restart_does_not_end_an_episode(
    databases: Stack, alertmanager: Alertmanager, healer: Healer
) -> None:
    """It comes back without alerts, which does not mean that they resolved."""
    with (
        databases.quiet(),
        databases.primary.hold_transaction() as holder,
        databases.standby.create_slot("restarts") as creator,
    ):
        fire(alertmanager, "restarts")
        await healer.until("the listed alert has led to a call", lambda episodes: episodes and episodes[0]["calls"])
        alertmanager.stop()
        await until_up(healer, 0)
        alertmanager.start()
        await until_up(healer, 1)
        assert alertmanager.alerts() == []
        calls = (await healer.episodes())[0]["calls"]
        await healer.until("it goes on calling", lambda episodes: episodes[0]["calls"] > calls + 1)
        holder.commit()
        episode = await healer.ended()
        assert creator.wait(5)
    assert episode["outcome"] in ("healed", "resolved_itself")
    databases.drop_slot("restarts")


async def until_up(healer: Healer, expected: float) -> None:
    async with asyncio.timeout(30):
        while await healer.value("pgslot_heal_alertmanager_up") != expected:  # noqa: ASYNC110 - it is behind a socket
            await asyncio.sleep(0.05)


async def test_alertmanager_gauge_is_absent_without_an_alertmanager(databases: Stack) -> None:
    async with healing(watched(databases)) as healer:
        assert await healer.value("pgslot_heal_alertmanager_up") is None
        assert await healer.value("pgslot_heal_clusters_remaining") == QUICK.clusters_at_once
