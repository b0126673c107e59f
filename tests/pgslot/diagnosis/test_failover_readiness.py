"""Whether a slot would survive a failover: tables of what primary and standbys show."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from pgslot.diagnosis.failover_readiness import (
    NotReadyReason,
    Readiness,
    failover_slots,
    missing_settings,
    readiness,
    synced_slots,
)
from pgslot.snapshot.model import NodeSnapshot
from pgslot.snapshot.rows import Slot
from tests.support.builders.snapshots import SLOT, STANDBY, cluster, node, unreachable_node

U = NotReadyReason
ORIGINAL = SLOT._replace(slot_name="f", failover=True, synced=False, confirmed_position=5000)
COPY = SLOT._replace(slot_name="f", failover=True, synced=True, active=False, confirmed_position=4000)
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
    "ready, though its worker is down": (
        standby("s", COPY, standby=replace(SYNCHRONISES, slotsync_worker_running=False)),
        None,
    ),
    "ready, though the setting is off by now": (standby("s", COPY, standby=OFF), None),
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
