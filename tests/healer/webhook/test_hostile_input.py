"""Hostile or broken input from clients and from Alertmanager: it is refused and counted, and stops nothing."""

import asyncio
import gzip
import json
import logging
import socket
import struct
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp.test_utils import TestClient, TestServer

from healer.app import application
from healer.webhook.alertmanager_api import AlertmanagerError, ListedAlerts
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerConfig, HealerSettings, Node
from pgslot.config.reload import ConfigReloader
from pgslot.httpserver.middleware import WebConfigMiddleware
from pgslot.httpserver.web_config import load as load_web_config
from tests.support.fakes.alertmanager import fake_alertmanager
from tests.support.running_healer import Healer, alert, healing, until
from tests.support.web_configs import basic, get, hashed, serving

BEARER = {"Authorization": "Bearer secret"}
NOWHERE = Conninfo("host=127.0.0.1 port=1 user=x")
TARGET = HealerConfig(NOWHERE, enabled=True, dry_run=False)


def cluster(name: str = "c") -> Cluster:
    return Cluster(name, (Node(name, "standby", NOWHERE),), TARGET)


@pytest.fixture
async def healer(tmp_path: Path) -> AsyncIterator[Healer]:
    (tmp_path / "token").write_text("secret")
    async with healing(cluster(), settings=HealerSettings(webhook_token_file=tmp_path / "token")) as running:
        yield running


async def counted(healer: Healer, code: int) -> float:
    return await healer.value("pgslot_heal_webhooks_total", code=str(code)) or 0.0


async def raw(healer: Healer, request: bytes) -> bytes:
    """Return the status line of the answer."""

    def ask() -> bytes:
        with socket.create_connection(("127.0.0.1", healer.client.server.port or 0), timeout=10) as opened:
            opened.sendall(request)
            return opened.recv(4096).split(b"\r\n")[0]

    return await asyncio.to_thread(ask)


async def test_token_header_with_arbitrary_bytes_is_refused(healer: Healer) -> None:
    head = b"POST /alerts HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nAuthorization: Bearer \xff\r\n\r\n{}"
    assert await raw(healer, head) == b"HTTP/1.1 401 Unauthorized"
    assert await counted(healer, 401) == 1


async def test_sender_that_resets_within_the_body_is_no_internal_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By the program's own server: aiohttp's test server cancels the handler of a sender that has gone."""
    (tmp_path / "web.yml").write_text("")
    config = Config((cluster(),), HealerSettings())

    def reset(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as opened:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            opened.sendall(b'POST /alerts HTTP/1.1\r\nHost: x\r\nContent-Length: 5000\r\n\r\n{"ver')
            time.sleep(0.1)

    def complaints() -> list[logging.LogRecord]:
        return [record for record in caplog.records if record.levelno >= logging.WARNING and "webhook" in record.name]

    async with serving(tmp_path / "web.yml", application(ConfigReloader(lambda: config, config))) as port:
        await asyncio.to_thread(reset, port)
        await until(complaints, "the log shows it", 5)
        metrics = (await get(port, path="/metrics"))[1]
    [record] = complaints()
    assert record.exc_info is None
    assert "closed the connection" in str(getattr(record, "fields", ""))
    assert not any(record.name == "aiohttp.server" for record in caplog.records)
    assert 'pgslot_heal_webhooks_total{code="500"}' not in metrics


async def test_token_may_have_characters_beyond_latin_1(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("schlüssel-€")
    settings = HealerSettings(webhook_token_file=tmp_path / "token")
    async with healing(cluster(), settings=settings) as healer:
        body = b'{"version":"4","alerts":[]}'
        token = "Authorization: Bearer schlüssel-€"
        head = f"POST /alerts HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{token}\r\n\r\n"
        assert await raw(healer, head.encode() + body) == b"HTTP/1.1 200 OK"


async def test_request_refused_by_basic_auth_is_counted(tmp_path: Path) -> None:
    """Basic authentication precedes the endpoint; an Alertmanager with an old password has to show in the metrics."""
    (tmp_path / "web.yml").write_text(yaml.safe_dump({"basic_auth_users": {"am": hashed("right")}}))
    config = Config((cluster(),), HealerSettings())
    app = application(ConfigReloader(lambda: config, config))
    WebConfigMiddleware(load_web_config(tmp_path / "web.yml")).install(app)
    right = basic("am", "right")
    async with TestClient(TestServer(app), headers=right) as client:
        healer = Healer(client)
        head = b"POST /alerts HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nAuthorization: Basic \xff\r\n\r\n{}"
        assert await raw(healer, head) == b"HTTP/1.1 401 Unauthorized"
        assert (await client.post("/alerts", data=b"{}", headers=basic("am", "wrong"))).status == 401
        assert (await client.get("/alerts")).status == 405
        assert await counted(healer, 401) == 2
        assert (await healer.post(alert("s")))[0] == 200
        assert await counted(healer, 200) == 1


BAD_BODIES: dict[str, bytes] = {
    "deep": b"[" * 100_000,
    "deep, in the version": b'{"version":' + b"[" * 900 + b"]" * 900 + b"}",
    "deep, in a label": b'{"version":"4","alerts":[{"status":"firing","labels":{"a":'
    + b"[" * 900
    + b"]" * 900
    + b"}}]}",
    "a huge number": b'{"version":' + b"9" * 5000 + b"}",
    "a huge string": b'{"version":"4","alerts":"' + b"x" * 1_000_000 + b'"}',
}


@pytest.mark.parametrize("body", BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_invalid_body_is_answered_with_400_and_counted(healer: Healer, body: bytes) -> None:
    answer = await healer.client.post("/alerts", data=body, headers=BEARER)
    assert answer.status == 400
    assert len(await answer.text()) < 400
    assert await counted(healer, 400) == 1


async def test_nesting_of_any_depth_is_answered_with_400(healer: Healer) -> None:
    for depth in range(100, 1000, 25):
        body = b'{"version":' + b"[" * depth + b"]" * depth + b"}"
        assert (await healer.client.post("/alerts", data=body, headers=BEARER)).status == 400


@pytest.mark.parametrize("coding", ["gzip", "deflate", "x-unknown"])
async def test_compressed_body_is_refused_whatever_is_in_it(healer: Healer, coding: str) -> None:
    """Neither sender compresses. A bomb, or a body that is cut off, is not even read."""
    for data in (gzip.compress(b" " * 10_000_000), gzip.compress(b'{"version":"4","alerts":[]}')[:-8], b"no gzip"):
        answer = await healer.client.post("/alerts", data=data, headers=BEARER | {"Content-Encoding": coding})
        assert answer.status in (400, 415)
    assert (await healer.post(alert("s")))[0] == 401  # the healer is well


async def test_sender_is_asked_for_the_body_only_with_the_right_token(healer: Healer) -> None:
    head = b"POST /alerts HTTP/1.1\r\nHost: x\r\nContent-Length: 27\r\nExpect: 100-continue\r\n"
    assert await raw(healer, head + b"Authorization: Bearer wrong\r\n\r\n") == b"HTTP/1.1 401 Unauthorized"
    assert await raw(healer, head + b"Authorization: Bearer secret\r\n\r\n") == b"HTTP/1.1 100 Continue"


async def test_body_that_never_arrives_is_answered_with_503(healer: Healer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healer.webhook.deadlines.BODY_TIMEOUT_SECONDS", 0.2)
    head = b"POST /alerts HTTP/1.1\r\nHost: x\r\nContent-Length: 200\r\nAuthorization: Bearer secret\r\n\r\n{"
    assert b"503" in await raw(healer, head)


def listed(**labels: str) -> dict[str, Any]:
    """Return an alert as Alertmanager lists it."""
    return {"labels": alert("s")["labels"] | labels, "fingerprint": "f", "status": {}}


ANSWERS = {
    "deep": "[" * 100_000,
    "no JSON": "<html>",
    "not a list": '{"a": 1}',
    "half a character": json.dumps([listed(slot_name="\ud83d")]),
    "half a character in a fingerprint": json.dumps([listed() | {"fingerprint": "\ud83d"}]),
    "no labels": json.dumps([{"fingerprint": "f", "status": {}}]),
    "no status": json.dumps([{"fingerprint": "f", "labels": {}}]),
}


@pytest.mark.parametrize("alerts", ANSWERS.values(), ids=ANSWERS.keys())
async def test_invalid_listing_of_alertmanager_does_not_stop_reconciliation(
    alerts: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("healer.webhook.deadlines.LISTING_INTERVAL_SECONDS", 0.05)
    async with fake_alertmanager(alerts, "2020-01-01T00:00:00.000Z") as url:
        async with healing(cluster(), settings=HealerSettings(alertmanager_url=url)) as healer:
            while await healer.value("pgslot_heal_alertmanager_up") is None:
                pass
            assert (await healer.client.get("/-/healthy")).status == 200
            assert await healer.value("pgslot_heal_alertmanager_up") == 0
        async with ListedAlerts(url) as listed_alerts:
            with pytest.raises(AlertmanagerError):
                await listed_alerts.fetch()


@pytest.mark.parametrize("starts_at", [None, 7, "yesterday", "2026-11-23T12:00:00", "9" * 400])
async def test_listed_alert_without_a_usable_start_is_taken_like_any(starts_at: object) -> None:
    async with (
        fake_alertmanager(json.dumps([listed() | {"startsAt": starts_at}]), "2020-01-01T00:00:00.000Z") as url,
        ListedAlerts(url) as listed_alerts,
    ):
        assert (await listed_alerts.fetch()).alerts["f"].starts_at is None


@pytest.mark.parametrize("uptime", ["yesterday", "2020-01-01T00:00:00"])
async def test_unusable_start_of_alertmanager_resolves_no_alert(uptime: str) -> None:
    date = format_datetime(datetime.now(UTC), usegmt=True)
    async with fake_alertmanager("[]", uptime, date) as url, ListedAlerts(url) as listed_alerts:
        with pytest.raises(AlertmanagerError):
            await listed_alerts.complete()


async def test_alertmanager_may_have_started_in_the_year_1() -> None:
    async with fake_alertmanager("[]", "0001-01-01T00:00:00+14:00", format_datetime(datetime.now(UTC))) as url:
        assert await complete(url)


async def test_internal_error_in_reconciliation_shows_and_is_retried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healer.webhook.deadlines.LISTING_INTERVAL_SECONDS", 0.05)
    attempts = []

    async def fail(_: ListedAlerts) -> Any:
        attempts.append(1)
        raise MemoryError("an internal error")

    monkeypatch.setattr(ListedAlerts, "fetch", fail)
    async with healing(cluster(), settings=HealerSettings(alertmanager_url="http://127.0.0.1:1")) as healer:
        while len(attempts) < 3:
            assert (await healer.client.get("/-/healthy")).status == 200
        assert await healer.value("pgslot_heal_alertmanager_up") == 0


@pytest.mark.parametrize("ahead", [timedelta(minutes=6), timedelta(hours=-6)])
async def test_healers_own_clock_resolves_no_alert(ahead: timedelta) -> None:
    """Alertmanager has just started by its own clock and has no alerts yet, which does not mean that they resolved."""
    alertmanagers_time = datetime.now(UTC) - ahead
    started = (alertmanagers_time - timedelta(minutes=1)).isoformat()
    async with fake_alertmanager("[]", started, format_datetime(alertmanagers_time, usegmt=True)) as url:
        assert not await complete(url)
    settled = (alertmanagers_time - timedelta(minutes=10)).isoformat()
    async with fake_alertmanager("[]", settled, format_datetime(alertmanagers_time, usegmt=True)) as url:
        assert await complete(url)


async def complete(url: str) -> bool:
    async with ListedAlerts(url) as listed_alerts:
        return await listed_alerts.complete()
