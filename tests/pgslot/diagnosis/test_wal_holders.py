"""Who holds the WAL of a node: the parts add up to the directory, and each holder has what its position says."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pgslot.diagnosis.wal_holders import MAX_SLOTS, Holder, archiver_failing, wal_holders
from pgslot.snapshot.model import NodeSnapshot, WalUsage
from pgslot.snapshot.wal_rows import ArchiveStatus, WalDirectory, WalFacts
from tests.support.builders.snapshots import SLOT, node
from tests.support.builders.wal_usage import (
    ARCHIVING,
    CURRENT,
    NOTHING_READY,
    SEGMENT,
    WAL_FACTS,
    digits,
    directory,
    primary,
    slot_at,
)


def segments(snapshot: NodeSnapshot) -> dict[str, float]:
    """Return segments by slot or holder, after a check that the parts add up."""
    held = wal_holders(snapshot)
    assert held is not None
    assert snapshot.wal is not None
    assert snapshot.wal.directory is not None
    assert snapshot.facts is not None
    assert sum(item.held_bytes for item in held) == snapshot.wal.directory.size_bytes
    assert all(item.held_bytes >= 0 for item in held)
    size = snapshot.facts.wal_segment_size_bytes
    return {item.slot_name or f"{item.holder}": item.held_bytes / size for item in held}


CASES: dict[str, tuple[NodeSnapshot, dict[str, float]]] = {
    "nothing but the last checkpoint": (primary(directory(999)), {"checkpoint": 2, "rest": 2}),
    "a slot far back": (
        primary(directory(900), slot_at("a", 900)),
        {"a": 99, "checkpoint": 2, "rest": 2},
    ),
    "two slots: the furthest back has only what no other needs": (
        primary(directory(900), slot_at("near", 950), slot_at("far", 900)),
        {"far": 50, "near": 49, "checkpoint": 2, "rest": 2},
    ),
    "two slots in one segment: to drop either frees nothing, so one has it": (
        primary(directory(900), slot_at("a", 900), slot_at("b", 900)),
        {"b": 99, "checkpoint": 2, "rest": 2},
    ),
    "slots that have passed the checkpoint have nothing": (
        primary(directory(990), slot_at("a", 999), slot_at("b", 1000), redo=990),
        {"checkpoint": 11, "rest": 2},
    ),
    "a slot whose position is newer than the directory's": (
        primary(directory(999), slot_at("a", 1002)),
        {"checkpoint": 2, "rest": 2},
    ),
    "a lost slot holds nothing": (
        primary(directory(999), SLOT._replace(restart_position=None)),
        {"checkpoint": 2, "rest": 2},
    ),
    "a physical slot holds like a logical one": (
        primary(directory(900), slot_at("standby", 900, slot_type="physical")),
        {"standby": 99, "checkpoint": 2, "rest": 2},
    ),
    "a checkpoint that does not come": (primary(directory(100), redo=100), {"checkpoint": 901, "rest": 2}),
    "wal_keep_size": (
        primary(directory(900), wal_keep_segments=100),
        {"wal_keep_size": 99, "checkpoint": 2, "rest": 2},
    ),
    "wal_keep_size of more than there is": (
        primary(directory(990), wal_keep_segments=500),
        {"wal_keep_size": 9, "checkpoint": 2, "rest": 2},
    ),
    "wal_keep_size that reaches further than a slot": (
        primary(directory(900), slot_at("a", 950), wal_keep_segments=100),
        {"wal_keep_size": 50, "a": 49, "checkpoint": 2, "rest": 2},
    ),
    "wal_keep_size within the last checkpoint": (
        primary(directory(990), wal_keep_segments=3, redo=990),
        {"wal_keep_size": 0, "checkpoint": 11, "rest": 2},
    ),
    "archiving that lags": (
        primary(directory(900), facts=ARCHIVING, ready=ArchiveStatus(99, digits(900))),
        {"archiver": 99, "checkpoint": 2, "rest": 2},
    ),
    "archiving that keeps up": (
        primary(directory(999), facts=ARCHIVING, ready=NOTHING_READY),
        {"archiver": 0, "checkpoint": 2, "rest": 2},
    ),
    "archiving that keeps up, and the last checkpoint is unknown": (
        primary(directory(999), facts=ARCHIVING, ready=NOTHING_READY, redo=None),
        {"archiver": 0, "rest": 4},
    ),
    "the archiver and a slot behind it": (
        primary(directory(900), slot_at("a", 950), facts=ARCHIVING, ready=ArchiveStatus(99, digits(900))),
        {"archiver": 50, "a": 49, "checkpoint": 2, "rest": 2},
    ),
    "archiving that fails and cannot be counted: by the file that failed": (
        primary(
            directory(900),
            facts=replace(ARCHIVING, last_failed_wal=f"00000001{digits(900)}", last_failed_time=2.0),
        ),
        {"archiver": 99, "checkpoint": 2, "rest": 2},
    ),
    "archiving that lags and cannot be counted: by the last file that was archived": (
        primary(
            directory(900),
            facts=replace(
                ARCHIVING,
                last_archived_wal=f"00000001{digits(899)}",
                last_archived_time=2.0,
                last_failed_wal=f"00000001{digits(700)}",
                last_failed_time=1.0,
            ),
        ),
        {"archiver": 99, "checkpoint": 2, "rest": 2},
    ),
    "an archiver whose state is unknown is not listed": (
        primary(directory(900), slot_at("a", 900), facts=ARCHIVING),
        {"a": 99, "checkpoint": 2, "rest": 2},
    ),
    "archiving whose last file was a history is not known": (
        primary(directory(999), facts=replace(ARCHIVING, last_archived_wal="00000002.history", last_archived_time=1.0)),
        {"checkpoint": 2, "rest": 2},
    ),
    "leftovers of an archiver that was switched off": (
        primary(directory(999), ready=ArchiveStatus(50, digits(100))),
        {"checkpoint": 2, "rest": 2},
    ),
    "without the last checkpoint its WAL belongs to the others": (
        primary(directory(900), slot_at("a", 900), redo=None),
        {"a": 101, "rest": 2},
    ),
    "without anything that is known": (primary(directory(900), redo=None), {"rest": 103}),
    "files that are no segments": (
        primary(directory(999, other_bytes=SEGMENT // 2)),
        {"checkpoint": 2, "rest": 2.5},
    ),
    "WAL that nobody holds any more, until the next checkpoint": (
        primary(directory(500), slot_at("a", 900)),
        {"a": 99, "checkpoint": 2, "rest": 402},
    ),
    "a gap: a file that was left behind long ago": (
        primary(
            WalDirectory(5 * SEGMENT, [100, 998], [100, 1001], CURRENT * SEGMENT),
            facts=ARCHIVING,
            ready=ArchiveStatus(2, digits(100)),
        ),
        {"archiver": 2, "checkpoint": 2, "rest": 1},
    ),
    "segments of 1 GB, four in every part of a name": (
        primary(
            WalDirectory(8 * 2**30, [3], [10], 10 * 2**30 + 1),
            facts=ARCHIVING,
            ready=ArchiveStatus(5, "0000000100000001"),
            redo=9,
            segment_bytes=2**30,
        ),
        {"archiver": 4, "checkpoint": 2, "rest": 2},
    ),
}


@pytest.mark.parametrize(("snapshot", "expected"), CASES.values(), ids=CASES)
def test_parts_add_up_and_follow_the_positions(snapshot: NodeSnapshot, expected: dict[str, float]) -> None:
    assert segments(snapshot) == expected


def test_slots_of_repack_are_one_holder_without_a_name() -> None:
    slots = [slot_at(f"pg_repack_{n}", 900 + n)._replace(temporary=True, plugin="pgrepack") for n in range(3)]
    assert segments(primary(directory(900), *slots, slot_at("a", 950))) == {
        "slot": 50,
        "a": 49,
        "checkpoint": 2,
        "rest": 2,
    }
    held = wal_holders(primary(directory(900), *slots))
    assert [item.slot_name for item in held or () if item.holder is Holder.SLOT] == [""]


def test_ten_slots_are_named_and_the_others_are_one_holder() -> None:
    slots = [slot_at(f"s{number:02}", 900 + number) for number in range(MAX_SLOTS + 5)]
    held = segments(primary(directory(900), *reversed(slots)))
    assert held == {
        **{f"s{number:02}": 1 for number in range(MAX_SLOTS)},
        "slot": CURRENT - 1 - 910,
        "checkpoint": 2,
        "rest": 2,
    }


UNKNOWN: Sequence[NodeSnapshot] = (
    node("p", recovery=False),
    primary(None, slot_at("a", 900)),
    replace(primary(directory(900)), facts=None),
    replace(primary(directory(900)), wal=WalUsage({}, WAL_FACTS, directory(900), None, None, slots=None)),
    replace(primary(directory(900)), wal=WalUsage({}, None, directory(900), None, None, slots=())),
    primary(replace(directory(900), position=None)),
)


@pytest.mark.parametrize("snapshot", UNKNOWN)
def test_nobody_is_named_without_the_facts(snapshot: NodeSnapshot) -> None:
    assert wal_holders(snapshot) is None


@pytest.mark.parametrize(
    ("facts", "failing"),
    [
        (WAL_FACTS, None),
        (replace(WAL_FACTS, last_failed_time=2.0), None),
        (ARCHIVING, False),
        (replace(ARCHIVING, last_archived_time=1.0), False),
        (replace(ARCHIVING, last_failed_time=2.0), True),
        (replace(ARCHIVING, last_failed_time=2.0, last_archived_time=1.0), True),
        (replace(ARCHIVING, last_failed_time=2.0, last_archived_time=3.0), False),
        (replace(ARCHIVING, archive_configured=False), True),
        (replace(ARCHIVING, archive_configured=False, last_archived_time=1.0), True),
    ],
)
def test_archiver_fails_if_its_last_attempt_did_or_it_has_no_command(facts: WalFacts, failing: bool | None) -> None:
    assert archiver_failing(facts) is failing
