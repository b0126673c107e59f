"""Whether a slot would survive a failover: tables of what primary and standbys show."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from pgslot.diagnosis.failover_readiness import (
    STALE_SECONDS,
    NotReadyReason,
    Readiness,
    failover_slots,
    missing_settings,
    readiness,
    synced_slots,
)
from pgslot.snapshot.model import NodeSnapshot
from pgslot.snapshot.rows import Slot
from tests.support.builders.snapshots import FACTS, SLOT, STANDBY, cluster, node, unreachable_node

U = NotReadyReason
ORIGINAL = SLOT._replace(slot_name="f", failover=True, synced=False, confirmed_position=5000)
NOW = FACTS.server_time
COPY = SLOT._replace(
    slot_name="f", failover=True, synced=True, active=False, confirmed_position=4000, inactive_since=NOW - 30
)
UNSYNCED = COPY._replace(inactive_since=NOW - STALE_SECONDS - 1)
"""A copy that is behind, and was last synchronised too long ago."""
TEMPORARY = COPY._replace(temporary=True, active=True, confirmed_position=None, in_creation=True)
SYNCHRONISES = replace(STANDBY, sync_replication_slots=True, slotsync_worker_running=True)
OFF = STANDBY


def physical(name: str, *, active: bool = True) -> Slot:
    return SLOT._replace(slot_name=name, slot_type="physical", active=active, confirmed_position=None)


def primary(*slots: Slot) -> NodeSnapshot:
    return node("p", recovery=False, slots=slots)


def standby(name: str = "s", *slots: Slot, **more: Any) -> NodeSnapshot:
    settings = more.pop("standby", replace(SYNCHRONISES, primary_slot_name=name))
    return node(name, recovery=True, slots=slots, standby=settings, **more)


def reasons(*nodes: NodeSnapshot) -> dict[str, NotReadyReason | None]:
    return {slot.node: slot.not_ready_reason for slot in readiness(cluster(*nodes))}


CASES: dict[str, tuple[NodeSnapshot, NotReadyReason | None]] = {
    "ready": (standby("s", COPY), None),
    "ready, though its worker has been down for a moment": (
        standby("s", COPY, standby=replace(SYNCHRONISES, slotsync_worker_running=False)),
        None,
    ),
    "ready, though the setting was switched off a moment ago": (standby("s", COPY, standby=OFF), None),
    "not yet copied": (standby("s"), U.NOT_SYNCED),
    "temporary": (standby("s", TEMPORARY), U.NOT_PERSISTED),
    "a slot of the standby's own, or of a former primary": (standby("s", COPY._replace(synced=False)), U.NAME_CLASH),
    "the copy is invalidated": (standby("s", COPY._replace(invalidation_reason="rows_removed")), U.INVALIDATED),
    "the copy is lost": (standby("s", COPY._replace(wal_status="lost")), U.INVALIDATED),
    "its worker is down": (
        standby("s", standby=replace(SYNCHRONISES, slotsync_worker_running=False)),
        U.WORKER_DOWN,
    ),
    "another one was copied by hand": (standby("s", COPY._replace(slot_name="g"), standby=OFF), U.SYNC_OFF),
    "no standby synchronises": (standby("s", standby=OFF), U.SYNC_OFF),
    "its slots are not known": (replace(standby("s"), slots=None), U.UNKNOWN),
    "whether it synchronises is not known": (standby("s", standby=None), U.UNKNOWN),
    "a copy is there, whatever else is not known": (standby("s", COPY, standby=None), None),
}


DOWN = replace(SYNCHRONISES, slotsync_worker_running=False)
NO_DBNAME = replace(DOWN, upstream_dbname_given=False)
REPLAYED = replace(FACTS, in_recovery=True, wal_written_bytes=6000)
"""Of a standby that has all WAL up to the primary's slot."""
BEHIND = replace(REPLAYED, wal_written_bytes=4500)
STALENESS: dict[str, tuple[NodeSnapshot, NotReadyReason | None]] = {
    "the setting is off": (standby("s", UNSYNCED, standby=OFF, facts=REPLAYED), U.STALE),
    "primary_conninfo has lost its dbname": (standby("s", UNSYNCED, standby=NO_DBNAME, facts=REPLAYED), U.STALE),
    "the worker fails": (standby("s", UNSYNCED, standby=DOWN, facts=REPLAYED), U.STALE),
    "the worker fails, seen while it starts again": (standby("s", UNSYNCED, facts=REPLAYED), U.STALE),
    "the standby's settings are not known": (standby("s", UNSYNCED, standby=None, facts=REPLAYED), U.STALE),
    "the slot is idle": (standby("s", UNSYNCED._replace(confirmed_position=5000), standby=OFF, facts=REPLAYED), None),
    "the standby answered later": (standby("s", UNSYNCED._replace(confirmed_position=5001), facts=REPLAYED), None),
    "synchronised at its limit": (
        standby("s", COPY._replace(inactive_since=NOW - STALE_SECONDS), standby=OFF, facts=REPLAYED),
        None,
    ),
    "the standby has restarted": (standby("s", COPY._replace(inactive_since=NOW), standby=DOWN, facts=REPLAYED), None),
    "synchronised by the clock of another machine": (
        standby("s", COPY._replace(inactive_since=NOW + 3600), facts=REPLAYED),
        None,
    ),
    "at this moment the worker synchronises it": (
        standby("s", UNSYNCED._replace(active=True, inactive_since=None), facts=REPLAYED),
        None,
    ),
    "the server does not say when it was synchronised": (
        standby("s", UNSYNCED._replace(inactive_since=None), facts=REPLAYED),
        U.UNKNOWN,
    ),
    "the standby lags, and the worker waits for its WAL": (standby("s", UNSYNCED, facts=BEHIND), None),
    "the standby lags, and nothing synchronises": (standby("s", UNSYNCED, standby=OFF, facts=BEHIND), U.STALE),
    "the standby lags, and the worker fails": (standby("s", UNSYNCED, standby=DOWN, facts=BEHIND), U.STALE),
    "the standby has the WAL and has not replayed it": (
        standby("s", UNSYNCED, standby=replace(SYNCHRONISES, replay_lag_bytes=500), facts=BEHIND),
        U.STALE,
    ),
    "whether the standby lags is not known": (standby("s", UNSYNCED, standby=None, facts=BEHIND), U.UNKNOWN),
    "nothing was replayed yet": (
        standby("s", UNSYNCED, facts=replace(BEHIND, wal_written_bytes=None)),
        U.UNKNOWN,
    ),
}


def test_copy_is_not_stale_while_the_worker_waits_for_replay_with_another_copy() -> None:
    """The worker synchronises one copy after the other, and holds the copy for which it waits (17 to 19)."""
    held = UNSYNCED._replace(slot_name="g", active=True, inactive_since=None)
    lagging = replace(SYNCHRONISES, replay_lag_bytes=500)
    waits = standby("s", UNSYNCED, held, standby=lagging, facts=BEHIND)

    def seen(there: NodeSnapshot, awaited: int) -> dict[str, NotReadyReason | None]:
        both = primary(ORIGINAL, ORIGINAL._replace(slot_name="g", confirmed_position=awaited))
        return {slot.original.slot_name: slot.not_ready_reason for slot in readiness(cluster(both, there))}

    assert seen(waits, 5000) == {"f": None, "g": None}
    # Also where only the other copy needs more WAL than is replayed.
    assert seen(replace(waits, facts=REPLAYED), 6001) == {"f": None, "g": None}
    assert seen(replace(waits, facts=REPLAYED), 6000) == {"f": U.STALE, "g": None}


@pytest.mark.parametrize(("there", "unready"), STALENESS.values(), ids=STALENESS.keys())
def test_copy_that_falls_behind_unsynchronised_is_stale(there: NodeSnapshot, unready: NotReadyReason | None) -> None:
    assert reasons(primary(ORIGINAL), there) == {"s": unready}


@pytest.mark.parametrize(("there", "unready"), CASES.values(), ids=CASES.keys())
def test_copy_is_ready_or_has_its_reason(there: NodeSnapshot, unready: NotReadyReason | None) -> None:
    assert reasons(primary(ORIGINAL), there) == {"s": unready}


def test_lost_original_makes_its_copies_invalidated() -> None:
    assert reasons(primary(ORIGINAL._replace(wal_status="lost")), standby("s")) == {"s": U.INVALIDATED}


SYNCS, OTHER_OFF = standby("a", COPY), standby("b", standby=replace(OFF, primary_slot_name="b"))
BELOW = standby("c")
"""It streams from the slot `c`."""

QUIET: dict[str, tuple[tuple[NodeSnapshot, ...], dict[str, NotReadyReason | None]]] = {
    "no failover slot": ((primary(SLOT), standby("s")), {}),
    "before 17": ((primary(SLOT._replace(failover=None)), standby("s")), {}),
    "a temporary one": ((primary(ORIGINAL._replace(temporary=True)), standby("s")), {}),
    "one in creation": ((primary(ORIGINAL._replace(in_creation=True)), standby("s")), {}),
    "no standby": ((primary(ORIGINAL),), {}),
    "the primary is dark": ((unreachable_node("p"), standby("s")), {}),
    "two primaries": ((primary(ORIGINAL), primary(ORIGINAL), standby("s")), {}),
    "the standby is dark": ((primary(ORIGINAL), unreachable_node("s")), {}),
    "one of two synchronises": ((primary(ORIGINAL), SYNCS, OTHER_OFF), {"a": None}),
    "none of two does": (
        (primary(ORIGINAL), standby("a", standby=replace(OFF, primary_slot_name="a")), OTHER_OFF),
        {"a": U.SYNC_OFF, "b": U.SYNC_OFF},
    ),
    "none that answers does": ((primary(ORIGINAL), OTHER_OFF, unreachable_node("a")), {}),
    "delayed": (
        (primary(ORIGINAL), SYNCS, standby("s", standby=replace(SYNCHRONISES, apply_delay_seconds=3600.0))),
        {"a": None},
    ),
    "below another standby": ((primary(ORIGINAL), standby("a", COPY, physical("c")), BELOW), {"a": None}),
    "below another standby, away": (
        (primary(ORIGINAL), standby("a", COPY, physical("c", active=False)), BELOW),
        {"a": None},
    ),
    "below the primary, by a name that another standby has left over": (
        (primary(ORIGINAL, physical("c")), standby("a", COPY, physical("c", active=False)), BELOW),
        {"a": None, "c": U.NOT_SYNCED},
    ),
    "below the primary, which lacks its slot": (
        (primary(ORIGINAL), standby("a", COPY), BELOW),
        {"a": None, "c": U.NOT_SYNCED},
    ),
}


@pytest.mark.parametrize(("nodes", "expected"), QUIET.values(), ids=QUIET.keys())
def test_only_standbys_that_can_synchronise_count(
    nodes: tuple[NodeSnapshot, ...], expected: dict[str, NotReadyReason | None]
) -> None:
    assert reasons(*nodes) == expected


@pytest.mark.parametrize(
    ("copy", "lag"),
    [
        (COPY, 1000),
        # The standby answered later.
        (COPY._replace(confirmed_position=5100), 0),
        (TEMPORARY, None),
        (COPY._replace(synced=False), None),
        (None, None),
    ],
)
def test_lag_is_what_the_copy_lacks_of_the_original(copy: Slot | None, lag: int | None) -> None:
    assert Readiness("s", ORIGINAL, copy, None).lag_bytes == lag


@pytest.mark.parametrize(
    ("copy", "at"),
    [
        (COPY, NOW - 30),
        # At this moment the worker synchronises it.
        (COPY._replace(active=True, inactive_since=None), None),
        (TEMPORARY._replace(inactive_since=NOW), None),
        (COPY._replace(synced=False), None),
        (None, None),
    ],
)
def test_last_synchronisation_is_that_of_a_persistent_copy(copy: Slot | None, at: float | None) -> None:
    assert Readiness("s", ORIGINAL, copy, None).last_synchronized == at


def test_unknown_is_neither_ready_nor_unready() -> None:
    assert Readiness("s", ORIGINAL, None, U.UNKNOWN).ready is None
    assert Readiness("s", ORIGINAL, None, U.NOT_SYNCED).ready is False
    assert Readiness("s", ORIGINAL, COPY, None).ready is True


def test_each_failover_slot_has_a_readiness() -> None:
    slots = (ORIGINAL, ORIGINAL._replace(slot_name="g"), SLOT)
    assert [slot.slot_name for slot in failover_slots(primary(*slots))] == ["f", "g"]
    assert failover_slots(standby("s", COPY)) == ()
    ready = {(slot.node, slot.original.slot_name): slot.ready for slot in readiness(cluster(primary(*slots), SYNCS))}
    assert ready == {("a", "f"): True, ("a", "g"): False}


def test_synced_slots_are_those_of_a_standby_that_synchronises() -> None:
    nodes = cluster(primary(ORIGINAL, SLOT), SYNCS, OTHER_OFF)
    slots = synced_slots(SYNCS, nodes)
    assert slots["f"].ready
    assert set(slots) == {"f"}  # the other one is not a failover slot
    assert synced_slots(OTHER_OFF, nodes) == {}
    assert synced_slots(nodes.nodes[0], nodes) == {}
    assert synced_slots(SYNCS, cluster(SYNCS)) == {}


class Counted(tuple[Slot, ...]):  # noqa: SLOT001 - it counts
    """Slots that count how often they are iterated."""

    times = 0

    def __iter__(self) -> Iterator[Slot]:
        self.times += 1
        return super().__iter__()


def test_number_of_iterations_does_not_grow_with_the_slots() -> None:
    """Every scrape does this: its cost grows with the slots, not with their square."""

    def times(slots: int) -> int:
        names = [f"f{number}" for number in range(slots)]
        copies = Counted(COPY._replace(slot_name=name) for name in names)
        originals = Counted(ORIGINAL._replace(slot_name=name) for name in names)
        nodes = cluster(replace(primary(), slots=originals), replace(standby("s"), slots=copies))
        assert len([slot for slot in readiness(nodes) if slot.ready]) == slots
        before = copies.times + originals.times
        assert len(synced_slots(nodes.nodes[1], nodes)) == slots
        return max(before, copies.times + originals.times - before)

    assert times(100) == times(3) <= 10


def test_settings_that_synchronisation_requires_are_reported_missing() -> None:
    assert missing_settings(SYNCHRONISES) == dict.fromkeys(missing_settings(SYNCHRONISES), False)
    lacking = replace(
        STANDBY, hot_standby_feedback=False, primary_slot_name="", upstream_dbname_given=False
    )  # and sync_replication_slots off
    assert missing_settings(lacking) == dict.fromkeys(missing_settings(lacking), True)
    assert missing_settings(replace(SYNCHRONISES, upstream_dbname_given=None))["primary_conninfo_dbname"] is None
