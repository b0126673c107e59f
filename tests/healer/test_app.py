"""The healer's endpoints over real sockets, and on a real server where one is needed."""

import asyncio
import json
from collections.abc import AsyncIterator
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import bcrypt
import pytest
from aiohttp.test_utils import TestClient, TestServer
from prometheus_client import CollectorRegistry

from healer.app import application
from healer.capability import CapabilityMonitor
from healer.episodes.loop import MAX_SLOTS
from healer.metrics import HealerMetrics
from healer.remedies.attempt import Capability, Unavailable
from healer.remedies.registry import FORCE_SNAPSHOT
from healer.webhook.body import MAX_BODY_BYTES
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerConfig, HealerSettings, Node
from pgslot.config.reload import ConfigReloader
from tests.support import in_process
from tests.support.builders.webhooks import ALERT, BODY
from tests.support.servers.processes import free_port
from tests.support.servers.stack import EXPORTER_ROLE, HEALER_ROLE, Stack

Client = TestClient[Any, Any]
TOKEN = "right"
AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}
HEAL = {"heal": "log_standby_snapshot"}
NOWHERE = f"host=127.0.0.1 port={free_port()} user=x"


def cluster(name: str, *, enabled: bool = True, conninfo: str = NOWHERE) -> Cluster:
    return Cluster(
        name, (Node(name, "n", Conninfo(NOWHERE)),), HealerConfig(Conninfo(conninfo), enabled, dry_run=False)
    )


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[Client]:
    (tmp_path / "token").write_text(TOKEN)
    watched = Cluster("watched", (Node("watched", "n", Conninfo(NOWHERE)),), None)
    settings = HealerSettings(webhook_token_file=tmp_path / "token")
    config = Config((cluster("c"), cluster("off", enabled=False), watched), settings)
    async with TestClient(TestServer(application(ConfigReloader(lambda: config, config)))) as started:
        yield started


def alert(labels: dict[str, str], fingerprint: str = "f", *, firing: bool = True) -> dict[str, Any]:
    return ALERT | {"status": "firing" if firing else "resolved", "fingerprint": fingerprint, "labels": labels}


REMEDY_LABEL = 'remedy="log_standby_snapshot"'


async def post(client: Client, *alerts: dict[str, Any], **changes: Any) -> tuple[int, str]:
    body = json.dumps(BODY | {"alerts": list(alerts)} | changes).encode()
    answer = await client.post("/alerts", data=BytesIO(body), headers=AUTHORIZED)
    return answer.status, (await answer.text()).strip()


SUBJECT = {"node": "n", "slot_name": "s"}


@pytest.mark.parametrize(
    ("labels", "action"),
    [
        ({"cluster": "c", **SUBJECT}, "ignored_no_heal_label"),
        ({"heal": "drop_slot", "cluster": "c", **SUBJECT}, "ignored_no_heal_label"),
        ({"alertname": "PgSlotWatchdog", "heartbeat": "pgslot-healer"}, "heartbeat"),
        (HEAL | SUBJECT, "ignored_unknown_cluster"),
        (HEAL | {"cluster": "elsewhere"} | SUBJECT, "ignored_unknown_cluster"),
        (HEAL | {"cluster": "c"}, "ignored_no_slot"),
        (HEAL | {"cluster": "c", "node": "n"}, "ignored_no_slot"),
        (HEAL | {"cluster": "c", "node": "elsewhere", "slot_name": "s"}, "ignored_unknown_node"),
        (HEAL | {"cluster": "watched"} | SUBJECT, "ignored_not_configured"),
        (HEAL | {"cluster": "off"} | SUBJECT, "ignored_disabled"),
        (HEAL | {"cluster": "c"} | SUBJECT, "started"),
    ],
)
async def test_answer_and_metrics_count_what_is_done_with_an_alert(
    client: Client, labels: dict[str, str], action: str
) -> None:
    assert await post(client, alert(labels)) == (200, f"{action}=1")
    metrics = await (await client.get("/metrics")).text()
    assert f'pgslot_heal_alerts_total{{action="{action}"}} 1.0' in metrics
    assert 'pgslot_heal_webhooks_total{code="200"} 1.0' in metrics


async def test_log_has_an_example_of_each_kind_of_ignored_alert_and_none_of_the_heartbeat(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger="healer.webhook.endpoint")
    heartbeat = alert({"alertname": "PgSlotWatchdog", "heartbeat": "pgslot-healer"})
    await post(client, heartbeat, *(alert({"alertname": f"Other{i}"}, f"{i}") for i in range(3)))
    lines = [(record.getMessage(), vars(record)["fields"]) for record in caplog.records]
    assert [message for message, _ in lines] == ["alerts ignored, an example", "webhook received"]
    assert (lines[0][1]["alertname"], lines[0][1]["alerts"]) == ("Other0", 3)
    assert lines[1][1] == {"alerts": 4, "heartbeat": 1, "ignored_no_heal_label": 3}


async def test_all_alerts_of_a_cluster_share_one_episode(client: Client) -> None:
    subjects = [HEAL | {"cluster": "c", "node": "n", "slot_name": f"s{i % 5}"} for i in range(100)]
    alerts = [alert(labels, f"f{i}") for i, labels in enumerate(subjects)]
    assert await post(client, *alerts) == (200, "started=1 joined=99")
    assert await post(client, *alerts) == (200, "joined=100")
    [episode] = await (await client.get("/episodes")).json()
    assert len(episode["subjects"]) == 5
    assert episode["outcome"] is None


async def test_status_of_the_alert_counts_not_that_of_its_group(client: Client) -> None:
    labels = HEAL | {"cluster": "c"} | SUBJECT
    body = (alert(labels, "a"), alert(labels, "a", firing=False), alert(labels, "b", firing=False))
    assert await post(client, *body, status="resolved") == (200, "started=1 resolved=1 ignored_resolved=1")


async def test_bad_bodies_are_refused_and_counted(client: Client) -> None:
    assert (await post(client, version="3"))[0] == 400
    assert (await post(client, {"labels": []}))[0] == 400
    huge = await client.post("/alerts", data=BytesIO(b"x" * (MAX_BODY_BYTES + 1)), headers=AUTHORIZED)
    assert huge.status == 413
    assert (await client.get("/alerts")).status == 405
    metrics = await (await client.get("/metrics")).text()
    assert 'pgslot_heal_webhooks_total{code="400"} 2.0' in metrics
    assert 'pgslot_heal_webhooks_total{code="413"} 1.0' in metrics


async def test_webhook_of_ten_thousand_alerts_is_accepted(client: Client) -> None:
    labels = HEAL | {"cluster": "c", "alertname": "x" * 100} | SUBJECT
    alerts = [alert(labels, f"{i:016x}") for i in range(10_000)]
    assert await post(client, *alerts) == (200, "started=1 joined=9999")


async def test_full_episode_refuses_further_slots_and_keeps_its_own(client: Client) -> None:
    """503 makes Alertmanager send the same body again; what was taken joins again, and is not counted twice."""
    labels = [HEAL | {"cluster": "c", "node": "n", "slot_name": f"s{i}"} for i in range(MAX_SLOTS + 2)]
    alerts = [alert(slot_labels, f"{i}") for i, slot_labels in enumerate(labels)]
    assert await post(client, *alerts) == (503, f"started=1 joined={MAX_SLOTS - 1} refused_full=2")
    assert await post(client, *alerts) == (503, f"joined={MAX_SLOTS} refused_full=2")
    [episode] = await (await client.get("/episodes")).json()
    assert len(episode["subjects"]) == MAX_SLOTS
    metrics = await (await client.get("/metrics")).text()
    assert 'pgslot_heal_webhooks_total{code="503"} 2.0' in metrics


@pytest.mark.parametrize(
    "header", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": TOKEN}, {"Authorization": "Bearer righté"}]
)
async def test_webhook_without_the_right_token_is_refused(client: Client, header: dict[str, str]) -> None:
    answer = await client.post("/alerts", data=json.dumps(BODY), headers=header)
    assert answer.status == 401
    assert TOKEN not in await answer.text()


async def test_unreadable_token_file_refuses_all_webhooks(client: Client, tmp_path: Path) -> None:
    (tmp_path / "token").unlink()
    assert (await client.post("/alerts", data=json.dumps(BODY))).status == 503
    assert (await client.post("/alerts", data=json.dumps(BODY), headers={"Authorization": "Bearer "})).status == 503
    (tmp_path / "token").write_text("rotated")
    assert (await client.post("/alerts", data=json.dumps(BODY), headers=AUTHORIZED)).status == 401
    rotated = {"Authorization": "Bearer rotated"}
    assert (await client.post("/alerts", data=json.dumps(BODY), headers=rotated)).status == 200


async def test_ready_does_not_depend_on_a_database(client: Client) -> None:
    """Webhooks can be taken; the metrics show whether each cluster can be healed as soon as it is checked."""
    assert (await client.get("/-/ready")).status == 200
    assert (await client.get("/-/healthy")).status == 200


@pytest.mark.parametrize("task", ["healer.metrics.HealerMetrics.set_capability", "healer.app.Reconciler.run"])
async def test_background_task_that_fails_makes_it_unhealthy(monkeypatch: pytest.MonkeyPatch, task: str) -> None:
    def fails(*_: object) -> NoReturn:
        raise MemoryError

    async def ends(*_: object) -> NoReturn:
        raise MemoryError

    monkeypatch.setattr(task, ends if task.endswith("run") else fails)
    config = Config((cluster("c"),), HealerSettings(alertmanager_url="http://127.0.0.1:1"))
    async with TestClient(TestServer(application(ConfigReloader(lambda: config, config)))) as client:
        async with asyncio.timeout(10):
            while (answer := await client.get("/-/healthy")).status == 200:  # noqa: ASYNC110 - it is behind a socket
                await asyncio.sleep(0.01)
        assert (answer.status, "internal error" in await answer.text()) == (500, True)


async def test_capability_is_in_the_metrics_from_the_start(client: Client) -> None:
    while 'reason="unreachable"} 1.0' not in (metrics := await (await client.get("/metrics")).text()):
        pass
    assert f'pgslot_heal_capability_unavailable{{cluster="c",{REMEDY_LABEL},reason="unreachable"}} 1.0' in metrics
    assert f'pgslot_heal_capability_unavailable{{cluster="c",{REMEDY_LABEL},reason="disabled"}} 0.0' in metrics
    assert f'pgslot_heal_capability_unavailable{{cluster="off",{REMEDY_LABEL},reason="disabled"}} 1.0' in metrics
    assert 'cluster="watched"' not in metrics


async def test_capability_is_logged_once_per_change_and_says_what_is_deliberate(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    monitor = CapabilityMonitor(HealerMetrics(CollectorRegistry()))
    cluster = Cluster("c", (), HealerConfig(Conninfo(NOWHERE), enabled=True, dry_run=False))
    dry = Cluster("dry", (), HealerConfig(Conninfo(NOWHERE), enabled=True, dry_run=True))
    monitor.watch([cluster, dry])
    await monitor.close()
    refused = Capability(Unavailable.MISSING_PRIVILEGE, "GRANT")
    for capability in (refused, refused, Capability(None), Capability(None), refused):
        monitor.note(cluster, FORCE_SNAPSHOT, capability)
    off = Capability(Unavailable.DISABLED, "enabled: false in the configuration (CHG-7).")
    for capability in (off, off, Capability(None)):
        monitor.note(dry, FORCE_SNAPSHOT, capability)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "healing is not possible for this cluster"),
        ("INFO", "healing is possible for this cluster"),
        ("WARNING", "healing is not possible for this cluster"),
        ("INFO", "healing is switched off for this cluster"),
        ("INFO", "healing is possible for this cluster, but dry_run: true: nothing is called"),
    ]


async def test_status_page_escapes_values(client: Client) -> None:
    await post(client, alert(HEAL | {"alertname": "<script>", "cluster": "c", "node": "n", "slot_name": "s"}))
    # Below it is the script that refreshes the page.
    page = (await (await client.get("/")).text()).partition("</main>")[0]
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


async def test_status_page_links_to_the_runbook_that_the_alert_names(client: Client) -> None:
    url = "https://pgslot.example.com/runbooks/PgSlotCreationStuck"
    labels = HEAL | {"alertname": "PgSlotCreationStuck", "cluster": "c", "node": "n", "slot_name": "s"}
    await post(client, alert(labels) | {"annotations": {"runbook_url": url}})
    assert f'<a href="{url}">PgSlotCreationStuck</a>' in await (await client.get("/")).text()
    [episode] = await (await client.get("/episodes")).json()
    assert episode["alerts"] == {"PgSlotCreationStuck": url}


async def test_slot_that_does_not_wait_is_left_alone(databases: Stack) -> None:
    """Level-driven: the alert is only a hint."""
    node = Node("c", "n", Conninfo(databases.primary.conninfo(EXPORTER_ROLE)))
    target = HealerConfig(Conninfo(databases.primary.conninfo(HEALER_ROLE)), enabled=True, dry_run=False)
    config = Config((Cluster("c", (node,), target),), HealerSettings())
    async with TestClient(TestServer(application(ConfigReloader(lambda: config, config)))) as client:
        assert await post(client, alert(HEAL | {"cluster": "c"} | SUBJECT)) == (200, "started=1")
        while (await (await client.get("/episodes")).json())[0]["outcome"] is None:
            pass
        [episode] = await (await client.get("/episodes")).json()
        metrics = await (await client.get("/metrics")).text()
    assert (episode["outcome"], episode["calls"]) == ("resolved_itself", 0)
    assert f'pgslot_heal_episodes_total{{cluster="c",{REMEDY_LABEL},outcome="resolved_itself"}} 1.0' in metrics
    assert f'pgslot_heal_episode_active{{cluster="c",{REMEDY_LABEL}}} 0.0' in metrics
    assert "pgslot_heal_last_call_timestamp_seconds{" not in metrics


def test_listening_beyond_loopback_needs_authentication(tmp_path: Path) -> None:
    config = tmp_path / "pgslot.yml"
    config.write_text('clusters: {a: {nodes: {n: {conninfo: "host=db"}}}}')
    run = partial(in_process.run, "pg-slot-healer", f"--config.file={config}", "--check")

    refused = run()
    assert refused.returncode == 2
    assert "healer.webhook_token_file: expected a token to listen beyond loopback, found none" in refused.stderr
    assert run("--web.listen-address=127.0.0.1:9878").returncode == 0
    assert run("--web.listen-address=localhost:9878").returncode == 0
    assert run("--web.allow-unauthenticated").returncode == 0
    users = tmp_path / "web.yml"
    users.write_text("http_server_config: {}")
    assert run(f"--web.config.file={users}").returncode == 2
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    users.write_text(f"basic_auth_users: {{alertmanager: '{hashed}'}}")
    assert run(f"--web.config.file={users}").returncode == 0
    (tmp_path / "token").write_text("abc")
    config.write_text(f"{config.read_text()}\nhealer: {{webhook_token_file: token}}")
    assert "expected either a token or basic_auth_users" in run(f"--web.config.file={users}").stderr
