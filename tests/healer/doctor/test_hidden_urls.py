"""The doctor on an Alertmanager that may hide where its webhooks lead, with webhooks that are somebody else's."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.doctor import HEALED_ALERTS, all_scraped, bad, heard, hides_webhook_urls, routed
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import CLUSTER, PRIMARY_NODE, STANDBY_NODE, Stack

EVERYWHERE = f"{CLUSTER}/{PRIMARY_NODE} only to chat; {CLUSTER}/{STANDBY_NODE} only to chat"
LEAD = ("leads to", "receiver chat")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack() as stack:
        stack.start_databases()
        stack.start_exporter()
        stack.start_healer()
        stack.start_monitoring()
        wait_for(lambda: stack.prometheus.query("node:pgslot_wal_limit_bytes:max"), "rules are evaluated")
        wait_for(lambda: heard(stack), "the heartbeat has come", timeout=90)
        yield stack


def chat(stack: Stack, change: Callable[[list[dict[str, Any]]], object]) -> Callable[[Any], None]:
    """Have a receiver `chat`, grouped and limited as people want it; then change the routes."""

    def apply(data: Any) -> None:
        # Somebody listens there who takes any webhook, and is no healer.
        webhook = {"url": f"{stack.alertmanager.url}/api/v2/chat", "send_resolved": False, "max_alerts": 3}
        data["receivers"].append({"name": "chat", "webhook_configs": [webhook]})
        change(data["route"]["routes"])

    return apply


def test_somebody_else_s_webhook_gets_no_advice(stack: Stack) -> None:
    """The shipped configuration with one webhook more: for people, after the healer."""

    def people(routes: list[dict[str, Any]]) -> None:
        for route in routes:
            if route["receiver"] == "people":
                route |= {"receiver": "chat", "repeat_interval": "1d"}

    with routed(stack, chat(stack, people)):
        assert bad(stack, code=0) == {}


def test_a_route_that_leads_to_somebody_else_is_not_well(stack: Stack) -> None:
    """The heartbeat comes, and what heals goes to the chat."""

    def astray(routes: list[dict[str, Any]]) -> None:
        routes[0]["receiver"] = "chat"
        del routes[0]["continue"]

    with routed(stack, chat(stack, astray)):
        asked = bad(stack, code=3 if hides_webhook_urls() else 1, test=False)
        tested = bad(stack, test=True)
    lost = {("route", name) for name in HEALED_ALERTS}
    if hides_webhook_urls():
        # The heartbeat has not come since the change either.
        beat = {("route", "PgSlotWatchdog"), ("leads to", "receiver healer")}
        assert {key for key, each in asked.items() if each["status"] == "unknown"} == lost | {LEAD} | beat
    assert {key for key, each in asked.items() if each["status"] == "failed"} == (
        set() if hides_webhook_urls() else lost
    )
    assert all(EVERYWHERE in asked[key]["found"] for key in lost)
    assert {key: each["status"] for key, each in tested.items()} == dict.fromkeys(lost, "failed")
    assert all(f"{CLUSTER}/{PRIMARY_NODE} only to chat" in tested[key]["found"] for key in lost)
    refuted = "a test alert did not come through it within"
    assert all((refuted in tested[key]["found"]) is hides_webhook_urls() for key in lost)


def test_the_test_alert_makes_no_episode(stack: Stack) -> None:
    before = stack.healer.get_json("/episodes")
    counted = stack.healer.value("pgslot_heal_alerts_total", action="ignored_test") or 0
    assert bad(stack, code=0, test=True) == {}
    assert (stack.healer.value("pgslot_heal_alerts_total", action="ignored_test") or 0) > counted
    assert stack.healer.get_json("/episodes") == before

    def over() -> bool:
        return not any("pgslot_test" in alert["labels"] for alert in stack.alertmanager.alerts())

    wait_for(over, "Alertmanager knows that it has ended")


def test_a_healer_that_has_been_restarted_knows_nothing_yet(stack: Stack) -> None:
    stack.healer.stop()
    wait_for(lambda: not all_scraped(stack), "Prometheus has noticed")
    stack.healer.start()
    wait_for(lambda: all_scraped(stack), "Prometheus scrapes it again")
    found = bad(stack, code=3 if hides_webhook_urls() else 0, test=False)
    assert {each["status"] for each in found.values()} == ({"unknown"} if hides_webhook_urls() else set())
    assert bad(stack, code=0, test=True) == {}
    # What came then is remembered.
    assert bad(stack, code=0, test=False) == {}
