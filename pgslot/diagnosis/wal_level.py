"""
Which slots of a standby are lost with the primary's last one: pure functions of what a cluster showed.

From PostgreSQL 19 on a primary with wal_level = replica writes WAL that can be decoded only as long as it has a valid
logical slot of its own. Without one its standbys' logical slots are invalidated (wal_level_insufficient).
"""

from pgslot.snapshot.model import NodeSnapshot
from pgslot.snapshot.rows import Slot

SINCE_MAJOR = 19
"""Major version."""


def keeps_logical_decoding(slot: Slot) -> bool:
    """Return whether the slot, on a primary, keeps logical decoding on: also after the session that uses it."""
    return slot.slot_type == "logical" and not (slot.temporary or slot.in_creation or slot.invalidated)


def depends_on_primary(slot: Slot) -> bool:
    """Return whether the slot, on a standby, has a consumer of its own there: what a primary keeps in step has none."""
    return keeps_logical_decoding(slot) and not slot.synced


def has_dependent_slots(node: NodeSnapshot) -> bool:
    """Return whether slots of this node may be lost with others on its primary: what that shows has to be known."""
    facts = node.facts
    return (
        facts is not None
        and facts.in_recovery
        and facts.major >= SINCE_MAJOR
        and any(depends_on_primary(slot) for slot in node.slots or ())
    )


def slots_keeping_decoding(primary: NodeSnapshot | None) -> tuple[str, ...] | None:
    """Return the primary's slots that logical decoding rests on; None: it does not, or that is not known."""
    if primary is None or primary.facts is None or primary.slots is None or primary.facts.major < SINCE_MAJOR:
        return None
    if primary.facts.wal_level != "replica":
        return None
    return tuple(slot.slot_name for slot in primary.slots if keeps_logical_decoding(slot))
