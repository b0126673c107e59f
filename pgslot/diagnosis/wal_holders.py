"""
Who holds the WAL in a node's directory, so that the bytes add up: a pure function of what the node showed.

A holder needs all WAL from its position on. So the server removes a segment at a checkpoint after all holders have
passed it, and only the holder furthest back can free anything. Each holder is given the segments from its own position
up to that of the next holder. What was written since the last checkpoint began belongs to `checkpoint`: recovery from a
crash needs it whatever the others do. KeepLogSeg() and RemoveOldXlogFiles() in PostgreSQL's xlog.c are the model.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import NamedTuple

from pgslot.snapshot.model import NodeSnapshot, WalUsage
from pgslot.snapshot.rows import NodeFacts, Slot
from pgslot.snapshot.wal_rows import WalDirectory, WalFacts

MAX_SLOTS = 10
"""The slots furthest back are named; the others are one holder together."""

NOTHING_WAITS = 2**64
"""In place of the number of the first segment that waits for the archiver: beyond any that there can be."""

_LOG_BYTES = 2**32
"""A segment's name is its timeline, the number of the 4 GB that it belongs to, and its number within these."""
_SEGMENT_NAME = re.compile(r"[0-9A-F]{8}(?P<number>[0-9A-F]{16})")


class Holder(StrEnum):
    """What keeps WAL; the values of the label `holder`. Of two that begin in the same segment the later one has it."""

    SLOT = "slot"
    ARCHIVER = "archiver"
    WAL_KEEP_SIZE = "wal_keep_size"
    CHECKPOINT = "checkpoint"
    REST = "rest"


_ORDER = tuple(Holder)


class HeldWal(NamedTuple):
    """How much WAL of the directory one holder has."""

    holder: Holder
    slot_name: str
    """Empty for holders other than slots, and for the slots beyond MAX_SLOTS and those of REPACK together."""
    held_bytes: int


class _Position(NamedTuple):
    """The first segment that a holder needs, by its number."""

    segment: int
    holder: Holder
    slot_name: str = ""


def wal_holders(node: NodeSnapshot) -> tuple[HeldWal, ...] | None:
    """
    Return how much each holder has, which adds up to the directory's size. None: unknown.

    Slots that have nothing are left out. A holder whose position is unknown is missing, and its WAL in the others'.
    """
    wal, facts = node.wal, node.facts
    if wal is None or facts is None or wal.facts is None or wal.directory is None or wal.slots is None:
        return None
    directory = wal.directory
    if directory.position is None:
        # A standby that has not received anything yet.
        return None
    current = directory.position // facts.wal_segment_size_bytes
    positions = sorted(
        _positions(wal, facts, current), key=lambda position: (position.segment, _ORDER.index(position.holder))
    )
    held_bytes: dict[tuple[Holder, str], int] = {}
    for position, end in pairwise([*positions, _Position(current + 1, Holder.REST)]):
        segments = _count(directory, position.segment, end.segment)
        # Several slots may have no name.
        key = (position.holder, position.slot_name)
        held_bytes[key] = held_bytes.get(key, 0) + segments * facts.wal_segment_size_bytes
    held = [HeldWal(*key, size) for key, size in held_bytes.items()]
    rest = directory.size_bytes - sum(item.held_bytes for item in held)
    return (
        *(item for item in held if item.holder is not Holder.SLOT or item.held_bytes),
        HeldWal(Holder.REST, "", rest),
    )


def archiver_failing(facts: WalFacts) -> bool | None:
    """
    Return whether the last attempt to archive a file failed, or nothing is configured that could archive it.

    None: the server archives nothing. An archiver that is slow or hangs does not fail: its .ready files show it.
    """
    if not facts.archiving:
        return None
    if not facts.archive_configured:
        return True
    if facts.last_failed_time is None:
        return False
    return facts.last_archived_time is None or facts.last_failed_time > facts.last_archived_time


def _positions(wal: WalUsage, facts: NodeFacts, current: int) -> Iterator[_Position]:
    """Yield the position of each holder, at most that of the checkpoint."""
    segment_bytes = facts.wal_segment_size_bytes
    newest = current + 1
    if wal.checkpoint is not None:
        newest = min(newest, wal.checkpoint.redo_position // segment_bytes)
        yield _Position(newest, Holder.CHECKPOINT)
    for slot_name, position in _slot_positions(wal.slots or ()):
        yield _Position(min(newest, position // segment_bytes), Holder.SLOT, slot_name)
    kept_segments = facts.wal_keep_size_bytes // segment_bytes
    if kept_segments:
        yield _Position(min(newest, current - kept_segments), Holder.WAL_KEEP_SIZE)
    if wal.facts is not None and wal.facts.archiving:
        waiting = _first_waiting(wal, wal.facts, segment_bytes)
        if waiting is not None:
            yield _Position(min(newest, waiting), Holder.ARCHIVER)


def _slot_positions(slots: Iterable[Slot]) -> Iterator[tuple[str, int]]:
    """
    Yield name and restart_lsn of the slots furthest back, and the first restart_lsn of all others under no name.

    The slot of a REPACK has no name here either: it would be a pid.
    """
    positions = sorted(
        (slot.restart_position, "" if slot.used_by_repack else slot.slot_name)
        for slot in slots
        if slot.restart_position is not None
    )
    for position, slot_name in positions[:MAX_SLOTS]:
        yield slot_name, position
    for position, _ in positions[MAX_SLOTS : MAX_SLOTS + 1]:
        yield "", position


def _first_waiting(wal: WalUsage, facts: WalFacts, segment_bytes: int) -> int | None:
    """Return the number of the first segment that waits for the archiver, or NOTHING_WAITS. None: unknown."""
    if wal.archive_status is not None:
        oldest = wal.archive_status.oldest_ready
        return NOTHING_WAITS if oldest is None else _number(oldest, segment_bytes)
    # Not countable: the file that it tries again and again, or the one after the last that it archived.
    failed, archived = (_SEGMENT_NAME.match(name or "") for name in (facts.last_failed_wal, facts.last_archived_wal))
    if archiver_failing(facts) and failed is not None:
        return _number(failed["number"], segment_bytes)
    return None if archived is None else _number(archived["number"], segment_bytes) + 1


def _number(digits: str, segment_bytes: int) -> int:
    """Return a segment's number from the last 16 digits of its name."""
    return int(digits[:8], 16) * (_LOG_BYTES // segment_bytes) + int(digits[8:], 16)


def _count(directory: WalDirectory, first: int, end: int) -> int:
    """Return how many segments the directory has from number `first` on, before `end`."""
    ranges: Sequence[tuple[int, int]] = list(zip(directory.first_segments, directory.last_segments, strict=True))
    return sum(max(0, min(last + 1, end) - max(start, first)) for start, last in ranges)
