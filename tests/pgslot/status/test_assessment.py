"""Which slots need a person, in which order, and what is not known: on tables of snapshots."""

from dataclasses import replace

import pytest

from pgslot.config.model import WalVolume
from pgslot.snapshot.model import WalUsage
from pgslot.snapshot.rows import Slot, SlotUser
from pgslot.snapshot.wal_rows import WalDirectory
from pgslot.status.assessment import slot_statuses
from pgslot.status.growth import HeldSample, growth
from pgslot.status.slot_status import Concern, RoomLimit, Severity, SlotKey, SlotState, Unseen
from tests.support.builders.retention import EARLY, SLOT_HISTORY, primary_with
from tests.support.builders.snapshots import CREATION, FACTS, SLOT, TRANSACTION, cluster, node, unreachable_node
from tests.support.builders.statuses import (
    GIB,
    HEALTHY,
    LAGGING_SLOT,
    LOST,
    PINNED_SLOT,
    UNUSED,
    creation_on_standby,
    pinned_status,
    status_of,
    statuses_of,
)

JUST_LEFT = UNUSED._replace(inactive_since=FACTS.server_time - 10)
NEAR = UNUSED._replace(slot_name="near", safe_wal_size_bytes=GIB // 8, wal_status="extended")
LATE = HEALTHY._replace(slot_name="late", safe_wal_size_bytes=-1, retained_wal_bytes=GIB, wal_status="unreserved")


@pytest.mark.parametrize(
    ("slot", "concerns", "severity"),
    [
        (HEALTHY, (), Severity.FINE),
        (LOST, (Concern.LOST,), Severity.CRITICAL),
        (UNUSED, (Concern.INACTIVE,), Severity.WARNING),
        (JUST_LEFT, (), Severity.FINE),
        (NEAR, (Concern.NEAR_LOSS, Concern.INACTIVE), Severity.CRITICAL),
        (LATE, (Concern.NEAR_LOSS,), Severity.CRITICAL),
        (HEALTHY._replace(safe_wal_size_bytes=GIB // 8), (), Severity.FINE),
    ],
)
def test_concerns_of_a_slot(slot: Slot, concerns: tuple[Concern, ...], severity: Severity) -> None:
    status = status_of(slot)
    assert (status.concerns, status.severity) == (concerns, severity)


def test_rows_come_worst_first() -> None:
    rows = statuses_of(node("p", recovery=False, slots=(HEALTHY, UNUSED, LOST, LATE)))
    assert [row.slot_name for row in rows] == ["late", "gone", "unused", "healthy"]


def test_slot_that_is_lost_sooner_comes_first() -> None:
    slots = [LATE._replace(slot_name=name, safe_wal_size_bytes=GIB) for name in ("a", "b")]
    samples = {
        SlotKey("p", "a"): [HeldSample(0, 0), HeldSample(100, 1000)],
        SlotKey("p", "b"): [HeldSample(0, 0), HeldSample(100, GIB // 10)],
    }
    rows = statuses_of(node("p", recovery=False, slots=tuple(slots)), held=samples)
    assert [(row.slot_name, row.needs_attention) for row in rows] == [("b", True), ("a", False)]
    assert rows[0].seconds_left == pytest.approx(1000)


def test_transaction_that_pins_a_slot_is_named_once_that_is_proven() -> None:
    status = pinned_status()
    assert status.concerns == (Concern.RETAINS,)
    assert status.cause == "transaction"
    assert [transaction.pid for transaction in status.culprits] == [EARLY.pid]


def test_first_look_needs_a_second_one() -> None:
    status = status_of(PINNED_SLOT, transactions=(TRANSACTION,))
    assert status.unseen == (Unseen.SECOND_LOOK,)
    assert status.severity is Severity.UNSEEN


def test_look_without_privilege_says_so() -> None:
    facts = replace(FACTS, reads_all_stats=False)
    blind = node("p", recovery=False, slots=(LAGGING_SLOT,), creations=None, transactions=None, facts=facts)
    assert statuses_of(blind)[0].unseen == (Unseen.PRIVILEGE,)
    creating = SLOT._replace(in_creation=True, confirmed_position=None, pinned_wal_bytes=None)
    [status] = statuses_of(replace(blind, slots=(creating,)))
    assert (status.state, status.unseen) == (SlotState.CREATING, (Unseen.PRIVILEGE,))


def test_long_look_without_a_cause_is_unexplained() -> None:
    history = SLOT_HISTORY._replace(moved_here=False, seen=9_999.0)
    [status] = statuses_of(primary_with(PINNED_SLOT._replace(slot_name="cdc"), history, ()))
    assert status.unseen == (Unseen.UNEXPLAINED,)


def test_creation_that_waits_is_one_row_with_its_slot() -> None:
    status = creation_on_standby()
    assert (status.state, status.concerns, status.cause) == (
        SlotState.CREATING,
        (Concern.CREATION_WAITS,),
        "running_xacts",
    )
    assert status.user == SlotUser("w", 100, "cdc", "consumer", None, None)
    assert (status.on_primary, status.primary) == (False, "p")


def test_session_that_uses_a_slot_is_shown() -> None:
    user = SlotUser("healthy", 7, "cdc", "debezium", "10.0.0.7", 60.0)
    assert status_of(HEALTHY, users=(user,)).user == user


def test_creation_that_has_just_begun_needs_nobody() -> None:
    assert creation_on_standby(wait_seconds=2.0).concerns == ()


def test_creation_shows_although_the_slots_could_not_be_read() -> None:
    blind = node("p", recovery=False, slots=None, creations=(replace(CREATION, blocking_pids=[7]),))
    [status] = statuses_of(blind)
    assert (status.slot_name, status.state, status.concerns) == ("w", SlotState.CREATING, (Concern.CREATION_WAITS,))


def test_creation_on_a_standby_whose_primary_is_down_has_an_unknown_cause() -> None:
    creation = replace(CREATION, backend_type="client backend")
    standby = node("s", recovery=True, creations=(creation,))
    [status] = statuses_of(unreachable_node("p"), standby)
    assert status.unseen == (Unseen.PRIMARY,)
    assert status.primary is None


def test_what_holds_the_original_back_is_shown_once() -> None:
    copy = PINNED_SLOT._replace(synced=True, failover=True, active=False)
    primary = primary_with(PINNED_SLOT._replace(failover=True), SLOT_HISTORY, (EARLY,))
    rows = slot_statuses(cluster(primary, node("s", recovery=True, slots=(copy,))))
    concerned = {row.node: Concern.RETAINS in row.concerns for row in rows}
    assert concerned == {"p": True, "s": False}


def test_failover_slot_without_a_copy_needs_somebody() -> None:
    slot = HEALTHY._replace(failover=True)
    rows = statuses_of(node("p", recovery=False, slots=(slot,)), node("s", recovery=True))
    assert rows[0].concerns == (Concern.NOT_FAILOVER_READY,)
    assert rows[0].is_failover_slot


def test_leftover_is_no_unused_slot_besides() -> None:
    slot = UNUSED._replace(failover=True)
    rows = statuses_of(node("p", recovery=False), node("s", recovery=True, slots=(slot,)))
    assert Concern.LEFTOVER in rows[0].concerns
    assert Concern.INACTIVE not in rows[0].concerns


def test_short_lived_slots_are_left_out() -> None:
    assert statuses_of(node("p", recovery=False, slots=(SLOT._replace(temporary=True),))) == ()


def test_volume_is_the_room_of_the_slot_furthest_back() -> None:
    usage = WalUsage({}, directory=WalDirectory(9 * GIB, [0], [575], 1000))
    near = UNUSED._replace(slot_name="nearer", restart_position=2000)
    full = replace(node("p", recovery=False, slots=(UNUSED, near)), wal=usage)
    rows = {row.slot_name: row for row in statuses_of(full, volumes={"p": WalVolume(10 * GIB)})}
    room = rows["unused"].room
    assert room is not None
    assert (room.left_bytes, room.limit) == (GIB, RoomLimit.VOLUME)
    assert rows["nearer"].room is None


@pytest.mark.parametrize(
    ("samples", "rate"),
    [
        ([], None),
        ([(0, 5)], None),
        ([(0, 0), (2, 900)], None),
        ([(0, 0), (10, 1000)], 100.0),
        ([(0, 1000), (10, 0)], -100.0),
        ([(0, 10**9), (1000, 0), (1010, 1000), (1020, 2000)], 100.0),
        ([(0, 0), (10, 0), (20, 0)], 0.0),
    ],
)
def test_growth_is_the_slope_of_the_last_quarter_of_an_hour(samples: list[tuple[float, int]], rate: float) -> None:
    found = growth([HeldSample(*sample) for sample in samples])
    assert (None if found is None else pytest.approx(found.bytes_per_second)) == rate
