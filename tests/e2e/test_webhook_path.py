"""The shipped path from a hanging creation to the healer is short and notifies no other receiver."""

import time
from collections.abc import Iterator

import pytest
import requests

from tests.bench.retries import creation_to_usable
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import Stack

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    """Prometheus, rules and Alertmanager run as shipped, and creations on the standby hang."""
    with Stack(as_shipped=True) as stack:
        stack.start_databases()
        stack.start_exporter()
        stack.start_healer()
        stack.start_monitoring()
        with stack.quiet():
            yield stack


def test_healer_is_notified_before_any_other_receiver(stack: Stack) -> None:
    """No alert for people fires."""
    with stack.standby.create_slot("soon") as creator:
        assert creator.wait(60)
        assert creator.error is None
    [episode] = wait_for(lambda: _ended_episodes(stack), "the episode has ended")
    assert (episode["outcome"], episode["why"]) == ("healed", "usable after our call")
    fired = stack.prometheus.query('count by (alertname) (count_over_time(ALERTS{slot_name="soon"}[5m]))')
    assert [series["metric"]["alertname"] for series in fired] == ["PgSlotCreationWaiting"]
    receivers = {
        receiver["name"]
        for alert in stack.alertmanager.alerts()
        if alert["labels"].get("slot_name") == "soon"
        for receiver in alert["receivers"]
    }
    assert receivers == {"healer", "nobody"}
    parts = 'count({job="pgslot-creations",__name__=~"pgslot_.*"}) == 3 * 2'
    wait_for(lambda: stack.prometheus.query(parts), "three series a node, with nothing waiting any more")


def test_consumer_that_tries_again_is_healed_before_alertmanager_repeats_its_webhook(stack: Stack) -> None:
    """The alert ends and fires again between two flushes of its group, about which Alertmanager sends nothing."""
    began = time.monotonic()
    creation_to_usable(stack, "again")
    stack.standby.drop_slot("again")
    # Its alert fires on for ten seconds.
    assert creation_to_usable(stack, "again") < 20
    stack.standby.drop_slot("again")
    wait_for(lambda: not _firing(stack, "again"), "the alert has ended")
    assert creation_to_usable(stack, "again") < 20
    stack.standby.drop_slot("again")
    assert time.monotonic() - began < 60
    outcomes = [episode["outcome"] for episode in _ended_episodes(stack) if "again" in str(episode["subjects"])]
    assert outcomes == ["healed"] * 3


def _firing(stack: Stack, slot: str) -> bool:
    return any(alert["labels"].get("slot_name") == slot for alert in stack.alertmanager.alerts())


def _ended_episodes(stack: Stack) -> list[dict[str, object]]:
    episodes = requests.get(f"{stack.healer.url}/episodes", timeout=10).json()
    return [episode for episode in episodes if episode["outcome"] is not None]
