"""A report's exit code and hidden things, and the memory of --watch."""

from dataclasses import replace

import pytest

from pgslot.snapshot.history import SEGMENT_BYTES, History
from pgslot.snapshot.model import QueryStatus
from pgslot.status.growth import Growth
from pgslot.status.held_memory import MAX_SAMPLES, MAX_SLOTS, HeldMemory
from pgslot.status.report import Report, cluster_report
from pgslot.status.slot_status import Room, RoomLimit, SlotKey, SlotStatus, Unseen
from tests.support.builders.snapshots import FACTS, SLOT, STANDBY, cluster, node
from tests.support.builders.statuses import GIB, HEALTHY, LATE_ROW, PINNED_SLOT, status_of


@pytest.mark.parametrize(
    ("report", "code"),
    [
        (Report((), ()), 0),
        (Report((), (status_of(HEALTHY),)), 0),
        (Report((), (replace(status_of(HEALTHY), unseen=(Unseen.SECOND_LOOK,)),)), 3),
        (Report((), (), unseen=("Patroni",)), 3),
        (Report((), (), problems=("two primaries",)), 1),
        (Report((), (LATE_ROW,), unseen=("Patroni",)), 1),
    ],
)
def test_exit_code(report: Report, code: int) -> None:
    assert report.exit_code == code


def test_slot_whose_cause_takes_a_second_look_is_exit_code_3() -> None:
    assert cluster_report(cluster(node("p", recovery=False, slots=(PINNED_SLOT,)))).exit_code == 3


def statements(shown: Report) -> list[tuple[str, bool]]:
    return [(hidden.statement, hidden.needed) for status in shown.nodes for hidden in status.hidden]


def test_role_without_statistics_gets_the_one_grant() -> None:
    blind = node("p", recovery=False, facts=replace(FACTS, reads_all_stats=False))
    shown = cluster_report(cluster(blind))
    assert statements(shown) == [('GRANT pg_read_all_stats, pg_read_all_settings TO "exporter";', True)]
    assert shown.exit_code == 3


def test_role_without_settings_gets_the_same_grant_on_a_standby() -> None:
    standby = node("s", recovery=True, standby=replace(STANDBY, streaming_configured=None))
    assert statements(cluster_report(cluster(standby)))[0][0].startswith("GRANT pg_read_all_stats")


def test_listing_of_the_wal_directory_is_no_cause_and_costs_no_exit_code() -> None:
    plain = node("p", recovery=False)
    plain.statuses["wal_directory"] = QueryStatus.PERMISSION_DENIED
    shown = cluster_report(cluster(plain))
    [(statement, needed)] = statements(shown)
    assert "pg_ls_waldir()" in statement
    assert (needed, shown.exit_code) == (False, 0)


@pytest.mark.parametrize(("held", "left"), [(SEGMENT_BYTES, None), (SEGMENT_BYTES + 1, 1024.0), (None, None)])
def test_time_left_is_for_slots_that_retain_more_than_a_segment(held: int | None, left: float | None) -> None:
    status: SlotStatus = replace(
        status_of(HEALTHY),
        slot=SLOT._replace(retained_wal_bytes=held),
        room=Room(GIB, RoomLimit.SLOT),
        growth=Growth(GIB / 1024, 60.0),
    )
    assert status.seconds_left == left


def test_memory_of_a_long_watch_is_bounded_and_keeps_its_beginning() -> None:
    memory = HeldMemory()
    for second in range(5 * MAX_SAMPLES):
        slot = SLOT._replace(retained_wal_bytes=second)
        memory.add(cluster(replace(node("p", recovery=False, slots=(slot,)), history=History(float(second)))))
    samples = memory.samples("c")[SlotKey("p", "s")]
    assert len(samples) <= MAX_SAMPLES
    assert (samples[0].held_bytes, samples[-1].held_bytes) == (0, 5 * MAX_SAMPLES - 1)
    assert list(samples) == sorted(samples)


def test_memory_forgets_a_slot_that_is_gone_and_keeps_one_of_a_node_that_did_not_answer() -> None:
    memory = HeldMemory()
    memory.add(cluster(node("p", recovery=False, slots=(SLOT,)), node("s", recovery=True, slots=(SLOT,))))
    memory.add(cluster(node("p", recovery=False), node("s", recovery=True, slots=None)))
    assert set(memory.samples("c")) == {SlotKey("s", "s")}


def test_memory_has_a_most_number_of_slots() -> None:
    memory = HeldMemory()
    slots = tuple(SLOT._replace(slot_name=f"s{number}") for number in range(MAX_SLOTS + 3))
    memory.add(cluster(node("p", recovery=False, slots=slots)))
    assert len(memory.samples("c")) == MAX_SLOTS
