"""
How much WAL each slot retained in the last hour: the exporter's own memory, fed by the snapshots that it takes anyway.

A point every 30 s takes 8 bytes, so a slot takes 1 kB for an hour and all slots together at most some 6 MB. Nothing is
written to disk: after a restart the memory is empty.
"""

import time
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pgslot.diagnosis.short_lived import is_short_lived
from pgslot.snapshot.model import NodeSnapshot
from pgslot.status.growth import HeldSample

REMEMBERED_SECONDS = 3600.0
SPACING_SECONDS = 30.0
"""Two points are at least this far apart."""
MAX_SLOTS = 5_000
"""Of all nodes together. While so many are remembered, no other slot is; a node's largest new slots come first."""

_NOTHING = -1
"""The slot was not there, or what it retains was not known."""


class NodeKey(NamedTuple):
    cluster: str
    node: str


class HeldWalMemory:
    """The last hour of all slots, by node."""

    def __init__(self, max_slots: int = MAX_SLOTS) -> None:
        self._max_slots = max_slots
        self._nodes: dict[NodeKey, _NodeMemory] = {}
        self.slots = 0
        """How many are remembered, of all nodes."""

    def record(self, node: NodeSnapshot, now: float | None = None) -> None:
        """Remember what the slots of this snapshot retain, unless the last point is too recent; `now`: monotonic."""
        if node.slots is None:
            return
        now = time.monotonic() if now is None else now
        key = NodeKey(node.cluster, node.node)
        memory = self._nodes.get(key)
        if memory is None:
            memory = self._nodes[key] = _NodeMemory()
        elif now - memory.times[-1] < SPACING_SECONDS:
            return
        before = len(memory.slots)
        held = {
            slot.slot_name: slot.retained_wal_bytes
            for slot in node.slots
            if slot.retained_wal_bytes is not None and not is_short_lived(slot)
        }
        memory.append(now, held, before + self._max_slots - self.slots)
        self.slots += len(memory.slots) - before

    def samples(
        self, node: NodeSnapshot, at: float, seconds: float = REMEMBERED_SECONDS, only: str | None = None
    ) -> Mapping[str, tuple[HeldSample, ...]]:
        """
        Return what each slot of this snapshot, taken at `at` (monotonic), retained before and then, oldest first.

        `seconds`: how far to go back. `only`: the name of the only slot to return; None: all.
        """
        memory = self._nodes.get(NodeKey(node.cluster, node.node))
        past = {} if memory is None else memory.samples(at - seconds, at, only)
        result = {}
        for slot in node.slots or ():
            if only in (None, slot.slot_name):
                now = () if slot.retained_wal_bytes is None else (HeldSample(at, slot.retained_wal_bytes),)
                result[slot.slot_name] = (*past.get(slot.slot_name, ()), *now)
        return result

    def keep_only(self, nodes: Iterable[NodeKey]) -> None:
        """Forget all other nodes: they are no longer configured."""
        kept = set(nodes)
        self._nodes = {key: memory for key, memory in self._nodes.items() if key in kept}
        self.slots = sum(len(memory.slots) for memory in self._nodes.values())


class _NodeMemory:
    """One node's points: their times, monotonic, and what each slot retained at each of them."""

    def __init__(self) -> None:
        self.times = array("d")
        self.slots: dict[str, array[int]] = {}

    def append(self, now: float, held: dict[str, int], max_slots: int) -> None:
        """Add a point; `held` is emptied."""
        expired = sum(now - at > REMEMBERED_SECONDS for at in self.times)
        del self.times[:expired]
        self.times.append(now)
        for name, values in list(self.slots.items()):
            del values[:expired]
            values.append(held.pop(name, _NOTHING))
            if values[-1] == _NOTHING and max(values) == _NOTHING:
                del self.slots[name]
        largest_first = sorted(held.items(), key=lambda item: -item[1])
        for name, value in largest_first[: max(0, max_slots - len(self.slots))]:
            self.slots[name] = array("q", [_NOTHING] * (len(self.times) - 1) + [value])

    def samples(self, begin: float, end: float, only: str | None) -> dict[str, list[HeldSample]]:
        """Return the points from `begin` on and before `end`."""
        first, last = bisect_left(self.times, begin), bisect_left(self.times, end)
        times = self.times[first:last]
        names = self.slots if only is None else {only} & self.slots.keys()
        return {
            name: [
                HeldSample(at, value)
                for at, value in zip(times, self.slots[name][first:last], strict=True)
                if value != _NOTHING
            ]
            for name in names
        }
