"""`doctor --test-alert`: which alerts are sent, and what it proves that they arrive, or do not."""

from collections.abc import Callable
from typing import Any

import pytest
import requests

from healer.doctor.checks import test_alert as testalert
from healer.doctor.checks.routing import parse_route
from healer.doctor.checks.test_alert import TestAlert, judge, plan
from healer.webhook.body import TEST_LABEL
from tests.healer.doctor.test_canned_faults import HEALED, HEARD
from tests.healer.doctor.test_receivers import CHAT, SECRET, heard, hidden, people_have_a_webhook, receiver
from tests.support.fakes.monitoring import World, notable

ROUTE: dict[str, Any] = {
    "receiver": "people",
    "routes": [
        {"matchers": ['heal="x"'], "receiver": "a", "group_by": ["..."], "group_wait": "2s", "continue": True},
        {"matchers": ['heal="x"', 'node="n2"'], "receiver": "b", "group_by": ["node"], "continue": True},
        {"matchers": ['heal="x"'], "receiver": "c", "group_by": ["..."], "mute_time_intervals": ["nights"]},
        {"matchers": ['beat="x"'], "receiver": "d", "group_by": ["..."], "group_wait": "1m"},
    ],
}


def test_one_alert_for_each_receiver_that_may_be_the_healer_s() -> None:
    receivers = {name: receiver(SECRET) for name in ("a", "b", "c", "d")} | {"people": receiver(CHAT)}
    first, second, beat = {"heal": "x", "node": "n1"}, {"heal": "x", "node": "n2"}, {"beat": "x"}
    mark = {TEST_LABEL: "m"}
    found = plan(parse_route(ROUTE), [first, second, beat], receivers, "m", 0)
    assert list(found.tests) == [
        TestAlert("a", first | mark, 2.0 + testalert.DELIVERY),
        # It may wait in a group, at other times be muted, or longer than the doctor waits.
        TestAlert("c", first | mark, None),
        TestAlert("b", second | mark, None),
        TestAlert("d", beat | mark, None),
    ]
    # The second of a cluster waits for the first, and the third for both.
    assert plan(parse_route(ROUTE), [first], receivers, "m", 3).tests[0].due == 32.0 + testalert.DELIVERY


def test_one_proof_for_each_alert_is_enough() -> None:
    receivers = {name: receiver(SECRET) for name in ("a", "b", "c", "d")} | {"people": receiver(CHAT)}
    alerts = [{"heal": "x", "node": "n1"}, {"heal": "x", "node": "n2"}, {"beat": "x"}, {"other": "x"}]
    found = plan(parse_route(ROUTE), alerts, receivers, "m", 0)
    assert found.receiver_sets == {frozenset("ac"), frozenset("abc"), frozenset("d")}

    def left(*arrived: str) -> str:
        return "".join(trial.receiver for trial in found.open_after(arrived))

    assert (left(), left("a"), left("b"), left("d"), left("c", "d")) == ("acbd", "d", "acd", "acb", "")


TEST = TestAlert("r", {}, 12.0)
JUDGED = [
    (TEST, 0.34, 1.0, None, True, "within 0.3 s"),
    (TEST, None, 12.1, None, False, "did not come through it within 12 s"),
    (TEST, None, 11.0, None, None, "had not come"),
    (TEST, None, 12.1, "silencedBy 1f2e", None, "holds the test alert back (silencedBy 1f2e)"),
    (TestAlert("r", {}, None), None, 60.0, None, None, "may wait in its group"),
]


@pytest.mark.parametrize(("known", "arrives", "text"), [(case[:4], *case[4:]) for case in JUDGED])
def test_what_a_test_proves(
    known: tuple[TestAlert, float | None, float, str | None], arrives: bool | None, text: str
) -> None:
    evidence = judge(*known)
    assert evidence.delivered is arrives
    assert text in evidence.text


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not arrive at once does not arrive."""
    for name, seconds in (("DELIVERY", 0.2), ("PACE", 0.01)):
        monkeypatch.setattr(testalert, name, seconds)


def test_it_arrives(world: World) -> None:
    hidden(world)
    world.test_arrives_by = {"healer"}
    findings = world.examine(test_alert=True)
    assert notable(findings) == []
    [finding] = [each for each in findings if each.check == "leads to"]
    assert "a test alert came through it" in finding.found


def test_what_is_sent_is_marked_and_ended(world: World) -> None:
    hidden(world)
    world.test_arrives_by = {"healer"}
    world.examine(test_alert=True)
    sent, ended = world.tests
    assert "endsAt" not in sent
    assert "endsAt" in ended
    assert sent["labels"] == ended["labels"]
    assert sent["labels"][TEST_LABEL]
    assert "nothing is wrong" in sent["annotations"]["summary"]
    assert sent["labels"]["heal"] == "log_standby_snapshot"
    first = sent["labels"][TEST_LABEL]
    world.examine(test_alert=True)
    assert world.tests[-1]["labels"][TEST_LABEL] != first


def test_what_leads_to_somebody_else_is_found_out(world: World) -> None:
    """The heartbeat's route is the healer's, and that of what heals is not."""
    hidden(world)
    people_have_a_webhook(world)
    world.heal_route["receiver"] = "people"
    world.heal_route.pop("continue")
    world.test_arrives_by = {"healer"}
    found = notable(world.examine(test_alert=True))
    assert [each[:3] for each in found] == [("route", name, "failed") for name in HEALED]
    assert "c/n1 only to people (a test alert did not come through it" in found[0][3]


def test_a_receiver_that_heard_earlier_and_no_more(world: World) -> None:
    """What happens now counts."""
    hidden(world)
    heard("healer")(world)
    found = notable(world.examine(test_alert=True))
    assert [each[:3] for each in found] == [("route", name, "failed") for name in HEARD]


def test_one_that_is_held_back_proves_nothing(world: World) -> None:
    hidden(world)
    world.held = {"silencedBy": ["1f2e"]}
    found = notable(world.examine(test_alert=True))
    assert {each[2] for each in found} == {"unknown"}
    assert "holds the test alert back (silencedBy 1f2e)" in found[-1][3]


def without_the_action(world: World) -> None:
    del world.metrics['pgslot_heal_alerts_total{action="ignored_test"}']


def without_routes(world: World) -> None:
    del world.routing["route"]["routes"]


@pytest.mark.parametrize(
    ("change", "status", "text"),
    [
        (without_the_action, "skipped", "this healer is older"),
        (
            lambda world: world.broken.update(
                {"http://healer:9878": requests.ConnectionError(OSError(111, "refused"))}
            ),
            "skipped",
            "no healer",
        ),
        (without_routes, "skipped", "no route leads to a webhook"),
        (lambda world: world.broken.update({"test alert": "no thanks"}), "failed", "found 400: no thanks"),
    ],
)
def test_when_it_is_not_sent(world: World, change: Callable[[World], object], status: str, text: str) -> None:
    hidden(world)
    change(world)
    [finding] = [each for each in notable(world.examine(test_alert=True)) if each[0] == "test alert"]
    assert finding[2] == status
    assert text in finding[3]
    assert world.tests == []
