"""The paragraph about a slot: every cause has its evidence, and what is not known is said to be so."""

from dataclasses import replace

import pytest

from pgslot.cli.amounts import duration, size
from pgslot.diagnosis.creation_wait import WaitReason
from pgslot.diagnosis.retention import Retention, RetentionCause
from pgslot.snapshot.rows import SlotUser
from pgslot.status.explanation import explanation
from pgslot.status.growth import Growth
from pgslot.status.slot_status import Room, RoomLimit, SlotStatus, Unseen
from pgslot.status.wording import culprits, state, why
from tests.support.builders.snapshots import node
from tests.support.builders.statuses import (
    GIB,
    HEALTHY,
    LOST,
    PINNED_SLOT,
    UNUSED,
    creation_on_standby,
    pinned_status,
    status_of,
    statuses_of,
)


def text_of(status: SlotStatus) -> str:
    return " ".join(explanation(status))


@pytest.mark.parametrize("cause", list(RetentionCause))
def test_every_cause_is_explained(cause: RetentionCause) -> None:
    retention = Retention(cause, standby_slot="gone" if cause is RetentionCause.STANDBY else None)
    status = replace(status_of(UNUSED), retention=retention)
    assert len(explanation(status)) >= 3 or cause in ("unknown", "creation")
    assert "{" not in text_of(status)


@pytest.mark.parametrize("reason", list(WaitReason))
def test_every_reason_of_a_waiting_creation_is_explained(reason: WaitReason) -> None:
    status = creation_on_standby()
    assert status.creation is not None
    text = text_of(replace(status, creation=replace(status.creation, reason=reason)))
    assert "Its creation has been going on for 1 min, and " in text
    assert "The server shows its wait as WalSenderWaitForWAL." in text


@pytest.mark.parametrize("unseen", list(Unseen))
def test_what_is_not_known_is_said(unseen: Unseen) -> None:
    status = status_of(HEALTHY)
    assert len(text_of(replace(status, unseen=(unseen,)))) > len(text_of(status))


def test_transaction_that_pins_is_named_with_its_xid_and_the_bound() -> None:
    text = text_of(pinned_status())
    assert "pid 200, worker (batch), idle in transaction for 50 min, xid 500 pins it." in text
    assert "had its xid before 580 was the next one" in text
    assert "It retains 320.0 MiB of WAL, from 3/D4000000 (restart_lsn) to 3/E8000000" in text


def test_unused_slot_has_the_time_of_its_last_use() -> None:
    text = text_of(status_of(UNUSED))
    assert "No session has used it for 2 h, since 1970-01-12 11:46:40 UTC." in text
    assert "Nothing limits it" in text
    without_time = text_of(status_of(UNUSED._replace(inactive_since=None)))
    assert "does not show since when" in without_time


def test_session_is_shown_with_its_address() -> None:
    user = SlotUser("healthy", 7, "cdc", "debezium", "10.0.0.7", 3700.0)
    text = text_of(status_of(HEALTHY, users=(user,)))
    assert "The session with pid 7, cdc (debezium) at 10.0.0.7, which connected 1 h 1 min ago, uses it." in text


def test_time_left_follows_from_growth_and_room() -> None:
    status = replace(status_of(UNUSED), growth=Growth(1024.0 * 1024, 300.0), room=Room(GIB, RoomLimit.VOLUME))
    text = text_of(status)
    assert "has 1.0 GiB left, by the configuration. Over the last 5 min it changed by +3.5 GiB/h." in text
    assert "At this rate 17 min 4 s are left." in text


def test_lost_slot_says_why_and_retains_nothing() -> None:
    text = text_of(status_of(LOST))
    assert "PostgreSQL has invalidated it (wal_removed): retained more WAL than max_slot_wal_keep_size allows." in text
    assert "It retains no WAL any more." in text


def test_failover_is_explained_for_each_standby() -> None:
    slot = HEALTHY._replace(failover=True)
    rows = statuses_of(node("p", recovery=False, slots=(slot,)), node("s", recovery=True))
    assert "It would not survive a failover to s: sync_replication_slots is off." in text_of(rows[0])


def test_cells_of_a_row() -> None:
    status = pinned_status()
    assert (state(status), why(status)) == ("in use", "a transaction pins it")
    assert culprits(status) == "pid 200, worker (batch), idle in transaction for 50 min"
    several = replace(status, retention=replace(status.retention, blocker=None))  # type: ignore[type-var]
    assert culprits(several).startswith("perhaps pid 200")
    assert why(status_of(PINNED_SLOT)) == "needs a second look"
    assert state(status_of(UNUSED)) == "not in use for 2 h"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (-5, "0 s"), (59.9, "59 s"), (60, "1 min"), (3723, "1 h 2 min"), (3605, "1 h"), (90061, "1 d 1 h")],
)
def test_duration_has_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1023 B"), (-2048, "-2.0 KiB"), (3 * GIB, "3.0 GiB")])
def test_size_is_in_binary_units(count: int, text: str) -> None:
    assert size(count) == text
