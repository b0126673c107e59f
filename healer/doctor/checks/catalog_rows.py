"""Whether the primary keeps the catalog rows that logical slots on standbys need."""

from collections.abc import Iterator

from healer.doctor.result import CheckStatus, Finding
from pgslot.diagnosis.catalog_horizon import (
    BrokenFeedback,
    FeedbackBreak,
    broken_feedback,
    catalog_margins,
    depends_on_catalog_rows,
)
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot

_ADVICE = {
    FeedbackBreak.FEEDBACK_OFF: "On {0} set hot_standby_feedback = on and reload.",
    FeedbackBreak.NO_SLOT: "Create a physical slot where {0} streams from, and name it in primary_slot_name on {0}.",
    FeedbackBreak.SLOT_WITHOUT_XMIN: "See the log of {0}: its feedback does not arrive at its physical slot.",
}


def judge_catalog_rows(cluster: ClusterSnapshot) -> Iterator[Finding]:
    """Report on each standby that has logical slots; a temporary copy belongs to the check `failover`."""
    for node in cluster.nodes:
        if depends_on_catalog_rows(node):
            yield _judge_node(node, cluster)


def _judge_node(node: NodeSnapshot, cluster: ClusterSnapshot) -> Finding:
    subject = f"{node.cluster}/{node.node}"
    broken = broken_feedback(node, cluster)
    margins = [(slot.slot_name, margin) for slot, margin in catalog_margins(node, cluster) if not slot.temporary]
    passed = ", ".join(f"{name} by {-margin}" for name, margin in margins if margin < 0)
    advice = "" if broken is None else _ADVICE[broken.reason].format(broken.broken_at)
    if passed:
        found = f"the primary's horizon has passed the catalog_xmin of {passed} transactions{_because(broken)}"
        urgent = "The next vacuum of a catalog on the primary invalidates the slot. Runbook: PgSlotCatalogUnprotected."
        return Finding("catalog rows", subject, CheckStatus.FAILED, found, f"{advice} {urgent}".strip())
    if broken is not None:
        found = f"nothing keeps the catalog rows for logical slots here{_because(broken)}"
        return Finding("catalog rows", subject, CheckStatus.WARNING, found, advice)
    if not margins and any(not slot.temporary for slot in node.slots or () if slot.slot_type == "logical"):
        found = "what the primary keeps for logical slots here is unknown: it did not show its slots and walsenders"
        return Finding("catalog rows", subject, CheckStatus.SKIPPED, found)
    return Finding("catalog rows", subject, CheckStatus.OK, f"kept on the primary for {len(margins)} logical slot(s)")


def _because(broken: BrokenFeedback | None) -> str:
    return "" if broken is None else f": {broken.reason} on {broken.broken_at}"
