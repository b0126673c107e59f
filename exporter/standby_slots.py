"""Series about the slots of standbys that only their primary explains."""

from collections.abc import Iterator, Sequence

from exporter.catalogue import CATALOGUE
from exporter.labels import SLOT
from pgslot.diagnosis.catalog_horizon import broken_feedback, catalog_margins
from pgslot.diagnosis.failover_readiness import NotReadyReason, readiness
from pgslot.diagnosis.leftover_slots import leftover_slots
from pgslot.diagnosis.short_lived import is_short_lived
from pgslot.exposition.text_format import Sample, Samples, SeriesBlock, StateSet, cached_label_text, label_text
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.snapshot.rows import Slot


def catalog_horizon_series(
    slots: Sequence[Slot], labels: Sequence[str], node_labels: str, node: NodeSnapshot, cluster: ClusterSnapshot
) -> Iterator[SeriesBlock]:
    """Yield how near these slots, whose labels are in the same order, are to the loss of catalog rows, and why."""
    margins = {slot.slot_name: margin for slot, margin in catalog_margins(node, cluster)}
    if margins:
        values = [margins.get(slot.slot_name) for slot in slots]
        yield Samples("pgslot_catalog_xmin_margin_xids", labels, values)
    broken = broken_feedback(node, cluster)
    if broken is not None:
        more = cached_label_text(("reason", "broken_at"), tuple(broken))
        yield Sample("pgslot_feedback_broken_info", f"{node_labels},{more}", 1)


def failover_readiness_series(cluster: ClusterSnapshot, only: str | None) -> Iterator[SeriesBlock]:
    """
    Yield whether each failover slot of the primary would survive a promotion of each standby that synchronises.

    They are series of standbys, but of the primary's probe: a probe of a standby alone need not collect the primary.
    """
    if cluster.primary is None or only not in (None, cluster.primary.node):
        return
    copies = [copy for copy in readiness(cluster) if not is_short_lived(copy.original)]
    if not copies:
        return
    slots = [(copy.node, copy.original.slot_name, copy.original.database) for copy in copies]
    labels = [label_text(SLOT, (cluster.cluster, *slot)) for slot in slots]
    yield Samples("pgslot_failover_ready", labels, [copy.ready for copy in copies])
    yield Samples("pgslot_failover_lag_bytes", labels, [copy.lag_bytes for copy in copies])
    yield Samples("pgslot_failover_last_sync_timestamp_seconds", labels, [copy.last_synchronized for copy in copies])
    reasons = [(text, copy.not_ready_reason) for text, copy in zip(labels, copies, strict=True)]
    yield StateSet("pgslot_failover_unready_reason", "reason", tuple(NotReadyReason), reasons)


def leftover_series(cluster: ClusterSnapshot, only: str | None) -> Iterator[SeriesBlock]:
    """Yield the slots that are left over on the standby named `only`, or on all standbys for None."""
    names = CATALOGUE["pgslot_leftover_info"].labels
    for leftover in leftover_slots(cluster):
        if only in (None, leftover.node):
            slot = leftover.slot
            values = (cluster.cluster, leftover.node, slot.slot_name, slot.database, leftover.reason)
            yield Sample("pgslot_leftover_info", label_text(names, values), 1)
