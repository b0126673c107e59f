"""Which alerts the healer acts on: a pure function of the alert and the configuration."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from healer.remedies.base import AnyRemedy
from healer.remedies.registry import REMEDIES
from healer.remedies.slot_state import SlotKey
from healer.webhook.payload import HEAL_LABEL, HEARTBEAT, HEARTBEAT_LABEL, TEST_LABEL, Action, Alert
from pgslot.config.model import NAME, Cluster, HealerConfig

_SLOT_NAME = re.compile(r"[a-z0-9_]{1,63}")
"""What PostgreSQL allows (ReplicationSlotValidateName)."""


@dataclass(frozen=True, slots=True)
class AcceptedAlert:
    """An alert that may start, join or (when it has resolved) leave an episode."""

    cluster: Cluster
    target: HealerConfig
    """The role with which this remedy acts on the cluster, and its limits."""
    remedy: AnyRemedy
    slot: SlotKey


def classify(alert: Alert, clusters: Mapping[str, Cluster]) -> AcceptedAlert | Action:
    """
    Return the slot and the remedy that an alert asks for, or what else it is: ignored, with the reason, or a heartbeat.

    Labels only choose among what is configured; a missing label never stands for every cluster, node or slot.
    """
    if alert.labels.get(TEST_LABEL):
        return Action.IGNORED_TEST
    remedy = REMEDIES.get(alert.labels.get(HEAL_LABEL, ""))
    if remedy is None:
        heartbeat = alert.labels.get(HEARTBEAT_LABEL) == HEARTBEAT
        return Action.HEARTBEAT if heartbeat else Action.IGNORED_NO_HEAL_LABEL
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
    if not NAME.fullmatch(node) or not _SLOT_NAME.fullmatch(slot_name):
        return Action.IGNORED_NO_SLOT
    # A resolved alert may name a Patroni member that has left since.
    if alert.firing and node not in {configured.name for configured in cluster.nodes}:
        return Action.IGNORED_UNKNOWN_NODE
    if alert.firing and not cluster.healer.enabled:
        return Action.IGNORED_DISABLED
    return AcceptedAlert(cluster, target, remedy, SlotKey(node, slot_name))
