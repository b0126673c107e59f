"""What comes in from strangers, broken or meant: it is refused, counted, and ends nothing."""

import asyncio
import gzip
import json
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from yarl import URL

from healer.app import _EPISODES, PAGE, application
from healer.episodes.manager import MAX_PAST_EPISODES
from healer.episodes.report import Report
from healer.remedies.slot_state import SlotKey
from healer.webhook.alertmanager import AlertmanagerError, fetch_listing
from pgslot.cli.logging import printable
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerConfig, HealerSettings, Node
from pgslot.config.reload import ConfigReloader
from pgslot.httpserver.middleware import WebConfigMiddleware
from pgslot.httpserver.web_config import load as load_web_config
from tests.healer.episodes.test_lifecycle import NOWHERE
from tests.support.running_healer import Healer, alert, healing
from tests.support.servers.processes import free_port
from tests.support.web_configs import basic, hashed

BEARER = {"Authorization": "Bearer secret"}
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
    """Return the first line of what is answered."""

    def ask() -> bytes:
        with socket.create_connection(("127.0.0.1", healer.client.server.port or 0), timeout=10) as opened:
            opened.sendall(request)
            return opened.recv(4096).split(b"\r\n")[0]

    return await asyncio.to_thread(ask)


async def test_a_header_of_any_bytes_is_no_token(healer: Healer) -> None:
    head = b"POST /alerts HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nAuthorization: Bearer \xff\r\n\r\n{}"
    assert await raw(healer, head) == b"HTTP/1.1 401 Unauthorized"
    assert await counted(healer, 401) == 1


async def test_a_token_beyond_latin_1(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("schlüssel-€")
    settings = HealerSettings(webhook_token_file=tmp_path / "token")
    async with healing(cluster(), settings=settings) as healer:
        body = b'{"version":"4","alerts":[]}'
        token = "Authorization: Bearer schlüssel-€"
        head = f"POST /alerts HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{token}\r\n\r\n"
        assert await raw(healer, head.encode() + body) == b"HTTP/1.1 200 OK"


async def test_whoever_is_refused_at_the_door_is_counted_as_well(tmp_path: Path) -> None:
    """Basic authentication comes before the webhook is looked at: an Alertmanager with an old password shows."""
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


BAD_BODIES = {
    "no gzip": (b"not gzip", {"Content-Encoding": "gzip"}),
    "half a gzip": (gzip.compress(b"x" * 10_000)[:-20], {"Content-Encoding": "gzip"}),
    "no deflate": (b"\xff\xff\xff", {"Content-Encoding": "deflate"}),
    "deep": (b"[" * 100_000, {}),
    "deep, in the version": (b'{"version":' + b"[" * 900 + b"]" * 900 + b"}", {}),
    "deep, in a label": (
        b'{"version":"4","alerts":[{"status":"firing","labels":{"a":' + b"[" * 900 + b"]" * 900 + b"}}]}",
        {},
    ),
    "a huge number": (b'{"version":' + b"9" * 5000 + b"}", {}),
    "a huge string": (b'{"version":"4","alerts":"' + b"x" * 1_000_000 + b'"}', {}),
}


@pytest.mark.parametrize(("body", "headers"), BAD_BODIES.values(), ids=BAD_BODIES.keys())
async def test_a_bad_body_is_400_and_counted(healer: Healer, body: bytes, headers: dict[str, str]) -> None:
    answer = await healer.client.post("/alerts", data=body, headers=BEARER | headers)
    assert answer.status == 400
    assert len(await answer.text()) < 400
    assert await counted(healer, 400) == 1


async def test_every_depth_of_nesting_is_400(healer: Healer) -> None:
    for depth in range(100, 1000, 25):
        body = b'{"version":' + b"[" * depth + b"]" * depth + b"}"
        assert (await healer.client.post("/alerts", data=body, headers=BEARER)).status == 400


async def test_a_bomb_is_refused_before_it_goes_off(healer: Healer) -> None:
    bomb = gzip.compress(b" " * (100 * 1024 * 1024))
    answer = await healer.client.post("/alerts", data=bomb, headers=BEARER | {"Content-Encoding": "gzip"})
    assert answer.status == 413


async def test_a_body_that_never_comes_is_not_waited_for(healer: Healer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healer.app.BODY_SECONDS", 0.2)
    head = b"POST /alerts HTTP/1.1\r\nHost: x\r\nContent-Length: 200\r\nAuthorization: Bearer secret\r\n\r\n{"
    assert b"503" in await raw(healer, head)


async def test_episodes_come_in_pages(healer: Healer) -> None:
    assert healer.client.app is not None
    for i in range(MAX_PAST_EPISODES):
        report = Report("c", "log_standby_snapshot", time.time())
        report.conclude(1.0, ("resolved_itself", f"{i}"))  # type: ignore[arg-type]
        report.subjects.extend(SlotKey("n", f"slot_{k}") for k in range(1000))
        healer.client.app[_EPISODES]._past.appendleft(report)
    found: list[str] = []
    path = "/episodes"
    while path:
        answer = await healer.client.get(path)
        page = await answer.json()
        assert len(page) <= PAGE
        found += [episode["why"] for episode in page]
        path = URL(answer.links["next"]["url"]).path_qs if "next" in answer.links else ""
    assert found == [str(i) for i in reversed(range(MAX_PAST_EPISODES))]
    assert len(await (await healer.client.get("/episodes?limit=1&offset=3")).json()) == 1
    for bad in ("limit=0", "limit=1000", "offset=-1", "offset=x"):
        assert (await healer.client.get(f"/episodes?{bad}")).status == 400
    first = await (await healer.client.get("/")).text()
    assert first.count("<details") == PAGE
    assert f"?offset={PAGE}" in first
    assert (await (await healer.client.get(f"/?offset={MAX_PAST_EPISODES - 1}")).text()).count("Older") == 0


@asynccontextmanager
async def alertmanager(alerts: str, uptime: str, date: str | None = None) -> AsyncIterator[str]:
    """Answer as Alertmanager's API does, with these texts."""
    headers = {} if date is None else {"Date": date}

    async def status(_: web.Request) -> web.Response:
        return web.json_response({"uptime": uptime, "cluster": {"status": "ready"}}, headers=headers)

    async def listed(_: web.Request) -> web.Response:
        return web.Response(text=alerts, content_type="application/json", headers=headers)

    app = web.Application()
    app.add_routes([web.get("/api/v2/status", status), web.get("/api/v2/alerts", listed)])
    async with TestServer(app) as server:
        yield f"http://127.0.0.1:{server.port}"


def listed(**labels: str) -> dict[str, Any]:
    """Return an alert as Alertmanager lists it."""
    return {"labels": alert("s")["labels"] | labels, "fingerprint": "f", "status": {}}


LONG_AGO = "2020-01-01T00:00:00.000Z"
ANSWERS: dict[str, tuple[str, str]] = {
    "deep": ("[" * 100_000, LONG_AGO),
    "no JSON": ("<html>", LONG_AGO),
    "not a list": ('{"a": 1}', LONG_AGO),
    "the year 1": ("[]", "0001-01-01T00:00:00+14:00"),
    "no time": ("[]", "yesterday"),
    "half a character": (json.dumps([listed(slot_name="\ud83d")]), LONG_AGO),
    "half a character in a fingerprint": (json.dumps([listed() | {"fingerprint": "\ud83d"}]), LONG_AGO),
}


@pytest.mark.parametrize(("alerts", "uptime"), ANSWERS.values(), ids=ANSWERS.keys())
async def test_no_answer_of_alertmanager_ends_the_asking(
    alerts: str, uptime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("healer.webhook.reconcile.BUSY_INTERVAL", 0.05)
    async with alertmanager(alerts, uptime) as url:
        async with healing(cluster(), settings=HealerSettings(alertmanager_url=url)) as healer:
            while await healer.value("pgslot_heal_alertmanager_up") is None:
                pass
            assert (await healer.client.get("/-/healthy")).status == 200
            assert await healer.value("pgslot_heal_alertmanager_up") == (1 if "+14" in uptime else 0)
        if "+14" not in uptime:
            with pytest.raises(AlertmanagerError):
                await fetch_listing(url)


async def test_a_defect_in_the_asking_is_told_and_it_asks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("healer.webhook.reconcile.BUSY_INTERVAL", 0.05)
    tries = []

    async def defect(_: str) -> Any:
        tries.append(1)
        raise MemoryError("a defect")

    monkeypatch.setattr("healer.webhook.reconcile.fetch", defect)
    async with healing(cluster(), settings=HealerSettings(alertmanager_url="http://127.0.0.1:1")) as healer:
        while len(tries) < 3:
            assert (await healer.client.get("/-/healthy")).status == 200
        assert await healer.value("pgslot_heal_alertmanager_up") == 0


@pytest.mark.parametrize("ahead", [timedelta(minutes=6), timedelta(hours=-6)])
async def test_the_healers_own_clock_does_not_make_alerts_end(ahead: timedelta) -> None:
    """Alertmanager has just started, by its own clock, and has no alerts yet: that is not the same as resolved."""
    its_time = datetime.now(UTC) - ahead
    started = (its_time - timedelta(minutes=1)).isoformat()
    async with alertmanager("[]", started, format_datetime(its_time, usegmt=True)) as url:
        assert (await fetch_listing(url)).complete is False
    settled = (its_time - timedelta(minutes=10)).isoformat()
    async with alertmanager("[]", settled, format_datetime(its_time, usegmt=True)) as url:
        assert (await fetch_listing(url)).complete is True


EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"


def test_what_is_printed_has_no_control_characters() -> None:
    assert printable("plain ä €") == "plain ä €"
    shown = printable(EVIL)
    assert shown.isprintable()
    assert shown == "\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\u202e"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("pg-slot-healer")
    return subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=60, check=False)


def saved(folder: Path, **more: Any) -> list[str]:
    labels = alert("s")["labels"] | more
    (folder / "body.json").write_text(json.dumps({"version": "4", "alerts": [alert("s") | {"labels": labels}]}))
    node = f"{{conninfo: 'host=127.0.0.1 port={free_port()} dbname=x user=x'}}"
    (folder / "p.yml").write_text(f"clusters: {{c: {{nodes: {{standby: {node}}}, healer: {node}}}}}")
    return ["replay", str(folder / "body.json"), f"--config.file={folder / 'p.yml'}"]


def test_replay_shows_a_label_without_acting_on_it(tmp_path: Path) -> None:
    found = run(*saved(tmp_path, alertname=EVIL))
    assert "\\x1b[2J" in found.stdout
    assert all(line.isprintable() for line in found.stdout.splitlines())


def test_replay_with_the_node_down_does_not_say_that_a_record_would_not_help(tmp_path: Path) -> None:
    found = run(*saved(tmp_path))
    assert found.returncode == 1
    assert "fail" in found.stdout
    assert "nobody can tell: the node did not answer, or not in full (node unreachable" in found.stdout
    assert "not help" not in found.stdout


def test_a_broken_pipe_ends_without_traceback(tmp_path: Path) -> None:
    healer, exporter = (str(Path(sys.executable).with_name(f"pg-slot-{name}")) for name in ("healer", "exporter"))
    for command in ([healer, *saved(tmp_path)], [healer, "grants"], [exporter, "metrics"], [exporter, "sql"]):
        read, write = socket.socketpair()
        read.close()
        with write:
            found = subprocess.run(command, stdout=write.fileno(), stderr=subprocess.PIPE, timeout=60, check=False)
        assert (found.returncode, found.stderr) == (141, b"")


def test_the_log_has_no_raw_control_characters(tmp_path: Path) -> None:
    """Neither as logfmt nor as JSON, whatever a name holds."""
    code = (
        "import sys\nfrom pgslot.cli import logging as log\n"
        "log.setup('info', sys.argv[1])\n"
        f"log.get_logger('x').info('seen', slot={EVIL!r}, at=[{EVIL!r}])"
    )
    for form in ("logfmt", "json"):
        found = subprocess.run(
            [sys.executable, "-c", code, form], capture_output=True, text=True, timeout=60, check=True, cwd=tmp_path
        )
        [line] = found.stderr.splitlines()
        assert line.isprintable()
        assert "owned" in line


async def test_capability_checks_are_spread_over_the_minute() -> None:
    """Three hundred clusters are not connected to within the same moment."""
    came: list[float] = []

    async def accepted(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(time.monotonic())
        writer.close()

    async with await asyncio.start_server(accepted, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        there = Conninfo(f"host=127.0.0.1 port={port} dbname=x user=x")
        target = replace(TARGET, conninfo=there)
        clusters = [Cluster(f"c{i}", (Node(f"c{i}", "n", there),), target) for i in range(300)]
        started = time.monotonic()
        async with healing(*clusters):
            await asyncio.sleep(2.0)
            spent = time.monotonic() - started
    # Two connections each: the second finds out whether anybody answers at all.
    assert 2 <= len(came) <= 2 * (spent / 0.2 + 2)
