"""
Which slots of a standby are lost with the primary's last logical slot: pure functions of what a cluster showed.

From PostgreSQL 19 on a primary with wal_level = replica writes WAL that can be decoded, but only while it has a valid
logical slot of its own. Without one, its standbys' logical slots are invalidated (wal_level_insufficient).
"""

from pgslot.snapshot.model import NodeSnapshot
from pgslot.snapshot.rows import Slot

SINCE_MAJOR = 19
"""The first major version whose effective_wal_level depends on logical slots."""


def keeps_logical_decoding(slot: Slot) -> bool:
    """
    Return whether a primary's slot keeps logical decoding enabled, also after the session that uses it ends.

    The slot of a REPACK enables it as well, but is temporary.
    """
    return slot.slot_type == "logical" and not (slot.temporary or slot.in_creation or slot.invalidated)


def depends_on_primary(slot: Slot) -> bool:
    """Return whether a standby's slot is meant for a consumer of the standby: a copy of the primary's slot is not."""
    return keeps_logical_decoding(slot) and not slot.synced


def has_dependent_slots(node: NodeSnapshot) -> bool:
    """Return whether slots of this node may be lost with the primary's slots, so that the primary has to be known."""
    facts = node.facts
    return (
        facts is not None
        and facts.in_recovery
        and facts.major >= SINCE_MAJOR
        and any(depends_on_primary(slot) for slot in node.slots or ())
    )


def slots_keeping_decoding(primary: NodeSnapshot | None) -> tuple[str, ...] | None:
    """Return the primary's slots that keep logical decoding enabled; None: it does not depend on any, or is unknown."""
    if primary is None or primary.facts is None or primary.slots is None or primary.facts.major < SINCE_MAJOR:
        return None
    if primary.facts.wal_level != "replica":
        return None
    return tuple(slot.slot_name for slot in primary.slots if keeps_logical_decoding(slot))
