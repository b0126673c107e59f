"""What /metrics says of one slot: its own series, without the labels that all of them share."""

from exporter.labels import SLOT
from exporter.series import cluster_series
from pgslot.exposition.cache import RenderCache
from pgslot.exposition.text_format import label_text
from pgslot.snapshot.model import ClusterSnapshot
from pgslot.status.slot_status import SlotStatus


def slot_evidence(cluster: ClusterSnapshot, status: SlotStatus, cache: RenderCache) -> list[tuple[str, str]]:
    """Return names with the remaining labels, and values. States that do not apply, whose value is 0, are left out."""
    own = label_text(SLOT, (status.cluster, status.node, status.slot_name, status.database))
    result = []
    for block in cluster_series(cluster, only=status.node, cache=cache):
        for line in block.lines().decode().split("\n"):
            name, _, rest = line.partition("{")
            if not rest.startswith((own + "}", own + ",")):
                continue
            more, _, value = rest.removeprefix(own).removeprefix(",").rpartition("} ")
            if more and value == "0":
                continue
            result.append((f"{name}{{{more}}}" if more else name, value))
    return sorted(result)
