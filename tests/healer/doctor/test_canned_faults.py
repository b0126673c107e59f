"""Each fault of healer, Prometheus and Alertmanager that the doctor can name, by canned answers."""

import time
from datetime import UTC, datetime

import pytest
import requests

from pgslot.alerting_rules import SHIPPED_BASE
from tests.support.fakes.monitoring import ALERTMANAGER, HEALER, PROMETHEUS, STARTED, FakeMonitoring, notable
from tests.support.fakes.monitoring_faults import (
    HEAL_ALERTS,
    ROUTED_ALERTS,
    Change,
    Expected,
    Fault,
    another_healer,
    assert_named,
    both,
    broken,
    metric,
    moved,
    setting,
    without_secret_file,
    without_token,
)


def test_nothing_is_reported_if_all_is_well(monitoring: FakeMonitoring) -> None:
    findings = monitoring.examine()
    assert notable(findings) == []
    assert [finding.check for finding in findings] == [
        *("healer", "clusters", "in force", "webhooks", "arrivals"),
        *(
            "prometheus",
            "exporter target",
            "healer target",
            "nodes",
            "rules",
            "heal time",
            "alerting",
            "firing for healer",
        ),
        *("alertmanager", *("route" for _ in ROUTED_ALERTS), "people", "leads to", "inhibition", "silence"),
    ]


FIRING = [("PgSlotStalled", ["1f2e", "3a4b"]), ("PgSlotLost", ["9c9c"]), ("PgSlotWatchdog", ["1f2e"])]


HEALER_FAULTS: list[Fault] = [
    (
        "nobody listens",
        broken(HEALER, requests.ConnectionError(OSError(111, "Connection refused"))),
        [
            ("healer", HEALER, "failed", ""),
            ("clusters", HEALER, "skipped", "did not answer"),
            ("in force", HEALER, "skipped", "did not answer"),
            ("webhooks", HEALER, "skipped", "did not answer"),
            ("leads to", "receiver healer", "skipped", "there is no healer"),
        ],
    ),
    (
        "another program",
        metric("pgslot_heal", None),
        [
            ("healer", HEALER, "failed", "those of another program"),
            ("clusters", HEALER, "skipped", "did not answer"),
            ("in force", HEALER, "skipped", "did not answer"),
            ("webhooks", HEALER, "skipped", "did not answer"),
            ("leads to", "receiver healer", "skipped", "there is no healer"),
        ],
    ),
    ("shutting down", setting(ready=(503, "Shutting down.")), [("healer", HEALER, "failed", "Shutting down")]),
    (
        "a reload that failed",
        metric("pgslot_config_last_reload_successful", 0.0),
        [("healer", HEALER, "failed", "the last reload of its configuration failed")],
    ),
    (
        "another version",
        both(metric("pgslot_build_info", None), metric('pgslot_build_info{version="9"}', 1.0)),
        [("healer", HEALER, "warning", "version 9, but this doctor has version")],
    ),
    (
        "another configuration",
        metric("pgslot_heal_episode_active", None),
        [("clusters", HEALER, "failed", "does not know c")],
    ),
    (
        "another token",
        setting(token="other"),
        [("webhooks", HEALER, "failed", "refused with 401, although the token was sent")],
    ),
    ("no token in force", setting(token=None), [("webhooks", HEALER, "failed", "accepted without the token")]),
    ("no token at all", without_token, [("webhooks", HEALER, "warning", "accepted from any client that reaches it")]),
    (
        "users, and none of them given",
        both(without_token, setting(token="a user's")),
        [("webhooks", HEALER, "skipped", "refused without a user")],
    ),
    ("an unreadable token", without_secret_file, [("webhooks", HEALER, "skipped", "token cannot be read")]),
    (
        "webhooks that are refused",
        broken(f"{HEALER}/alerts", 503),
        [("webhooks", HEALER, "failed", "refused with 503: text of the answer")],
    ),
    (
        "silence for an hour",
        lambda monitoring: monitoring.metrics.update(
            {"pgslot_heal_last_webhook_timestamp_seconds": time.time() - 3600}
        ),
        [("arrivals", HEALER, "warning", "no webhook for 60 minutes")],
    ),
    (
        "an older healer",
        metric("pgslot_heal_last_webhook_timestamp_seconds", None),
        [("arrivals", HEALER, "skipped", "does not report")],
    ),
]

PROMETHEUS_FAULTS: list[Fault] = [
    (
        "an error",
        broken(f"{PROMETHEUS}/api/v1/targets", 500),
        [("prometheus", PROMETHEUS, "failed", "expected status 200, found 500: broken")],
    ),
    (
        "another program",
        broken(f"{PROMETHEUS}/api/v1/targets", "<html>"),
        [("prometheus", PROMETHEUS, "failed", "expected JSON, found '<html>'")],
    ),
    (
        "another API",
        broken(f"{PROMETHEUS}/api/v1/targets", "[]"),
        [("prometheus", PROMETHEUS, "failed", "its answer does not match Prometheus' API")],
    ),
    (
        "no target",
        lambda monitoring: monitoring.targets.pop(),
        [("healer target", "pgslot-healer", "failed", "Prometheus has no such target")],
    ),
    (
        "a target that is down",
        lambda monitoring: monitoring.targets[0].update(health="down", lastError="connection refused"),
        [("exporter target", "pgslot-exporter", "failed", "pgslot-exporter/metrics is down: connection refused")],
    ),
    (
        "targets that are new",
        both(lambda monitoring: [target.update(health="unknown") for target in monitoring.targets], setting(up=[])),
        [(f"{name} target", f"pgslot-{name}", "skipped", "not scraped yet: run") for name in ("exporter", "healer")]
        + [("nodes", PROMETHEUS, "skipped", "the exporter is not scraped yet: run doctor again in a minute")],
    ),
    (
        "a node that is not there",
        lambda monitoring: monitoring.up.pop(),
        [("nodes", PROMETHEUS, "failed", "pgslot_up for c/n2")],
    ),
    (
        "no rules",
        setting(rules=[]),
        [("rules", PROMETHEUS, "failed", "not loaded: all"), ("heal time", PROMETHEUS, "skipped", "unknown: ")],
    ),
    (
        "a rule that is missing",
        lambda monitoring: monitoring.rules.remove(monitoring.rule("PgSlotLost")),
        [("rules", PROMETHEUS, "failed", "not loaded: PgSlotLost")],
    ),
    (
        "a rule that was changed",
        lambda monitoring: monitoring.rule("PgSlotWalHeadroomLow").update(query="slot:pgslot_wal_headroom:ratio < 0.5"),
        [("rules", "PgSlotWalHeadroomLow", "warning", "the expression differs from the shipped rule: slot:pgslot_wal")],
    ),
    (
        "a rule that waits longer",
        lambda monitoring: monitoring.rule("PgSlotInactive").update(duration=7200),
        [("rules", "PgSlotInactive", "warning", "for 7200 s, shipped 1500 s")],
    ),
    (
        "a rule that keeps firing",
        lambda monitoring: monitoring.rule("PgSlotLost").update(keepFiringFor=600),
        [("rules", "PgSlotLost", "warning", "keep_firing_for 600 s, shipped 0 s")],
    ),
    (
        "a rule of another severity",
        lambda monitoring: monitoring.rule("PgSlotLost")["labels"].update(severity="info"),
        [("rules", "PgSlotLost", "warning", "label severity 'info', shipped 'critical'")],
    ),
    (
        "a rule without its summary",
        lambda monitoring: monitoring.rule("PgSlotLost")["annotations"].pop("summary"),
        [("rules", "PgSlotLost", "warning", "annotation summary None, shipped '")],
    ),
    (
        "a rule with other words",
        lambda monitoring: monitoring.rule("PgSlotLost")["annotations"].update(description="Call Ann."),
        [("rules", "PgSlotLost", "warning", "annotation description differs from the shipped rule")],
    ),
    (
        "a label of one's own",
        lambda monitoring: [rule["labels"].update(team="dba") for rule in monitoring.rules],
        [],
    ),
    (
        "a slow group",
        lambda monitoring: monitoring.intervals.update({"pgslot-creations": 60.0}),
        [
            ("rules", "group pgslot-creations", "warning", "evaluated every 60 s, shipped 2 s"),
            ("heal time", PROMETHEUS, "warning", "60 s"),
        ],
    ),
    (
        "a link to nowhere",
        lambda monitoring: monitoring.rule("PgSlotLost")["annotations"].update(runbook_url="https://wiki/slots"),
        [("rules", PROMETHEUS, "warning", "the runbook_url of PgSlotLost does not lead to its runbook")],
    ),
    (
        "links to two places",
        lambda monitoring: monitoring.rule("PgSlotLost")["annotations"].update(runbook_url="https://wiki/PgSlotLost"),
        [("rules", PROMETHEUS, "warning", "runbook links have several base URLs: ")],
    ),
    (
        "links to each reader's own machine",
        lambda monitoring: [
            rule["annotations"].update(runbook_url=f"{SHIPPED_BASE}/{rule['name']}")
            for rule in monitoring.rules
            if "runbook_url" in rule["annotations"]
        ],
        [("rules", PROMETHEUS, "warning", f"runbook links lead to {SHIPPED_BASE}")],
    ),
    (
        "labels that Prometheus has renamed",
        lambda monitoring: [
            series["metric"].update(
                cluster="kube", exported_cluster="c", exported_node=series["metric"].pop("node"), node="worker-1"
            )
            for series in monitoring.up
        ],
        [("nodes", PROMETHEUS, "failed", "pgslot_up for c/n1, c/n2: Prometheus has renamed its labels")],
    ),
    (
        "a Prometheus in its first seconds",
        lambda monitoring: (
            setting(targets=[], up=[], rules=[], alertmanagers=[])(monitoring),
            setting(prometheus_started=datetime.now(UTC).isoformat())(monitoring),
        ),
        [
            ("exporter target", "pgslot-exporter", "unknown", "not yet: Prometheus started 0 s ago"),
            ("healer target", "pgslot-healer", "unknown", "Prometheus has no such target"),
            ("nodes", PROMETHEUS, "unknown", "not yet: Prometheus started 0 s ago"),
            ("rules", PROMETHEUS, "unknown", "not yet: Prometheus started 0 s ago"),
            ("heal time", PROMETHEUS, "skipped", "unknown: "),
            ("alerting", PROMETHEUS, "unknown", "not yet: Prometheus started 0 s ago"),
        ],
    ),
    (
        "a rule that cannot be evaluated",
        lambda monitoring: monitoring.rule("PgSlotLost").update(health="err", lastError="many-to-many"),
        [("rules", "PgSlotLost", "failed", "cannot be evaluated: many-to-many")],
    ),
    (
        "a rule without the label",
        lambda monitoring: monitoring.rule("PgSlotStalled")["labels"].pop("heal"),
        [("rules", "PgSlotStalled", "failed", 'expected the label heal="log_standby_snapshot", found None')],
    ),
    ("no Alertmanager", setting(alertmanagers=[]), [("alerting", PROMETHEUS, "failed", "to no Alertmanager")]),
]

SILENCE = {
    "id": "1f2e",
    "status": {"state": "active"},
    "endsAt": "2026-12-01T00:00:00Z",
    "createdBy": "ann",
    "comment": "move\nof \x1b[31mservers",
    "matchers": [{"name": "cluster", "value": "c", "isRegex": False, "isEqual": True}],
}
PEOPLE = {"receiver": "people", "matchers": ['component="pgslot"']}


ALERTMANAGER_FAULTS: list[Fault] = [
    (
        "an error",
        broken(f"{ALERTMANAGER}/api/v2/status", 503),
        [("alertmanager", ALERTMANAGER, "failed", "expected status 200, found 503")],
    ),
    (
        "another program",
        broken(f"{ALERTMANAGER}/api/v2/status", "{}"),
        [("alertmanager", ALERTMANAGER, "failed", "does not match Alertmanager's API")],
    ),
    (
        "no route for what heals",
        lambda monitoring: monitoring.routing["route"]["routes"].pop(0),
        [
            ("route", name, "failed", f"in /alerts; for c/n1, it goes only to {whom}; for c/n2, it goes only to {whom}")
            for name in HEAL_ALERTS
            for whom in ["nobody" if name == "PgSlotCreationWaiting" else "people"]
        ],
    ),
    (
        "no route for the heartbeat",
        lambda monitoring: monitoring.routing["route"]["routes"].pop(1),
        [("route", "PgSlotWatchdog", "failed", "in /alerts; it goes only to people")],
    ),
    (
        "a route before that takes it",
        lambda monitoring: monitoring.routing["route"]["routes"].insert(
            0, {**PEOPLE, "matchers": ['alertname="PgSlotStalled"']}
        ),
        [("route", "PgSlotStalled", "failed", "for c/n1, it goes only to people; for c/n2, it goes only to people")],
    ),
    (
        "one node that goes elsewhere",
        lambda monitoring: monitoring.routing["route"]["routes"].insert(
            0, {"receiver": "people", "matchers": ['node="n2"', 'alertname="PgSlotStalled"']}
        ),
        [("route", "PgSlotStalled", "failed", "in /alerts; for c/n2, it goes only to people")],
    ),
    (
        "a webhook to something else",
        lambda monitoring: monitoring.webhook.update(url="http://healer:9878/webhook"),
        [("route", name, "failed", "only to healer") for name in ROUTED_ALERTS],
    ),
    (
        "a group that swallows alerts",
        lambda monitoring: monitoring.heal_route.update(group_by=["cluster"]),
        [("pace", "route to healer", "warning", "group_by cluster: the next alert of a group waits up to 5 s")],
    ),
    (
        "a slow route",
        lambda monitoring: monitoring.heal_route.update(group_wait="1m", group_interval="5m", repeat_interval="4h"),
        [
            ("pace", "route to healer", "warning", "group_wait 60 s"),
            ("pace", "route to healer", "warning", "group_interval 300 s"),
            ("pace", "route to healer", "warning", "repeat_interval 14400 s"),
        ],
    ),
    (
        "a route with time intervals",
        lambda monitoring: monitoring.heal_route.update(mute_time_intervals=["nights"]),
        [("pace", "route to healer", "warning", "nothing is sent at some times: nights")],
    ),
    (
        "a slow heartbeat",
        lambda monitoring: monitoring.routing["route"]["routes"][1].update(repeat_interval="1h"),
        [("pace", "route to healer", "warning", "the heartbeat comes every 3600 s")],
    ),
    (
        "a webhook without the token",
        lambda monitoring: monitoring.webhook.pop("http_config"),
        [("webhook", "receiver healer", "failed", "sends no token")],
    ),
    (
        "ends that are not sent",
        lambda monitoring: monitoring.webhook.update(send_resolved=False),
        [("webhook", "receiver healer", "warning", "send_resolved: false")],
    ),
    (
        "alerts that are cut off",
        lambda monitoring: monitoring.webhook.update(max_alerts=10),
        [("webhook", "receiver healer", "warning", "max_alerts 10")],
    ),
    ("another name of this healer", moved("http://alias:1/alerts", another_healer(STARTED)), []),
    (
        "another healer",
        moved("http://other:1/alerts", another_healer(STARTED + 1)),
        [("leads to", "receiver healer", "failed", f"does not lead to {HEALER}, but to http://other:1")],
    ),
    (
        "no healer",
        moved("http://other:1/alerts", "something_else 1\n"),
        [("leads to", "receiver healer", "failed", "http://other:1 (no healer)")],
    ),
    (
        "a name that only Alertmanager knows",
        moved("http://inside:1/alerts", requests.ConnectTimeout()),
        [("leads to", "receiver healer", "unknown", "http://inside:1 cannot be queried from here (no connection")],
    ),
    (
        "a pattern of Go's",
        lambda monitoring: monitoring.routing["route"]["routes"].insert(
            0, PEOPLE | {"matchers": [r'cluster=~"\\pL+"']}
        ),
        [("route", "", "skipped", "cannot be evaluated here: the pattern")],
    ),
    (
        "an inhibit rule that keeps alerts from the healer",
        lambda monitoring: monitoring.routing["inhibit_rules"].append(
            {
                "source_matchers": ['alertname="PgSlotTargetDown"'],
                "target_matchers": ['alertname="PgSlotStalled"', 'slot_name="orders"'],
                "equal": ["cluster"],
            }
        ),
        [
            (
                "inhibition",
                ALERTMANAGER,
                "warning",
                'PgSlotStalled from the healer while an alert with alertname="PgSlotTargetDown" fires',
            )
        ],
    ),
    (
        "an inhibit rule of the old form, for all alerts with a severity",
        lambda monitoring: monitoring.routing["inhibit_rules"].append(
            {"source_match": {"severity": "critical"}, "target_match_re": {"heal": "log.*"}, "equal": ["cluster"]}
        ),
        [("inhibition", ALERTMANAGER, "warning", f"keeps {', '.join(HEAL_ALERTS)} from the healer")],
    ),
    (
        "a silence",
        setting(silences=[SILENCE]),
        [("silence", "1f2e", "warning", f"{', '.join(HEAL_ALERTS)}: active until")],
    ),
    (
        "a silence for one slot, to come",
        setting(
            silences=[
                SILENCE
                | {
                    "status": {"state": "pending"},
                    "matchers": [
                        {"name": "slot_name", "value": "s", "isRegex": False, "isEqual": True},
                        {"name": "alertname", "value": "PgSlotSt.*", "isRegex": True},
                    ],
                }
            ]
        ),
        [("silence", "1f2e", "warning", "PgSlotStalled: pending until 2026-12-01T00:00:00Z, by ann: move")],
    ),
    ("a silence that has ended", setting(silences=[SILENCE | {"status": {"state": "expired"}}]), []),
    (
        "a silence of something else",
        setting(silences=[SILENCE | {"matchers": [SILENCE["matchers"][0] | {"isEqual": False}]}]),  # type: ignore[index]
        [("silence", "1f2e", "warning", "PgSlotWatchdog: active")],
    ),
    ("a silence without matchers", setting(silences=[SILENCE | {"matchers": None}]), []),
    (
        "silences that it cannot list",
        both(broken(f"{ALERTMANAGER}/api/v2/silences", 500), setting(firing=FIRING)),
        [
            ("silence", ALERTMANAGER, "unknown", "silences cannot be listed; only alerts that fire now can be checked"),
            ("silence", "1f2e", "warning", "PgSlotStalled, PgSlotWatchdog: active now"),
            ("silence", "3a4b", "warning", "PgSlotStalled: active now"),
        ],
    ),
]

FAULTS = [
    pytest.param(change, expected, id=f"{where}: {name}")
    for where, faults in (("healer", HEALER_FAULTS), ("prometheus", PROMETHEUS_FAULTS), ("am", ALERTMANAGER_FAULTS))
    for name, change, expected in faults
]


@pytest.mark.parametrize(("change", "expected"), FAULTS)
def test_fault_is_named_and_nothing_else(monitoring: FakeMonitoring, change: Change, expected: Expected) -> None:
    assert_named(monitoring, change, expected)


def test_rules_are_compared_as_prometheus_formats_them(monitoring: FakeMonitoring) -> None:
    shipped = " ".join(monitoring.rule("PgSlotWalHeadroomLow")["query"].split())
    monitoring.rule("PgSlotWalHeadroomLow")["query"] = f"({shipped})"
    monitoring.formatted = {f"({shipped})": shipped}
    assert notable(monitoring.examine()) == []


def test_label_that_was_added_to_the_rules_is_named(monitoring: FakeMonitoring) -> None:
    monitoring.rule("PgSlotLost")["labels"]["team"] = "dba"
    [finding] = [finding for finding in monitoring.examine() if finding.check == "rules"]
    assert finding.status == "ok"
    assert finding.found.endswith("are loaded, as shipped, with more labels: team")


def test_external_labels_take_part_in_routing(monitoring: FakeMonitoring) -> None:
    monitoring.routing["route"]["routes"].insert(0, {"receiver": "people", "matchers": ['dc="north"']})
    assert notable(monitoring.examine()) == []
    monitoring.external_labels = {"dc": "north"}
    assert {finding[0] for finding in notable(monitoring.examine())} == {"route"}


def test_firing_alerts_for_the_healer_are_named(monitoring: FakeMonitoring) -> None:
    heal = {"heal": "log_standby_snapshot", "alertname": "PgSlotStalled", "cluster": "c", "node": "n1"}
    monitoring.alerts = [{"state": "firing", "labels": heal | {"slot_name": f"s{i}"}} for i in range(7)]
    monitoring.alerts.append({"state": "pending", "labels": heal})
    monitoring.alerts.append({"state": "firing", "labels": {"alertname": "PgSlotLost"}})
    [finding] = [finding for finding in monitoring.examine() if finding.check == "firing for healer"]
    assert finding.found.startswith("c/n1/s0 PgSlotStalled, ")
    assert finding.found.endswith("c/n1/s4 PgSlotStalled and 2 more")


def test_secrets_in_urls_are_not_shown(monitoring: FakeMonitoring) -> None:
    """Neither of our own URLs nor of those in Alertmanager's configuration."""
    monitoring.webhook["url"] = "http://user:s3cr3t@elsewhere:1/alerts?token=s3cr3t"
    monitoring.elsewhere = {"http://elsewhere:1": "x 1\n"}
    monitoring.healer_url = "http://user:s3cr3t@healer:9878"
    findings = monitoring.examine()
    assert "s3cr3t" not in "".join(f"{finding.subject} {finding.found} {finding.advice}" for finding in findings)
    assert [finding.subject for finding in findings if finding.check == "healer"] == [HEALER]
