"""The doctor: what it says of servers, how it asks, and how it reports."""

import asyncio
import io
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import requests
import responses

from healer.doctor import http as client_module
from healer.doctor.checks.servers import judge_capability, judge_identities, judge_node, judge_primary
from healer.doctor.http import Client, NoAnswerError, check_url
from healer.doctor.output import as_json, as_text, exit_code, wants_colour
from healer.doctor.result import CheckStatus, Finding
from healer.doctor.server_facts import Server, ServerFacts
from healer.remedies.attempt import Capability, Unavailable
from pgslot.cli.errors import ConfigError
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, HealerConfig, HealerSettings, Node
from pgslot.snapshot.model import NodeSnapshot
from pgslot.snapshot.model import QueryStatus as ProbeStatus
from pgslot.snapshot.queries import QUERIES
from tests.support.fakes.monitoring import HEALER, World, notable
from tests.support.running_healer import healing, watched
from tests.support.servers.stack import Stack

NODE = Node("c", "n", Conninfo("host=nowhere"))
OTHER = Node("c", "o", Conninfo("host=nowhere"))
TARGET = HealerConfig(Conninfo("host=nowhere"), enabled=True, dry_run=False)
CLUSTER = Cluster("c", (NODE, OTHER), TARGET)
FACTS = ServerFacts(
    in_recovery=False,
    version="18.6",
    version_num=180006,
    role="eyes",
    database="app",
    superuser=False,
    wal_level="logical",
    hot_standby_feedback=True,
    primary_slot_name="",
)
STANDBY = replace(FACTS, in_recovery=True, primary_slot_name="n")


def snapshot(**statuses: ProbeStatus) -> NodeSnapshot:
    every = dict.fromkeys((probe.name for probe in QUERIES), ProbeStatus.OK)
    return NodeSnapshot("c", "n", 0.0, every | statuses)


GOOD = snapshot()
NODES = [
    (FACTS, GOOD, []),
    (STANDBY, GOOD, []),
    (replace(FACTS, superuser=True), GOOD, [("node", "warning", "as eyes in database app, who is a superuser")]),
    (replace(FACTS, wal_level="replica"), GOOD, [("wal_level", "failed", "replica")]),
    # 19 raises it with the primary's first logical slot.
    (replace(FACTS, wal_level="replica", version_num=190000), GOOD, []),
    (
        replace(STANDBY, wal_level="replica", version_num=190000),
        GOOD,
        [("wal_level", "warning", "replica, until the primary's first logical slot is created")],
    ),
    (replace(FACTS, wal_level="minimal", version_num=190000), GOOD, [("wal_level", "failed", "minimal")]),
    (
        replace(STANDBY, hot_standby_feedback=False, primary_slot_name=""),
        GOOD,
        [("standby", "warning", "hot_standby_feedback is off, primary_slot_name is empty")],
    ),
    # Before 16 a standby has no logical slots.
    (replace(STANDBY, version_num=150018, hot_standby_feedback=False), GOOD, []),
    (
        FACTS,
        snapshot(creations=ProbeStatus.PERMISSION_DENIED),
        [("probes", "failed", "creations: permission_denied")],
    ),
    (FACTS, snapshot(slots=ProbeStatus.UNSUPPORTED), [("probes", "failed", "slots: unsupported")]),
    (FACTS, snapshot(slots=ProbeStatus.TIMEOUT), [("probes", "failed", "slots: timeout")]),
    (FACTS, snapshot(slots=ProbeStatus.ERROR), [("probes", "failed", "slots: error")]),
]


@pytest.mark.parametrize(("facts", "looked", "expected"), NODES)
def test_a_node(facts: ServerFacts, looked: NodeSnapshot, expected: list[tuple[str, str, str]]) -> None:
    findings = list(judge_node(NODE, Server(facts, "1"), looked))
    found = notable(findings)
    assert [(check, status) for check, _, status, _ in found] == [(check, status) for check, status, _ in expected]
    assert all(part in text for (*_, text), (*_, part) in zip(found, expected, strict=True))
    assert all(finding.advice for finding in findings if finding.status is not CheckStatus.OK)


def test_the_grant_for_the_probes_quotes_the_role() -> None:
    server = Server(replace(FACTS, role='o"d'), "1")
    remedies = [each.advice for each in judge_node(NODE, server, snapshot(standby=ProbeStatus.PERMISSION_DENIED))]
    assert 'GRANT pg_read_all_stats, pg_read_all_settings TO "o""d";' in "".join(remedies)


PRIMARY = Server(FACTS, "1")
REPLICA = Server(STANDBY, "1")
PRIMARIES = [
    ({NODE: PRIMARY, OTHER: REPLICA}, CheckStatus.OK, "n"),
    ({NODE: PRIMARY, OTHER: "refused"}, CheckStatus.OK, "n"),
    ({NODE: PRIMARY, OTHER: PRIMARY}, CheckStatus.FAILED, "several: n, o"),
    ({NODE: REPLICA, OTHER: REPLICA}, CheckStatus.FAILED, "all nodes are standbys"),
    ({NODE: REPLICA, OTHER: "refused"}, CheckStatus.SKIPPED, "not all nodes answered"),
]


@pytest.mark.parametrize(("servers", "status", "found"), PRIMARIES)
def test_the_primary(servers: dict[Node, Server | str], status: CheckStatus, found: str) -> None:
    finding = judge_primary(CLUSTER, servers)
    assert finding.status is status
    assert found in finding.found


IDENTITIES = [
    ("1", "1", "1", CheckStatus.OK, "system identifier 1 everywhere"),
    ("1", "2", "1", CheckStatus.FAILED, "n 1, o 2, healer.conninfo 1"),
    ("1", "1", "2", CheckStatus.FAILED, "n 1, o 1, healer.conninfo 2"),
    ("1", None, "2", CheckStatus.FAILED, "n 1, healer.conninfo 2"),
    ("1", None, "1", CheckStatus.SKIPPED, "may not be read on o"),
    ("1", "down", "1", CheckStatus.SKIPPED, "not all servers answered"),
    ("1", "1", "down", CheckStatus.SKIPPED, "not all servers answered"),
]


@pytest.mark.parametrize(("node", "other", "acting", "status", "found"), IDENTITIES)
def test_the_same_cluster(node: str, other: str | None, acting: str, status: CheckStatus, found: str) -> None:
    def server(identifier: str | None) -> Server | str:
        return "no answer" if identifier == "down" else Server(FACTS, identifier)

    finding = judge_identities(CLUSTER, {NODE: server(node), OTHER: server(other)}, server(acting))
    assert finding.status is status
    assert found in finding.found


CAPABILITIES = [
    (TARGET, None, PRIMARY, CheckStatus.OK, "can act as eyes in database app"),
    (TARGET, None, "gone", CheckStatus.OK, "can act"),
    (replace(TARGET, dry_run=True), None, PRIMARY, CheckStatus.WARNING, "but dry_run: true"),
    (TARGET, None, Server(replace(FACTS, superuser=True), "1"), CheckStatus.WARNING, "who is a superuser"),
    (TARGET, Unavailable.DISABLED, "off", CheckStatus.WARNING, "switched off: the remedy"),
    (TARGET, Unavailable.MISSING_PRIVILEGE, PRIMARY, CheckStatus.FAILED, "missing_privilege"),
    (
        replace(TARGET, fallback=True),
        Unavailable.MISSING_PRIVILEGE,
        PRIMARY,
        CheckStatus.WARNING,
        "emit_message it heals",
    ),
    (replace(TARGET, fallback=True), Unavailable.UNREACHABLE, "gone", CheckStatus.FAILED, "unreachable"),
]


@pytest.mark.parametrize(("target", "reason", "acting", "status", "found"), CAPABILITIES)
def test_the_capability(
    target: HealerConfig, reason: Unavailable | None, acting: Server | str, status: CheckStatus, found: str
) -> None:
    finding = judge_capability("c", target, Capability(reason, "the remedy"), acting)
    assert finding.status is status
    assert found in finding.found
    if status is CheckStatus.FAILED:
        assert finding.advice == "the remedy"


FINDINGS = [
    Finding("a", "one", CheckStatus.OK, "fine"),
    Finding("longer", "two", CheckStatus.FAILED, "bad\n\x1b[31mred", "do this"),
    Finding("b", "", CheckStatus.SKIPPED, "why"),
]


def test_text_is_aligned_plain_and_counted() -> None:
    assert as_text(FINDINGS, colour=False).splitlines() == [
        "ok       a       one  fine",
        "FAIL     longer  two  bad [31mred",
        "         -> do this",
        "skipped  b            why",
        "3 checks: 1 ok, 0 warn, 1 FAIL, 0 unknown, 1 skipped",
    ]


def test_colour_is_for_the_words_alone() -> None:
    plain, coloured = as_text(FINDINGS, colour=False), as_text(FINDINGS, colour=True)
    assert coloured.count("\x1b[") == 2 * len(FINDINGS)
    for code in ("\x1b[0m", "\x1b[32m", "\x1b[1;31m", "\x1b[2m"):
        coloured = coloured.replace(code, "")
    assert coloured == plain


def test_when_there_is_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert wants_colour(Terminal())
    assert not wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())


def test_json_and_exit_codes() -> None:
    assert json.loads(as_json(FINDINGS))[1] == {
        "check": "longer",
        "subject": "two",
        "status": "failed",
        "found": "bad\n\x1b[31mred",
        "remedy": "do this",
    }
    raw = replace(FINDINGS[0], found="ä \x9b31m\u202e")
    assert as_json([raw]).replace("\n", "").isprintable()
    assert json.loads(as_json([raw]))[0]["found"] == raw.found
    assert exit_code(FINDINGS) == 1
    without = [replace(FINDINGS[0], status=status) for status in CheckStatus if status is not CheckStatus.FAILED]
    assert exit_code(without) == 3
    assert exit_code([finding for finding in without if finding.status is not CheckStatus.UNKNOWN]) == 0


@contextmanager
def listening(answer: bytes = b"", pause: float = 0.0) -> Iterator[str]:
    """A server that answers each request with these bytes, one by one with a pause; without any it never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()

        def serve() -> None:
            taken, _ = listener.accept()
            with taken:
                for byte in answer:
                    if over.is_set():
                        return
                    taken.sendall(bytes([byte]))
                    over.wait(pause)
                over.wait()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        over.set()
        thread.join(5)


def test_no_wait_is_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "READ_TIMEOUT", 0.3)
    with listening() as url, pytest.raises(NoAnswerError, match="no answer within"):
        Client(url).get("/")
    monkeypatch.setattr(client_module, "TOTAL_TIMEOUT", 0.5)
    drip = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + 1000 * b"x"
    with listening(drip, pause=0.02) as url, pytest.raises(NoAnswerError, match="no whole answer within"):
        Client(url).get("/")


def test_why_there_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NoAnswerError, match=r"^Connection refused$"):
        Client(f"http://user:s3cr3t@127.0.0.1:{port}").get("/")
    with listening(b"no TLS here\r\n") as url, pytest.raises(NoAnswerError, match=r"^TLS: "):
        Client(url.replace("http:", "https:")).get("/")


def test_a_token_is_not_replaced_by_netrc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does "without any credentials" send what ~/.netrc has."""
    monkeypatch.setattr(requests.sessions, "get_netrc_auth", lambda _url: ("netrc", "secret"))
    with responses.RequestsMock() as mock:
        mock.post("http://h/alerts")
        mock.get("http://h/metrics")
        client = Client("http://h")
        client.post("/alerts", "{}", token="right")
        client.post("/alerts", "{}", token=None)
        client.get("/metrics")
        given = [call.request.headers.get("Authorization", "") for call in mock.calls]
    assert given[:2] == ["Bearer right", ""]
    assert given[2].startswith("Basic ")


async def test_a_token_beyond_latin_1_is_sent_as_alertmanager_sends_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("schlüssel-€", "utf-8")
    settings = HealerSettings(webhook_token_file=tmp_path / "token")
    nowhere = Conninfo("host=127.0.0.1 port=1 user=x")
    target = HealerConfig(nowhere, enabled=True, dry_run=False)
    async with healing(Cluster("c", (Node("c", "n", nowhere),), target), settings=settings) as healer:
        client = Client(str(healer.client.make_url("")))
        answer = await asyncio.to_thread(client.post, "/alerts", '{"version": "4", "alerts": []}', token="schlüssel-€")
    assert answer.status == 200


@pytest.mark.parametrize("url", ["", "h:1", "ftp://h", "http://", "http://h:x", "http://[", "http://u:s3cr3t@"])
def test_what_is_no_url(url: str) -> None:
    with pytest.raises(ConfigError, match=r"--healer\.url: expected an http or https URL") as refused:
        check_url("--healer.url", url)
    assert "s3cr3t" not in str(refused.value)


def test_rules_are_compared_as_prometheus_writes_them(world: World) -> None:
    shipped = " ".join(world.rule("PgSlotWalHeadroomLow")["query"].split())
    world.rule("PgSlotWalHeadroomLow")["query"] = f"({shipped})"
    world.formatted = {f"({shipped})": shipped}
    assert notable(world.examine()) == []


def test_what_prometheus_adds_to_alerts_is_routed_by(world: World) -> None:
    world.routing["route"]["routes"].insert(0, {"receiver": "people", "matchers": ['dc="north"']})
    assert notable(world.examine()) == []
    world.external_labels = {"dc": "north"}
    assert {each[0] for each in notable(world.examine())} == {"route"}


def test_what_fires_for_the_healer_is_named(world: World) -> None:
    heal = {"heal": "log_standby_snapshot", "alertname": "PgSlotStalled", "cluster": "c", "node": "n1"}
    world.alerts = [{"state": "firing", "labels": heal | {"slot_name": f"s{i}"}} for i in range(7)]
    world.alerts.append({"state": "pending", "labels": heal})
    world.alerts.append({"state": "firing", "labels": {"alertname": "PgSlotLost"}})
    [finding] = [each for each in world.examine() if each.check == "firing for healer"]
    assert finding.found.startswith("c/n1/s0 PgSlotStalled, ")
    assert finding.found.endswith("c/n1/s4 PgSlotStalled and 2 more")


def test_secrets_in_urls_are_not_shown(world: World) -> None:
    """Neither those that we were given, nor those of Alertmanager's configuration."""
    world.webhook["url"] = "http://user:s3cr3t@elsewhere:1/alerts?token=s3cr3t"
    world.elsewhere = {"http://elsewhere:1": "x 1\n"}
    world.healer_url = "http://user:s3cr3t@healer:9878"
    findings = world.examine()
    assert "s3cr3t" not in "".join(f"{each.subject} {each.found} {each.advice}" for each in findings)
    assert [each.subject for each in findings if each.check == "healer"] == [HEALER]


async def test_its_webhook_does_not_pass_for_one_of_alertmanagers(databases: Stack) -> None:
    async with healing(watched(databases)) as healer:
        before = await healer.value("pgslot_heal_last_webhook_timestamp_seconds")
        assert await healer.post() == (200, "")
        assert await healer.value("pgslot_heal_last_webhook_timestamp_seconds") == before
        assert await healer.value("pgslot_heal_webhooks_total", code="200") == 1
