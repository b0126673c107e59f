"""
Slots that a switchover has left behind on a standby, and that nothing uses: a pure function of a cluster's nodes.

A demoted primary keeps its slots, and PostgreSQL never drops them. They hold WAL there, and a slot with the name of a
failover slot of the present primary stops the synchronisation of all slots. Whether a standby's slot is left over, or
was made for a consumer there, shows only if it has `failover` set (17 and later): no standby can make such a slot.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from pgslot.diagnosis.catalog_horizon import FIRST_MAJOR as FIRST_DECODING_STANDBY
from pgslot.diagnosis.failover_readiness import failover_slots
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.snapshot.rows import Slot


class LeftoverReason(StrEnum):
    """Why a slot of a standby is left over."""

    NAME_CLASH = "name_clash"
    """It was this server's when it was a primary, and the present primary has a failover slot of its name."""
    FORMER_PRIMARY = "former_primary"
    """It was this server's when it was a primary."""
    ORPHANED_COPY = "orphaned_copy"
    """A copy whose original is gone from the primary: only synchronisation drops it, and nothing synchronises."""


class Leftover(NamedTuple):
    """A slot that is left over on a standby."""

    node: str
    slot: Slot
    reason: LeftoverReason
    original: Slot | None
    """The present primary's slot of the same name."""


def leftover_slots(cluster: ClusterSnapshot) -> Iterator[Leftover]:
    """Yield the slots that are left over on the cluster's standbys; none while its primary is unknown."""
    primary = cluster.primary
    if primary is None or primary.slots is None:
        return
    originals = {slot.slot_name: slot for slot in primary.slots}
    protected = {slot.slot_name for slot in failover_slots(primary)}
    for node in cluster.nodes:
        if node.facts is None or node is primary:
            continue
        for slot in node.slots or ():
            reason = _reason(slot, node, protected)
            if reason is not None:
                yield Leftover(node.node, slot, reason, originals.get(slot.slot_name))


def _reason(slot: Slot, node: NodeSnapshot, protected: set[str]) -> LeftoverReason | None:
    if slot.slot_type != "logical" or slot.temporary or slot.active or slot.in_creation:
        return None
    if slot.synced:
        standby = node.standby
        dropped_soon = slot.slot_name in protected or standby is None or standby.sync_replication_slots is not False
        return None if dropped_soon else LeftoverReason.ORPHANED_COPY
    if slot.failover:
        return LeftoverReason.NAME_CLASH if slot.slot_name in protected else LeftoverReason.FORMER_PRIMARY
    before_decoding = node.facts is not None and node.facts.major < FIRST_DECODING_STANDBY
    return LeftoverReason.FORMER_PRIMARY if before_decoding else None
