"""`doctor --test-alert`: which alerts are sent, and what their arrival, or its absence, proves."""

from collections.abc import Callable
from typing import Any

import pytest
import requests

from healer.doctor.checks import alert_delivery
from healer.doctor.checks.alert_delivery import judge_delivery, plan_tests
from healer.doctor.checks.routing import parse_route
from healer.webhook.payload import TEST_LABEL
from tests.support.builders.receivers import CHAT, SECRET, receiver
from tests.support.fakes.monitoring import FakeMonitoring, notable
from tests.support.fakes.monitoring_faults import (
    HEAL_ALERTS,
    ROUTED_ALERTS,
    add_people_webhook,
    hide_urls,
    webhook_arrived,
)

ROUTE: dict[str, Any] = {
    "receiver": "people",
    "routes": [
        {"matchers": ['heal="x"'], "receiver": "a", "group_by": ["..."], "group_wait": "2s", "continue": True},
        {"matchers": ['heal="x"', 'node="n2"'], "receiver": "b", "group_by": ["node"], "continue": True},
        {"matchers": ['heal="x"'], "receiver": "c", "group_by": ["..."], "mute_time_intervals": ["nights"]},
        {"matchers": ['beat="x"'], "receiver": "d", "group_by": ["..."], "group_wait": "1m"},
    ],
}


def test_each_receiver_that_may_be_the_healers_gets_one_alert() -> None:
    receivers = {name: receiver(SECRET) for name in ("a", "b", "c", "d")} | {"people": receiver(CHAT)}
    first, second, beat = {"heal": "x", "node": "n1"}, {"heal": "x", "node": "n2"}, {"beat": "x"}
    mark = {TEST_LABEL: "m"}
    plan = plan_tests(parse_route(ROUTE), [first, second, beat], receivers, "m", 0)
    assert list(plan.tests) == [
        alert_delivery.TestAlert("a", first | mark, 2.0 + alert_delivery.DELIVERY_SECONDS),
        # It may wait in a group, at other times be muted, or longer than the doctor waits.
        alert_delivery.TestAlert("c", first | mark, None),
        alert_delivery.TestAlert("b", second | mark, None),
        alert_delivery.TestAlert("d", beat | mark, None),
    ]
    # The second of a cluster waits for the first, and the third for both.
    assert (
        plan_tests(parse_route(ROUTE), [first], receivers, "m", 3).tests[0].due
        == 32.0 + alert_delivery.DELIVERY_SECONDS
    )


def test_one_proven_receiver_for_each_alert_is_enough() -> None:
    receivers = {name: receiver(SECRET) for name in ("a", "b", "c", "d")} | {"people": receiver(CHAT)}
    alerts = [{"heal": "x", "node": "n1"}, {"heal": "x", "node": "n2"}, {"beat": "x"}, {"other": "x"}]
    plan = plan_tests(parse_route(ROUTE), alerts, receivers, "m", 0)
    assert plan.receiver_sets == {frozenset("ac"), frozenset("abc"), frozenset("d")}

    def pending(*arrived: str) -> str:
        return "".join(test.receiver for test in plan.pending(arrived))

    assert (pending(), pending("a"), pending("b"), pending("d"), pending("c", "d")) == ("acbd", "d", "acd", "acb", "")


TEST = alert_delivery.TestAlert("r", {}, 12.0)
JUDGED = [
    (TEST, 0.34, 1.0, None, True, "within 0.3 s"),
    (TEST, None, 12.1, None, False, "no test alert arrived through it within 12 s"),
    (TEST, None, 11.0, None, None, "no test alert had arrived"),
    (TEST, None, 12.1, "silencedBy 1f2e", None, "suppresses the test alert (silencedBy 1f2e)"),
    (alert_delivery.TestAlert("r", {}, None), None, 60.0, None, None, "may wait in its group"),
]


@pytest.mark.parametrize(("arguments", "delivered", "text"), [(case[:4], *case[4:]) for case in JUDGED])
def test_evidence_of_a_test_alert(
    arguments: tuple[alert_delivery.TestAlert, float | None, float, str | None], delivered: bool | None, text: str
) -> None:
    evidence = judge_delivery(*arguments)
    assert evidence.delivered is delivered
    assert text in evidence.text


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """An alert that does not arrive at once does not arrive."""
    for name, seconds in (("DELIVERY_SECONDS", 0.2), ("POLL_SECONDS", 0.01)):
        monkeypatch.setattr(alert_delivery, name, seconds)


def test_alert_that_arrives_proves_the_receiver(monitoring: FakeMonitoring) -> None:
    hide_urls(monitoring)
    monitoring.test_arrives_by = {"healer"}
    findings = monitoring.examine(test_alert=True)
    assert notable(findings) == []
    [finding] = [finding for finding in findings if finding.check == "leads to"]
    assert "a test alert arrived through it" in finding.found


def test_alert_is_marked_and_ended(monitoring: FakeMonitoring) -> None:
    hide_urls(monitoring)
    monitoring.test_arrives_by = {"healer"}
    monitoring.examine(test_alert=True)
    sent, ended = monitoring.tests
    assert "endsAt" not in sent
    assert "endsAt" in ended
    assert sent["labels"] == ended["labels"]
    assert sent["labels"][TEST_LABEL]
    assert "nothing is wrong" in sent["annotations"]["summary"]
    assert sent["labels"]["heal"] == "log_standby_snapshot"
    first = sent["labels"][TEST_LABEL]
    monitoring.examine(test_alert=True)
    assert monitoring.tests[-1]["labels"][TEST_LABEL] != first


def test_route_to_another_receiver_is_disproved(monitoring: FakeMonitoring) -> None:
    """The heartbeat's route leads to the healer; that of the alerts that heal does not."""
    hide_urls(monitoring)
    add_people_webhook(monitoring)
    monitoring.heal_route["receiver"] = "people"
    monitoring.heal_route.pop("continue")
    monitoring.test_arrives_by = {"healer"}
    findings = notable(monitoring.examine(test_alert=True))
    assert [finding[:3] for finding in findings] == [("route", name, "failed") for name in HEAL_ALERTS]
    assert "for c/n1, it goes only to people (no test alert arrived through it" in findings[0][3]


def test_test_alert_outweighs_an_earlier_webhook(monitoring: FakeMonitoring) -> None:
    hide_urls(monitoring)
    webhook_arrived("healer")(monitoring)
    findings = notable(monitoring.examine(test_alert=True))
    assert [finding[:3] for finding in findings] == [("route", name, "failed") for name in ROUTED_ALERTS]


def test_alert_that_alertmanager_holds_back_proves_nothing(monitoring: FakeMonitoring) -> None:
    hide_urls(monitoring)
    monitoring.held = {"silencedBy": ["1f2e"]}
    findings = notable(monitoring.examine(test_alert=True))
    assert {finding[2] for finding in findings} == {"unknown"}
    assert "suppresses the test alert (silencedBy 1f2e)" in findings[-1][3]


def without_the_action(monitoring: FakeMonitoring) -> None:
    del monitoring.metrics['pgslot_heal_alerts_total{action="ignored_test"}']


def without_routes(monitoring: FakeMonitoring) -> None:
    del monitoring.routing["route"]["routes"]


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        (without_the_action, "skipped", "this healer is older"),
        (
            lambda monitoring: monitoring.broken.update(
                {"http://healer:9878": requests.ConnectionError(OSError(111, "refused"))}
            ),
            "skipped",
            "no healer",
        ),
        (without_routes, "skipped", "no route leads to a webhook"),
        (lambda monitoring: monitoring.broken.update({"test alert": "no thanks"}), "failed", "found 400: no thanks"),
    ],
)
def test_alert_is_not_sent(
    monitoring: FakeMonitoring, change: Callable[[FakeMonitoring], object], status: str, text: str
) -> None:
    hide_urls(monitoring)
    change(monitoring)
    [finding] = [finding for finding in notable(monitoring.examine(test_alert=True)) if finding[0] == "test alert"]
    assert finding[2] == status
    assert text in finding[3]
    assert monitoring.tests == []
