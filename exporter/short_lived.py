"""Which slots come and go by themselves, so that they have no series."""

import re

from pgslot.snapshot.rows import Slot

SHORT_LIVED_BYTES = 16 * 1024 * 1024

_TABLE_SYNC = re.compile(r"pg_\d+_sync_\d+_\d+")
"""LogicalRepSyncTableWorkerMain's names: subscription, table and system."""


def is_short_lived(slot: Slot) -> bool:
    """
    Return whether a slot comes and goes by itself and retains little WAL; such slots have no series.

    Every table that a subscription copies has a slot, every base backup and many a snapshot a temporary one: thirty
    series that end within seconds, under a name that never comes again. A slot that stays long enough to retain more
    than a segment is shown like any other, unless a REPACK uses it: its name is a pid.
    """
    if slot.used_by_repack:
        return True
    name = slot.slot_name
    is_table_sync = name.startswith("pg_") and _TABLE_SYNC.fullmatch(name) is not None
    if not (slot.temporary and not slot.synced) and not is_table_sync:
        return False
    return slot.wal_status != "lost" and (slot.retained_wal_bytes or 0) <= SHORT_LIVED_BYTES
