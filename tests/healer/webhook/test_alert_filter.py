"""An alert is ours only if its labels can be the names of a slot and of a node."""

import pytest

from healer.webhook.alert_filter import AcceptedAlert, classify
from healer.webhook.payload import Action, Alert
from tests.support.builders.webhooks import CLUSTERS

SLOT_NAMES = {
    "electric_slot_1": True,
    "a" * 63: True,
    "a" * 64: False,
    "": False,
    "Upper": False,
    "with-dash": False,
    "<img src=x onerror=alert(1)>": False,
    "name\n": False,
    "nämе": False,
    "\u202eabc": False,
}


@pytest.mark.parametrize(("slot_name", "accepted"), SLOT_NAMES.items())
@pytest.mark.parametrize("firing", [True, False])
def test_slot_name_is_one_that_postgresql_allows(slot_name: str, *, accepted: bool, firing: bool) -> None:
    labels = {"heal": "log_standby_snapshot", "cluster": "c", "node": "n", "slot_name": slot_name}
    decision = classify(Alert(firing, labels, "f"), CLUSTERS)
    assert isinstance(decision, AcceptedAlert) if accepted else decision is Action.IGNORED_NO_SLOT


@pytest.mark.parametrize(("node", "accepted"), [("gone-member", True), ("x" * 129, False), ("<b>", False)])
def test_resolved_alert_may_name_any_node_that_could_be_configured(node: str, *, accepted: bool) -> None:
    labels = {"heal": "log_standby_snapshot", "cluster": "c", "node": node, "slot_name": "s"}
    decision = classify(Alert(False, labels, "f"), CLUSTERS)
    assert isinstance(decision, AcceptedAlert) if accepted else decision is Action.IGNORED_NO_SLOT
