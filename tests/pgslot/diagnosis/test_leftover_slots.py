"""Which slots a switchover has left behind: a table of what a standby and its primary show."""

from dataclasses import replace
from typing import Any

import pytest

from pgslot.diagnosis.leftover_slots import LeftoverReason, leftover_slots
from pgslot.snapshot.model import NodeSnapshot
from pgslot.snapshot.rows import Slot
from tests.support.builders.snapshots import FACTS, SLOT, STANDBY, cluster, node, unreachable_node

R = LeftoverReason
PRESENT = SLOT._replace(slot_name="f", failover=True)
LEFT = PRESENT._replace(active=False, synced=False)
COPY = LEFT._replace(synced=True)
OWN = SLOT._replace(slot_name="own", active=False, failover=False)
OLD_FACTS = replace(FACTS, in_recovery=True, version="15.18")


def standby(*slots: Slot, **more: Any) -> NodeSnapshot:
    return node("s", recovery=True, slots=slots, **more)


def primary(*slots: Slot) -> NodeSnapshot:
    return node("p", recovery=False, slots=slots)


SYNCHRONISES = replace(STANDBY, sync_replication_slots=True, slotsync_worker_running=True)

CASES: dict[str, tuple[tuple[NodeSnapshot, ...], LeftoverReason | None]] = {
    "the present primary has a failover slot of its name": ((primary(PRESENT), standby(LEFT)), R.NAME_CLASH),
    "the present primary has a slot of its name that is no failover slot": (
        (primary(PRESENT._replace(failover=False)), standby(LEFT)),
        R.FORMER_PRIMARY,
    ),
    "the present primary has no slot of its name": ((primary(), standby(LEFT)), R.FORMER_PRIMARY),
    "it is lost as well": ((primary(PRESENT), standby(LEFT._replace(wal_status="lost"))), R.NAME_CLASH),
    "somebody reads it on the standby": ((primary(), standby(LEFT._replace(active=True))), None),
    "a slot that was made on the standby": ((primary(), standby(OWN)), None),
    "a logical slot on a standby that cannot decode": ((primary(), standby(OWN, facts=OLD_FACTS)), R.FORMER_PRIMARY),
    "a physical slot": ((primary(), standby(LEFT._replace(slot_type="physical", failover=False))), None),
    "a copy": ((primary(PRESENT), standby(COPY)), None),
    "a copy whose original is gone, and a worker that drops it": (
        (primary(), standby(COPY, standby=SYNCHRONISES)),
        None,
    ),
    "a copy whose original is gone, and no worker": ((primary(), standby(COPY, standby=STANDBY)), R.ORPHANED_COPY),
    "a copy whose original is not for failover any more, and no worker": (
        (primary(PRESENT._replace(failover=False)), standby(COPY, standby=STANDBY)),
        R.ORPHANED_COPY,
    ),
    "a copy whose original is gone, and settings that are not known": ((primary(), standby(COPY, standby=None)), None),
    "a promoted standby, whose copies are slots of its own": ((primary(COPY),), None),
    "the primary is dark": ((unreachable_node("p"), standby(LEFT)), None),
    "two primaries": ((primary(), primary(), standby(LEFT)), None),
    "the primary's slots are not known": ((replace(primary(), slots=None), standby(LEFT)), None),
}


@pytest.mark.parametrize(("nodes", "expected"), CASES.values(), ids=CASES.keys())
def test_slot_is_left_over_only_if_no_standby_can_have_made_it(
    nodes: tuple[NodeSnapshot, ...], expected: LeftoverReason | None
) -> None:
    found = [leftover.reason for leftover in leftover_slots(cluster(*nodes))]
    assert found == ([] if expected is None else [expected])
