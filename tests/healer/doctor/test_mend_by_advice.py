"""Each fault by which nobody would hear, or the healer would not: break it, read the doctor, do what it says, green."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from healer.doctor.checks import alert_delivery
from tests.support.fakes.monitoring import ALERTMANAGER, PROMETHEUS, FakeMonitoring, notable
from tests.support.fakes.monitoring_faults import HEAL_ALERTS, ROUTED_ALERTS, hide_urls

Change = Callable[[FakeMonitoring], object]


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test alert that does not arrive at once does not arrive."""
    for name, seconds in (("DELIVERY_SECONDS", 0.2), ("POLL_SECONDS", 0.01)):
        monkeypatch.setattr(alert_delivery, name, seconds)


def interval(monitoring: FakeMonitoring, kind: str, **part: Any) -> None:
    """Let the routes to people send nothing at some times (kind: mute), or only at some (kind: active)."""
    monitoring.routing["time_intervals"] = [{"name": "odd", "time_intervals": [part]}]
    for route in monitoring.routing["route"]["routes"]:
        if route["receiver"] == "people":
            route[f"{kind}_time_intervals"] = ["odd"]


def without_interval(monitoring: FakeMonitoring) -> None:
    for route in monitoring.routing["route"]["routes"]:
        route.pop("mute_time_intervals", None)
        route.pop("active_time_intervals", None)


def refused(monitoring: FakeMonitoring) -> None:
    monitoring.test_is_refused = True


def accepted(monitoring: FakeMonitoring) -> None:
    monitoring.test_is_refused = False
    monitoring.test_arrives_by = {"healer"}


def renamed(monitoring: FakeMonitoring) -> None:
    for series in monitoring.up:
        labels = series["metric"]
        labels |= {"exported_cluster": labels.pop("cluster"), "exported_node": labels.pop("node"), "cluster": "kube"}


def not_renamed(monitoring: FakeMonitoring) -> None:
    for series in monitoring.up:
        labels = series["metric"]
        labels |= {"cluster": labels.pop("exported_cluster"), "node": labels.pop("exported_node")}


class Words(NamedTuple):
    """What the doctor says about a fault."""

    check: str
    found: str
    advice: str
    """Its beginning."""


WATCHDOG_INHIBITS = {"source_matchers": ['alertname="Watchdog"'], "target_matchers": ['component="pgslot"', 'heal=""']}

CASES: dict[str, tuple[Change, Words, Change]] = {
    "alerts reach only the healer": (
        lambda monitoring: monitoring.heal_route.update({"continue": False}),
        Words(
            "people",
            "no person is notified: it reaches only the healer (receiver healer)",
            "Set continue: true on the route to receiver healer, and add a route to people after it.",
        ),
        lambda monitoring: monitoring.heal_route.update({"continue": True}),
    ),
    "the receiver has no integration": (
        lambda monitoring: monitoring.receiver("people").pop("email_configs"),
        Words(
            "people",
            "no person is notified: receiver people has no integration, and sends nothing",
            "Give receiver people an integration, such as email_configs",
        ),
        lambda monitoring: monitoring.receiver("people").update(slack_configs=[{"channel": "#dba"}]),
    ),
    "the route is muted at all times": (
        lambda monitoring: interval(monitoring, "mute", weekdays=["sunday:saturday"]),
        Words(
            "people",
            "no person is notified: the route to people is muted at all times",
            "Remove the time interval from the route to receiver people",
        ),
        without_interval,
    ),
    "the route was active until last year": (
        lambda monitoring: interval(monitoring, "active", years=["2020:2021"]),
        Words(
            "people",
            "no person is notified: the route to people is muted at all times",
            "Remove the time interval from the route to receiver people",
        ),
        without_interval,
    ),
    "an alert that always fires inhibits it": (
        lambda monitoring: (
            monitoring.always_firing.update(alertname="Watchdog", severity="none"),
            monitoring.routing["inhibit_rules"].append(WATCHDOG_INHIBITS),
        ),
        Words(
            "people",
            "no person is notified: it is inhibited by Watchdog, which always fires",
            "Narrow the inhibit_rules whose source matches Watchdog",
        ),
        lambda monitoring: monitoring.routing["inhibit_rules"].remove(WATCHDOG_INHIBITS),
    ),
    "the heartbeat has no route": (
        lambda monitoring: monitoring.routing["route"]["routes"].pop(1),
        Words(
            "route",
            "does not reach a webhook whose URL ends in /alerts; it goes only to people",
            "Add, before other routes, a route to receiver healer with matchers: ['heartbeat=\"pgslot-healer\"']",
        ),
        lambda monitoring: monitoring.routing["route"]["routes"].insert(
            0,
            {"receiver": "healer", "matchers": ['heartbeat="pgslot-healer"'], "repeat_interval": "5m"}
            | {"group_by": ["..."], "group_wait": "0s", "group_interval": "1m"},
        ),
    ),
    "labels are renamed": (
        renamed,
        Words(
            "nodes",
            "no series pgslot_up for c/n1, c/n2: Prometheus has renamed its labels to exported_cluster",
            "Set honor_labels: true in each scrape job of the exporter and the healer",
        ),
        not_renamed,
    ),
    "a rule waits longer": (
        lambda monitoring: monitoring.rule("PgSlotInactive").update(duration=7200),
        Words(
            "rules",
            "for 7200 s, shipped 1500 s",
            "Fine if it was changed on purpose. Load the output of `pg-slot-exporter rules`",
        ),
        lambda monitoring: monitoring.rule("PgSlotInactive").update(duration=1500),
    ),
    "the fast group is slow": (
        lambda monitoring: monitoring.intervals.update({"pgslot-creations": 10.0}),
        Words(
            "rules",
            "evaluated every 10 s, shipped 2 s: its alerts come later",
            "Set interval: 2s in this group",
        ),
        lambda monitoring: monitoring.intervals.update({"pgslot-creations": 2.0}),
    ),
}


@pytest.mark.parametrize(("destroy", "words", "mend"), CASES.values(), ids=CASES.keys())
def test_fault_is_mended_by_the_doctors_words_alone(
    monitoring: FakeMonitoring, destroy: Change, words: Words, mend: Change
) -> None:
    destroy(monitoring)
    findings = [finding for finding in monitoring.examine() if finding.status != "ok"]
    assert {finding.check for finding in findings} == {words.check}
    assert {finding.found for finding in findings} == {words.found}
    assert all(finding.advice.startswith(words.advice) for finding in findings), findings[0].advice
    mend(monitoring)
    assert notable(monitoring.examine()) == []


def test_webhook_that_is_refused_is_reported_as_that_and_mended_by_its_token(monitoring: FakeMonitoring) -> None:
    refused(monitoring)
    monitoring.alertmanager_counters = {
        "alertmanager_notifications_total": 9.0,
        "alertmanager_notifications_failed_total": 4.0,
    }
    monitoring.metrics['pgslot_heal_webhooks_total{code="401"}'] = 2.0
    [quiet] = [finding for finding in monitoring.examine() if finding.status != "ok"]
    assert (quiet.check, quiet.subject) == ("notifications", ALERTMANAGER)
    assert quiet.found.startswith("4 of 9 webhooks have failed since Alertmanager's start")
    assert "refused 2 with 401" in quiet.found
    assert "--test-alert" in quiet.advice
    findings = [finding for finding in monitoring.examine(test_alert=True) if finding.check == "route"]
    assert [finding.subject for finding in findings] == ROUTED_ALERTS
    for finding in findings:
        assert finding.found == "arrives, but this healer refuses it with 401: receiver healer"
        assert finding.advice.startswith("Put the content of the healer's webhook_token_file into the file that")
    accepted(monitoring)
    assert notable(monitoring.examine(test_alert=True)) == []


def test_webhook_that_leads_nowhere_is_mended_by_its_url(monitoring: FakeMonitoring) -> None:
    """No receiver and no route is missing: no advice to add them."""
    hide_urls(monitoring)
    findings = [finding for finding in monitoring.examine(test_alert=True) if finding.check == "route"]
    assert {finding.advice.partition(":")[0] for finding in findings} == {
        "Correct the url of the webhook of receiver healer"
    }
    accepted(monitoring)
    assert notable(monitoring.examine(test_alert=True)) == []


def test_route_that_is_missing_is_advised_with_the_matcher_of_the_alert(monitoring: FakeMonitoring) -> None:
    del monitoring.routing["route"]["routes"][:2]
    advice = {finding.subject: finding.advice for finding in monitoring.examine() if finding.check == "route"}
    assert 'heartbeat="pgslot-healer"' in advice["PgSlotWatchdog"]
    assert "heal=" not in advice["PgSlotWatchdog"]
    for name in HEAL_ALERTS:
        assert 'heal=~"log_standby_snapshot|end_transaction"' in advice[name]
    monitoring.routing["receivers"] = [{"name": "people", "email_configs": [{}]}, {"name": "nobody"}]
    advice = {finding.subject: finding.advice for finding in monitoring.examine() if finding.check == "route"}
    assert all(text.startswith("Add a receiver with webhook_configs: [url: http://") for text in advice.values())


def test_alert_that_one_receiver_of_several_tells_people_is_heard(monitoring: FakeMonitoring) -> None:
    """The healer's receiver may send mail as well; a time interval of office hours is no silence for good."""
    monitoring.receiver("people").pop("email_configs")
    monitoring.receiver("healer")["email_configs"] = [{"to": "dba@example.com"}]
    [finding] = [finding for finding in monitoring.examine() if finding.check == "people"]
    # Only those that the healer's route carries are heard.
    assert finding.status == "warning"
    monitoring.heal_route["matchers"] = ['component="pgslot"']
    monitoring.heal_route["active_time_intervals"] = ["office"]
    monitoring.routing["time_intervals"] = [
        {"name": "office", "time_intervals": [{"weekdays": ["monday:friday"], "years": ["2020:2099"]}]}
    ]
    [finding] = [finding for finding in monitoring.examine() if finding.check == "people"]
    assert (finding.status, finding.found) == ("ok", "to receiver healer")


def test_alertmanager_that_does_not_list_alerts_leaves_people_unknown(monitoring: FakeMonitoring) -> None:
    monitoring.broken[f"{ALERTMANAGER}/api/v2/alerts"] = 500
    assert ("people", ALERTMANAGER, "unknown") in [finding[:3] for finding in notable(monitoring.examine())]


def test_prometheus_that_has_just_started_is_not_yet_judged(monitoring: FakeMonitoring) -> None:
    """After half a minute the same is a failure, with the advice."""
    monitoring.targets = []
    assert ("exporter target", "pgslot-exporter", "failed") in [
        finding[:3] for finding in notable(monitoring.examine())
    ]
    monitoring.broken[f"{PROMETHEUS}/api/v1/status/runtimeinfo"] = 404
    assert ("exporter target", "pgslot-exporter", "failed") in [
        finding[:3] for finding in notable(monitoring.examine())
    ]
