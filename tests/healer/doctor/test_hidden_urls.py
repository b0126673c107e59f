"""The doctor on an Alertmanager that may hide its webhooks' URLs, with webhooks that lead elsewhere."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.support.doctor import (
    HEALED_ALERTS,
    all_scraped,
    changed_alertmanager_config,
    heartbeat_arrived,
    hides_webhook_urls,
    problems,
    tell_people,
)
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import CLUSTER, PRIMARY_NODE, STANDBY_NODE, Stack

PRIMARY_TO_CHAT = f"for {CLUSTER}/{PRIMARY_NODE}, it goes only to chat"
BOTH_TO_CHAT = f"{PRIMARY_TO_CHAT}; for {CLUSTER}/{STANDBY_NODE}, it goes only to chat"
DESTINATION = ("leads to", "receiver chat")


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack() as stack:
        stack.start_databases()
        stack.start_exporter()
        stack.start_healer()
        stack.start_monitoring()
        tell_people(stack.folder, stack.alertmanager.url)
        wait_for(lambda: stack.prometheus.query("node:pgslot_wal_limit_bytes:max"), "rules are evaluated")
        wait_for(lambda: heartbeat_arrived(stack), "the heartbeat has come", timeout=90)
        yield stack


def chat(stack: Stack, change: Callable[[list[dict[str, Any]]], object]) -> Callable[[Any], None]:
    """Add a receiver `chat`, grouped and limited as people want it; then change the routes."""

    def apply(data: Any) -> None:
        # Something listens there that accepts any webhook, and is not a healer.
        webhook = {"url": f"{stack.alertmanager.url}/api/v2/chat", "send_resolved": False, "max_alerts": 3}
        data["receivers"].append({"name": "chat", "webhook_configs": [webhook]})
        change(data["route"]["routes"])

    return apply


def test_another_receivers_webhook_gets_no_advice(stack: Stack) -> None:
    """The shipped configuration with one webhook more: for people, after the healer."""

    def people(routes: list[dict[str, Any]]) -> None:
        for route in routes:
            if route["receiver"] == "people":
                route |= {"receiver": "chat", "repeat_interval": "1d"}

    with changed_alertmanager_config(stack, chat(stack, people)):
        assert problems(stack, code=0) == {}


def test_route_to_another_receiver_is_named(stack: Stack) -> None:
    """The heartbeat comes, and what heals goes to the chat."""

    def astray(routes: list[dict[str, Any]]) -> None:
        routes[0]["receiver"] = "chat"
        del routes[0]["continue"]

    with changed_alertmanager_config(stack, chat(stack, astray)):
        asked = problems(stack, code=3 if hides_webhook_urls() else 1, test=False)
        tested = problems(stack, test=True)
    lost = {("route", name) for name in HEALED_ALERTS}
    if hides_webhook_urls():
        # The heartbeat has not come since the change either.
        beat = {("route", "PgSlotWatchdog"), ("leads to", "receiver healer")}
        assert {key for key, finding in asked.items() if finding["status"] == "unknown"} == lost | {DESTINATION} | beat
    assert {key for key, finding in asked.items() if finding["status"] == "failed"} == (
        set() if hides_webhook_urls() else lost
    )
    assert all(BOTH_TO_CHAT in asked[key]["found"] for key in lost)
    assert {key: finding["status"] for key, finding in tested.items()} == dict.fromkeys(lost, "failed")
    assert all(PRIMARY_TO_CHAT in tested[key]["found"] for key in lost)
    refuted = "no test alert arrived through it within"
    assert all((refuted in tested[key]["found"]) is hides_webhook_urls() for key in lost)


def test_test_alert_starts_no_episode(stack: Stack) -> None:
    before = stack.healer.get_json("/episodes")
    counted = stack.healer.value("pgslot_heal_alerts_total", action="ignored_test") or 0
    assert problems(stack, code=0, test=True) == {}
    assert (stack.healer.value("pgslot_heal_alerts_total", action="ignored_test") or 0) > counted
    assert stack.healer.get_json("/episodes") == before

    def over() -> bool:
        return not any("pgslot_test" in alert["labels"] for alert in stack.alertmanager.alerts())

    wait_for(over, "Alertmanager knows that it has ended")


def test_restarted_healer_has_no_proof_until_a_webhook_arrives(stack: Stack) -> None:
    stack.healer.stop()
    wait_for(lambda: not all_scraped(stack), "Prometheus has noticed")
    stack.healer.start()
    wait_for(lambda: all_scraped(stack), "Prometheus scrapes it again")
    findings = problems(stack, code=3 if hides_webhook_urls() else 0, test=False)
    assert {finding["status"] for finding in findings.values()} == ({"unknown"} if hides_webhook_urls() else set())
    assert problems(stack, code=0, test=True) == {}
    # The healer remembers the webhook of the test alert.
    assert problems(stack, code=0, test=False) == {}
