"""The shipped path from a hanging creation to the healer is short and notifies no other receiver."""

import pytest
import requests

from tests.support.servers.processes import wait_for
from tests.support.servers.stack import Stack


@pytest.mark.servers
def test_healer_is_notified_before_any_other_receiver() -> None:
    """Prometheus, rules and Alertmanager run as shipped; no alert for people fires."""
    with Stack(as_shipped=True) as stack:
        stack.start_databases()
        stack.start_exporter()
        stack.start_healer()
        stack.start_monitoring()
        with stack.quiet(), stack.standby.create_slot("soon") as creator:
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


def _ended_episodes(stack: Stack) -> list[dict[str, object]]:
    episodes = requests.get(f"{stack.healer.url}/episodes", timeout=10).json()
    return [episode for episode in episodes if episode["outcome"] is not None]
