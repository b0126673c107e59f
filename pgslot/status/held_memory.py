"""How much WAL each slot retained in the looks of one `status --watch`, in bounded space."""

from collections.abc import Mapping, Sequence

from pgslot.snapshot.model import ClusterSnapshot
from pgslot.status.growth import HeldSample
from pgslot.status.slot_status import SlotKey

MAX_SAMPLES = 240
"""Of one slot. When there are more, every second one of the older half goes."""
MAX_SLOTS = 5000
"""Of all clusters together; slots beyond that have no growth."""


class HeldMemory:
    """The samples of all slots, oldest first."""

    def __init__(self) -> None:
        self._samples: dict[str, dict[SlotKey, list[HeldSample]]] = {}

    def add(self, cluster: ClusterSnapshot) -> None:
        """Remember what the slots of this snapshot retain; forget slots that are gone from a node that answered."""
        before = self._samples.get(cluster.cluster, {})
        others = sum(len(slots) for name, slots in self._samples.items() if name != cluster.cluster)
        answered = {node.node for node in cluster.nodes if node.slots is not None}
        kept = {key: samples for key, samples in before.items() if key.node not in answered}
        for node in cluster.nodes:
            for slot in node.slots or ():
                key = SlotKey(node.node, slot.slot_name)
                if slot.retained_wal_bytes is not None and len(kept) + others < MAX_SLOTS:
                    kept[key] = _thinned([*before.get(key, ()), HeldSample(node.history.at, slot.retained_wal_bytes)])
        self._samples[cluster.cluster] = kept

    def samples(self, cluster: str) -> Mapping[SlotKey, Sequence[HeldSample]]:
        """Return the samples of a cluster's slots."""
        return self._samples.get(cluster, {})


def _thinned(samples: list[HeldSample]) -> list[HeldSample]:
    if len(samples) <= MAX_SAMPLES:
        return samples
    half = len(samples) // 2
    return [*samples[:half:2], *samples[half:]]
