"""A primary with a WAL directory, and what may keep WAL in it."""

from dataclasses import replace
from typing import Any

from pgslot.snapshot.model import NodeSnapshot, QueryStatus, WalUsage
from pgslot.snapshot.rows import Slot
from pgslot.snapshot.wal_rows import ArchiveStatus, Checkpoint, WalDirectory, WalFacts
from tests.support.builders.snapshots import FACTS, SLOT, node

SEGMENT = 16 * 1024 * 1024
CURRENT = 1000
"""The number of the segment that the server writes now: its name ends in 00000003000000E8."""

WAL_FACTS = WalFacts(
    archiving=False,
    archive_configured=True,
    last_archived_wal=None,
    last_archived_time=None,
    failed_count=0,
    last_failed_wal=None,
    last_failed_time=None,
    lists_wal=True,
    lists_archive_status=True,
    reads_checkpoint=True,
)
ARCHIVING = replace(WAL_FACTS, archiving=True)
NOTHING_READY = ArchiveStatus(0, None)


def directory(first: int, last: int = CURRENT + 2, other_bytes: int = 0) -> WalDirectory:
    """Return a directory of the segments from `first` to `last`, and files that are no segments."""
    size = (last + 1 - first) * SEGMENT + other_bytes
    return WalDirectory(size, [first], [last], CURRENT * SEGMENT + 4711)


def digits(segment: int) -> str:
    """Return the name of a segment without its timeline."""
    return f"{segment // 256:08X}{segment % 256:08X}"


def slot_at(name: str, segment: int, **changes: Any) -> Slot:
    """Return a slot whose restart_lsn is in this segment."""
    return SLOT._replace(slot_name=name, restart_position=segment * SEGMENT + 100, **changes)


def primary(
    wal_directory: WalDirectory | None,
    *slots: Slot,
    redo: int | None = CURRENT - 1,
    facts: WalFacts = WAL_FACTS,
    ready: ArchiveStatus | None = None,
    wal_keep_segments: int = 0,
    segment_bytes: int = SEGMENT,
) -> NodeSnapshot:
    """Return a primary with this directory and these slots, whose last checkpoint began in the segment `redo`."""
    usage = WalUsage(
        {"wal_directory": QueryStatus.OK},
        facts,
        wal_directory,
        ready,
        None if redo is None else Checkpoint(redo * segment_bytes + 40, 1.8e9),
        slots,
    )
    node_facts = replace(
        FACTS, wal_segment_size_bytes=segment_bytes, wal_keep_size_bytes=wal_keep_segments * segment_bytes
    )
    return replace(node("p", recovery=False, slots=slots), facts=node_facts, wal=usage)
