"""Which slots, creations and transactions come and go by themselves, so that nobody is shown them."""

import re

from pgslot.diagnosis.creation_wait import CreationWait
from pgslot.snapshot.model import ClusterSnapshot
from pgslot.snapshot.rows import Slot, Transaction

SHORT_LIVED_BYTES = 16 * 1024 * 1024

REPORTED_AFTER_SECONDS = 5.0
"""
A younger transaction has no series with its session: its pid is a label, and a busy server has thousands a minute.

The same age holds for the creation of a short-lived slot: see `is_short_lived`.
"""
SHORT_LIVED_SECONDS = 1.0
"""A younger creation, of whatever slot, has no series in a scrape of creations alone."""

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


def is_creation_short_lived(wait: CreationWait, cluster: ClusterSnapshot) -> bool:
    """Return whether a creation waits no longer than creations of its kind have to."""
    node, age = cluster.node(wait.node), wait.creation.wait_seconds
    if node is None or node.slots is None:
        # Creations alone are collected so often that many would be seen which last no longer than they have to.
        return age is not None and age < SHORT_LIVED_SECONDS
    slot = node.slot(wait.creation.slot_name)
    return age is not None and age < REPORTED_AFTER_SECONDS and slot is not None and is_short_lived(slot)


def is_reportable(transaction: Transaction) -> bool:
    """Return whether a transaction is old enough to be named, or of unknown age."""
    return transaction.age_seconds is None or transaction.age_seconds >= REPORTED_AFTER_SECONDS
