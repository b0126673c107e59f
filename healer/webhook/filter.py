"""Which alerts are the healer's business: a pure function of the alert and the configuration."""

from collections.abc import Mapping
from dataclasses import dataclass

from healer.remedies.base import Remedy
from healer.remedies.registry import REMEDIES
from healer.remedies.slot_state import SlotKey
from healer.webhook.body import HEAL_LABEL, TEST_LABEL, Action, Alert
from pgslot.config.model import Cluster, HealerConfig


@dataclass(frozen=True, slots=True)
class AcceptedAlert:
    """A firing alert that asks for an episode, or the end of one: of a cluster that the healer may act on."""

    cluster: Cluster
    target: HealerConfig
    """As whom the remedy acts there."""
    remedy: Remedy
    subject: SlotKey


def classify(alert: Alert, clusters: Mapping[str, Cluster]) -> AcceptedAlert | Action:
    """
    Return what the alert is about, or why it is ignored.

    Its labels only choose among what is configured, and nothing named is never taken for everything.
    """
    if alert.labels.get(TEST_LABEL):
        return Action.IGNORED_TEST
    remedy = REMEDIES.get(alert.labels.get(HEAL_LABEL, ""))
    if remedy is None:
        return Action.IGNORED_NO_HEAL_LABEL
    if alert.firing and alert.unmeasured:
        return Action.IGNORED_UNMEASURED
    cluster = clusters.get(alert.labels.get("cluster", ""))
    if cluster is None:
        return Action.IGNORED_UNKNOWN_CLUSTER
    if cluster.healer is None:
        return Action.IGNORED_NOT_CONFIGURED
    target = remedy.target(cluster)
    if target is None:
        return Action.IGNORED_REMEDY_OFF
    node, slot_name = alert.labels.get("node", ""), alert.labels.get("slot_name", "")
    if not node or not slot_name:
        return Action.IGNORED_NO_SLOT
    # One that ends may be about a member that has gone since.
    if alert.firing and not any(each.name == node for each in cluster.nodes):
        return Action.IGNORED_UNKNOWN_NODE
    if alert.firing and not cluster.healer.enabled:
        return Action.IGNORED_DISABLED
    return AcceptedAlert(cluster, target, remedy, SlotKey(node, slot_name))
