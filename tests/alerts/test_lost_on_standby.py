"""A slot of a standby that is lost, on each version: warnings come before, though the server itself gives none."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pgslot.snapshot.queries import SUPPORTED
from tests.support.incidents import MEBIBYTE, Incidents, limit
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import STANDBY_NODE, Stack
from tests.support.servers.workload import write_wal
from tests.support.thresholds import THRESHOLDS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

A_MESSAGE = "pg_catalog.pg_logical_emit_message(false, 'test', 'the segment that was switched to has begun')"
LIMIT = 128
"""MiB that a slot of the standby may hold back."""
HAS_IDLE_TIMEOUT = 18
"""Major version."""


@pytest.fixture(params=SUPPORTED)
def databases(request: pytest.FixtureRequest) -> Iterator[Stack]:
    with watched(request.param) as stack:
        yield stack


@contextmanager
def watched(major: int) -> Iterator[Stack]:
    with Stack(major=major, thresholds=THRESHOLDS) as stack:
        stack.start_databases()
        stack.start_exporter()
        stack.start_monitoring()
        yield stack


def make_slots(stack: Stack) -> list[str]:
    """Make a physical slot on the standby, and from 16 on a logical one."""
    stack.standby.sql("SELECT pg_catalog.pg_create_physical_replication_slot('physical', true)")
    if stack.major < 16:
        return ["physical"]
    with stack.standby.create_slot("logical") as creator:
        while not creator.wait(0.5):
            stack.primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
    return ["physical", "logical"]


def told(stack: Stack, slot: str) -> tuple[float | None, str | None]:
    """Return what the metrics say of the slot: how much is left, and its wal_status."""
    statuses = stack.exporter.samples("pgslot_wal_status", node=STANDBY_NODE, slot_name=slot)
    status = next((sample.labels["wal_status"] for sample in statuses if sample.value), None)
    return stack.exporter.value("pgslot_safe_wal_size_bytes", node=STANDBY_NODE, slot_name=slot), status


def test_both_warnings_precede_the_loss(databases: Stack) -> None:
    primary, standby = databases.primary, databases.standby
    incidents = Incidents(databases)
    standby.sql("ALTER SYSTEM SET max_wal_size = '64MB'")
    limit(standby, f"{LIMIT}MB")
    slots = make_slots(databases)
    statuses = {slot: [told(databases, slot)[1]] for slot in slots}
    left = {slot: [told(databases, slot)[0]] for slot in slots}
    constant = standby.sql("SELECT safe_wal_size, wal_status FROM pg_catalog.pg_replication_slots")
    for _ in range(11):
        write_wal(primary, 12 * MEBIBYTE)
        primary.wait_until_replayed(standby, A_MESSAGE)
        for slot in slots:
            size, status = told(databases, slot)
            left[slot].append(size)
            statuses[slot].append(status)
    # What the server says has not changed, and it says so until the end.
    assert standby.sql("SELECT safe_wal_size, wal_status FROM pg_catalog.pg_replication_slots") == constant
    for slot in slots:
        sizes = [size for size in left[slot] if size is not None]
        assert sizes == sorted(sizes, reverse=True)
        # Whole segments: one more than the limit, less what is written of the present one.
        assert (LIMIT + 16) * MEBIBYTE >= sizes[0] > (LIMIT - 16) * MEBIBYTE
        assert sizes[-1] < 0
        assert [s for i, s in enumerate(statuses[slot]) if s not in statuses[slot][:i]] == [
            "reserved",
            "extended",
            "unreserved",
        ]
        incidents.fires("PgSlotWalHeadroomLow", slot)
        incidents.fires("PgSlotLossPredicted", slot)
    primary.sql("CHECKPOINT")
    primary.wait_until_replayed(standby)
    standby.sql("CHECKPOINT")
    for slot in slots:
        incidents.fires("PgSlotLost", slot)
        assert told(databases, slot) == (None, "lost")
        for alert in ("PgSlotWalHeadroomLow", "PgSlotLossPredicted", "PgSlotLost"):
            assert incidents.fired[alert, slot]["labels"]["node"] == STANDBY_NODE


@pytest.mark.parametrize("major", [major for major in SUPPORTED if major >= HAS_IDLE_TIMEOUT])
def test_idle_slots_of_a_standby_are_invalidated(major: int) -> None:
    with watched(major) as stack:
        primary, standby = stack.primary, stack.standby
        incidents = Incidents(stack)
        slots = make_slots(stack)
        standby.sql("ALTER SYSTEM SET idle_replication_slot_timeout = '20s'")
        standby.sql("SELECT pg_catalog.pg_reload_conf()")
        for slot in slots:
            incidents.fires("PgSlotIdleTimeoutNear", slot)
            assert incidents.fired["PgSlotIdleTimeoutNear", slot]["labels"]["node"] == STANDBY_NODE
        write_wal(primary, MEBIBYTE)
        over = "SELECT bool_and(clock_timestamp() - inactive_since > '20s') FROM pg_catalog.pg_replication_slots"
        wait_for(lambda: standby.sql(over) == [(True,)], "they have been idle for longer than that")
        primary.sql("CHECKPOINT")
        primary.wait_until_replayed(standby)
        standby.sql("CHECKPOINT")
        for slot in slots:
            incidents.fires("PgSlotLost", slot)
            reason = {"node": STANDBY_NODE, "slot_name": slot, "reason": "idle_timeout"}
            assert stack.exporter.value("pgslot_invalidation_reason", **reason) == 1
        incidents.ends("PgSlotIdleTimeoutNear")
