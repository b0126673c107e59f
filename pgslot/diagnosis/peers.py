"""Which other nodes of its cluster have to be queried to explain what one node shows."""

from pgslot.diagnosis.catalog_horizon import depends_on_catalog_rows
from pgslot.diagnosis.failover_readiness import failover_slots
from pgslot.diagnosis.retention import retains_beyond_segment
from pgslot.diagnosis.wal_level import has_dependent_slots
from pgslot.snapshot.cluster import Peers
from pgslot.snapshot.model import NodeSnapshot


def peers_needed(node: NodeSnapshot) -> Peers:
    """Return which other nodes explain this one: the primary, its standbys, or none."""
    if failover_slots(node):
        return Peers.STANDBYS
    if node.is_primary and node.senders:
        # To find the standbys that are not configured; what the others showed a scrape ago is enough for that.
        return Peers.RECENT_STANDBYS
    return Peers.PRIMARY if needs_primary(node) else Peers.NONE


def needs_primary(node: NodeSnapshot) -> bool:
    """Return whether only the primary can explain what this node shows."""
    if node.is_primary or not node.up:
        return False
    return (
        bool(node.creations)
        or has_dependent_slots(node)
        or depends_on_catalog_rows(node)
        or any(retains_beyond_segment(slot) for slot in node.slots or ())
    )
