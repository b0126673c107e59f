"""Webhooks of Grafana Alerting: its alerts drive the healer, those about rules that it could not evaluate do not."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from healer.commands.replay import replay_file
from healer.webhook.alert_filter import AcceptedAlert, classify
from healer.webhook.alertmanager_api import parse_listing
from healer.webhook.payload import Action, parse
from pgslot.config.model import Config
from tests.support.builders.webhooks import CLUSTERS
from tests.support.fakes.grafana import GRAFANA_RULE_LABELS, grafana_body
from tests.support.running_healer import QUICK, Healer, healing, watched
from tests.support.servers.stack import Stack

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def grafana_alert(slot: str, *, name: str = "PgSlotCreationStuck", firing: bool = True, **more: Any) -> dict[str, Any]:
    """Return an alert of a rule as Grafana 12 and 13 send it; `more` changes its labels."""
    labels = {"alertname": name, "grafana_folder": "pg-slot-healer", "cluster": "c", "node": "standby"}
    labels |= {"database": "postgres", "slot_name": slot} | GRAFANA_RULE_LABELS | more
    return {
        "status": "firing" if firing else "resolved",
        "labels": labels,
        "annotations": {"summary": "The creation of a logical replication slot is stuck."},
        "startsAt": "2026-11-25T12:00:10Z",
        "endsAt": "0001-01-01T00:00:00Z" if firing else "2026-11-25T12:01:10Z",
        "generatorURL": "http://grafana:3000/alerting/grafana/pgslot-PgSlotCreationStuck/view?orgId=1",
        "fingerprint": f"grafana/{name}/{slot}",
        "silenceURL": "http://grafana:3000/alerting/silence/new?alertmanager=grafana&matcher=cluster%3Dc&orgId=1",
        "dashboardURL": "",
        "panelURL": "",
        "values": {"query": 31.5, "prometheus_math": 1, "threshold": 1},
        "valueString": "[ var='query' labels={cluster=c, node=standby} value=31.5 ]",
        "orgId": 1,
        "ruleUID": "pgslot-PgSlotCreationStuck",
    }


def datasource_alert(name: str, slot: str | None) -> dict[str, Any]:
    """Return the alert about a rule that could not be evaluated, with that rule's labels; None: without a slot."""
    alert = grafana_alert(
        slot or "", name=name, rulename="PgSlotCreationStuck", datasource_uid="prometheus", ref_id="query"
    )
    if slot is None:
        for label in ("cluster", "node", "database", "slot_name"):
            del alert["labels"][label]
    return alert | {"values": None, "valueString": ""}


def annotated(alert: dict[str, Any], reason: str) -> dict[str, Any]:
    return alert | {"annotations": alert["annotations"] | {"grafana_state_reason": reason}}


async def post(healer: Healer, *alerts: dict[str, Any]) -> tuple[int, str]:
    answer = await healer.client.post("/alerts", json=grafana_body(*alerts))
    return answer.status, (await answer.text()).strip()


def test_contact_point_proves_nothing_about_alertmanagers_routes() -> None:
    webhook = parse(json.dumps(grafana_body(grafana_alert("s"))).encode())
    assert webhook.receiver is None
    assert [(alert.firing, alert.labels["slot_name"]) for alert in webhook.alerts] == [(True, "s")]


def test_contact_points_test_button_asks_for_no_heal() -> None:
    test = {
        "status": "firing",
        "labels": {"alertname": "TestAlert", "instance": "Grafana"},
        "annotations": {"summary": "Notification test"},
        "fingerprint": "57c6d9296de2ad39",
        "values": None,
        "valueString": "[ metric='foo' labels={instance=bar} value=10 ]",
    }
    (alert,) = parse(json.dumps(grafana_body(test)).encode()).alerts
    assert classify(alert, CLUSTERS) is Action.IGNORED_NO_HEAL_LABEL


UNMEASURED = {
    "no data": datasource_alert("DatasourceNoData", None),
    "no data, of a slot that was there before": datasource_alert("DatasourceNoData", "s"),
    "an error": datasource_alert("DatasourceError", None),
    "an error, of a slot": datasource_alert("DatasourceError", "s"),
    "fires because there is no data": annotated(grafana_alert("s"), "NoData"),
    "fires because of an error": annotated(grafana_alert("s"), "Error"),
    "goes on firing without data": annotated(grafana_alert("s"), "NoData, KeepLast"),
}


@pytest.mark.parametrize("sent", UNMEASURED.values(), ids=UNMEASURED.keys())
def test_alert_without_a_measured_value_is_ignored(sent: dict[str, Any]) -> None:
    sent = sent | {"labels": {**sent["labels"], "node": "n"}} if "node" in sent["labels"] else sent
    (alert,) = parse(json.dumps(grafana_body(sent)).encode()).alerts
    assert classify(alert, CLUSTERS) is Action.IGNORED_UNMEASURED


@pytest.mark.parametrize("sent", UNMEASURED.values(), ids=UNMEASURED.keys())
def test_alert_without_a_measured_value_is_ignored_when_alertmanager_lists_it(sent: dict[str, Any]) -> None:
    item = sent | {"status": {"state": "active", "silencedBy": [], "inhibitedBy": [], "mutedBy": []}}
    (alert,) = parse_listing([item]).alerts.values()
    assert classify(alert, CLUSTERS) is Action.IGNORED_UNMEASURED


def test_alert_whose_series_is_gone_has_resolved() -> None:
    gone = annotated(grafana_alert("s", firing=False, node="n"), "MissingSeries")
    (alert,) = parse(json.dumps(grafana_body(gone)).encode()).alerts
    assert isinstance(classify(alert, CLUSTERS), AcceptedAlert)


async def test_grafanas_alert_heals_a_slot(databases: Stack) -> None:
    with databases.quiet(), databases.standby.create_slot("grafana") as creator:
        async with healing(watched(databases)) as healer:
            assert await post(healer, grafana_alert("grafana")) == (200, "started=1")
            episode = await healer.ended()
            assert creator.wait(5)
            assert await healer.value("pgslot_heal_alerts_total", action="started") == 1
    databases.drop_slot("grafana")
    assert episode["outcome"] == "healed"
    assert episode["calls"] >= 1


async def test_resolved_grafana_alert_ends_the_episode(databases: Stack) -> None:
    with databases.quiet(), databases.primary.hold_transaction(), databases.standby.create_slot("ends"):
        async with healing(watched(databases)) as healer:
            await post(healer, grafana_alert("ends"))
            await healer.until("it calls", lambda episodes: episodes and episodes[0]["calls"])
            # An alert about a failing data source says nothing about the slot: the episode goes on.
            assert await post(healer, datasource_alert("DatasourceError", "ends")) == (200, "ignored_unmeasured=1")
            assert [episode["outcome"] for episode in await healer.episodes()].count(None) == 1
            assert await post(healer, grafana_alert("ends", firing=False)) == (200, "resolved=1")
            episode = await healer.ended()
    databases.drop_slot("ends")
    assert episode["outcome"] == "cancelled"


async def test_alert_without_a_measured_value_starts_no_episode(
    databases: Stack, caplog: pytest.LogCaptureFixture
) -> None:
    """Even while a slot of that name hangs: the healer acts only on measured values."""
    with databases.quiet(), databases.standby.create_slot("unseen"):
        async with healing(watched(databases)) as healer:
            unmeasured = [
                datasource_alert("DatasourceNoData", "unseen"),
                datasource_alert("DatasourceError", "unseen"),
                annotated(grafana_alert("unseen"), "Error"),
            ]
            with caplog.at_level("INFO", logger="healer.webhook.endpoint"):
                assert await post(healer, *unmeasured) == (200, "ignored_unmeasured=3")
            assert await healer.episodes() == []
            assert await healer.value("pgslot_heal_alerts_total", action="ignored_unmeasured") == 3
    databases.drop_slot("unseen")
    [example] = [record for record in caplog.records if record.getMessage() == "alerts ignored, an example"]
    assert vars(example)["fields"]["alerts"] == 3


async def test_replay_says_why_an_unmeasured_alert_is_ignored(
    databases: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "webhook.json"
    file.write_text(json.dumps(grafana_body(datasource_alert("DatasourceNoData", "s"), grafana_alert("s"))))
    config = Config((watched(databases),), QUICK)
    assert await replay_file(config, file, offline=True, as_json=True) == 0
    decisions = json.loads(capsys.readouterr().out)
    assert [decision["would"] for decision in decisions] == ["ignore", "start"]
    assert decisions[0]["why"].startswith("Grafana had no data, or an error, for its rule")
