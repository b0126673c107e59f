"""The way from a creation that hangs to the healer, as shipped: short, and past everybody else."""

import pytest
import requests

from tests.support.servers.processes import wait_for
from tests.support.servers.stack import Stack


@pytest.mark.servers
def test_healer_is_notified_before_any_other_receiver() -> None:
    """Prometheus, rules and Alertmanager as shipped; no alert for people has fired."""
    with Stack(as_shipped=True) as stack:
        stack.start_databases()
        stack.start_exporter()
        stack.start_healer()
        stack.start_monitoring()
        with stack.quiet(), stack.standby.create_slot("soon") as creator:
            assert creator.wait(60)
            assert creator.error is None
        [episode] = wait_for(lambda: _ended(stack), "the episode has ended")
        assert (episode["outcome"], episode["why"]) == ("healed", "usable after our call")
        fired = stack.prometheus.query('count by (alertname) (count_over_time(ALERTS{slot_name="soon"}[5m]))')
        assert [found["metric"]["alertname"] for found in fired] == ["PgSlotCreationWaiting"]
        told = {
            receiver["name"]
            for alert in stack.alertmanager.alerts()
            if alert["labels"].get("slot_name") == "soon"
            for receiver in alert["receivers"]
        }
        assert told == {"healer", "nobody"}
        parts = 'count({job="pgslot-creations",__name__=~"pgslot_.*"}) == 3 * 2'
        wait_for(lambda: stack.prometheus.query(parts), "three series a node, with nothing waiting any more")


def _ended(stack: Stack) -> list[dict[str, object]]:
    found = requests.get(f"{stack.healer.url}/episodes", timeout=10).json()
    return [episode for episode in found if episode["outcome"] is not None]
