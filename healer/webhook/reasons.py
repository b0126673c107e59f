"""Why an alert is ignored or refused, in words: for `replay`, and for what is remembered about each slot."""

from healer.remedies.registry import REMEDIES
from healer.webhook.payload import Action, Alert
from pgslot.config.model import Cluster, HealerSettings

REASONS = {
    Action.HEARTBEAT: "it is the heartbeat: the healer only counts it",
    Action.IGNORED_TEST: "doctor sent it, to check whether it arrives",
    Action.IGNORED_NO_HEAL_LABEL: f"it lacks the label heal with one of {', '.join(REMEDIES)}",
    Action.IGNORED_UNMEASURED: "Grafana had no data, or an error, for its rule: nothing was measured",
    Action.IGNORED_UNKNOWN_CLUSTER: "its label cluster is not a cluster of the configuration",
    Action.IGNORED_NOT_CONFIGURED: "its cluster has no healer section: it is only observed",
    Action.IGNORED_NO_SLOT: "it lacks the label node or slot_name",
    Action.IGNORED_UNKNOWN_NODE: "its label node is not a node of the cluster",
    Action.IGNORED_REMEDY_OFF: "its remedy is off by default, and the cluster has no section that allows it",
    Action.IGNORED_DISABLED: "the healer is switched off for its cluster",
}
"""By action; those that depend on names of the configuration in general terms, see reason()."""


def reason(action: Action, alert: Alert, cluster: Cluster | None, settings: HealerSettings) -> str:
    """
    Return why this alert was ignored or refused, with what the configuration says; empty: it was not.

    `cluster`: the one that it names; None: the configuration does not have it.
    """
    labels = alert.labels
    target = cluster.healer if cluster is not None else None
    match action:
        case Action.IGNORED_UNKNOWN_CLUSTER:
            return f"its label cluster is {labels.get('cluster', '')!r}, which is not a cluster of the configuration"
        case Action.IGNORED_UNKNOWN_NODE if cluster is not None:
            known = ", ".join(node.name for node in cluster.nodes) or "none yet"
            return f"its label node is {labels.get('node', '')!r}; the nodes of the cluster are: {known}"
        case Action.IGNORED_DISABLED if target is not None:
            where = "for all clusters (healer.enabled)" if target.disabled_everywhere else "for its cluster (enabled)"
            return f"healing is switched off {where}, with the reason: {target.disabled_reason or 'none given'}"
        case Action.REFUSED_BUDGET:
            many = settings.clusters_at_once
            return f"the healer acts on {many} cluster{'' if many == 1 else 's'} already (clusters_at_once)"
        case Action.REFUSED_FULL:
            return "the episode of its cluster has no room for another alert or slot"
    return REASONS.get(action, "")
