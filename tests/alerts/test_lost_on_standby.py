"""Warnings precede the loss of a slot on a standby, in every version, though the server itself gives none."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pgslot.snapshot.queries import SUPPORTED
from tests.support.incidents import MEBIBYTE, Incidents, limit_retained_wal
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import STANDBY_NODE, Stack
from tests.support.servers.workload import write_wal
from tests.support.thresholds import THRESHOLDS

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

A_MESSAGE = "pg_catalog.pg_logical_emit_message(false, 'test', 'the segment that was switched to has begun')"
LIMIT = 128
"""MiB of WAL that a slot of the standby may retain."""
IDLE_TIMEOUT_MAJOR = 18
"""The first major version with idle_replication_slot_timeout."""


@pytest.fixture(params=SUPPORTED)
def databases(request: pytest.FixtureRequest) -> Iterator[Stack]:
    with monitored_stack(request.param) as stack:
        yield stack


@contextmanager
def monitored_stack(major: int) -> Iterator[Stack]:
    with Stack(major=major, thresholds=THRESHOLDS) as stack:
        stack.start_databases()
        stack.start_exporter()
        stack.start_monitoring()
        yield stack


def create_slots(stack: Stack) -> list[str]:
    """Create a physical slot on the standby and, from version 16 on, a logical one."""
    stack.standby.sql("SELECT pg_catalog.pg_create_physical_replication_slot('physical', true)")
    if stack.major < 16:
        return ["physical"]
    with stack.standby.create_slot("logical") as creator:
        while not creator.wait(0.5):
            stack.primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
    return ["physical", "logical"]


def headroom_and_status(stack: Stack, slot: str) -> tuple[float | None, str | None]:
    """Return the slot's safe_wal_size in bytes and its wal_status, by the metrics; None where there is no series."""
    statuses = stack.exporter.samples("pgslot_wal_status", node=STANDBY_NODE, slot_name=slot)
    status = next((sample.labels["wal_status"] for sample in statuses if sample.value), None)
    return stack.exporter.value("pgslot_safe_wal_size_bytes", node=STANDBY_NODE, slot_name=slot), status


def test_both_warnings_precede_the_loss(databases: Stack) -> None:
    primary, standby = databases.primary, databases.standby
    incidents = Incidents(databases)
    standby.sql("ALTER SYSTEM SET max_wal_size = '64MB'")
    limit_retained_wal(standby, f"{LIMIT}MB")
    slots = create_slots(databases)
    statuses = {slot: [headroom_and_status(databases, slot)[1]] for slot in slots}
    headroom = {slot: [headroom_and_status(databases, slot)[0]] for slot in slots}
    constant = standby.sql("SELECT safe_wal_size, wal_status FROM pg_catalog.pg_replication_slots")
    for _ in range(11):
        write_wal(primary, 12 * MEBIBYTE)
        primary.wait_until_replayed(standby, A_MESSAGE)
        for slot in slots:
            size, status = headroom_and_status(databases, slot)
            headroom[slot].append(size)
            statuses[slot].append(status)
    # The server itself still shows the values of the beginning.
    assert standby.sql("SELECT safe_wal_size, wal_status FROM pg_catalog.pg_replication_slots") == constant
    for slot in slots:
        sizes = [size for size in headroom[slot] if size is not None]
        assert sizes == sorted(sizes, reverse=True)
        # The limit counts in whole segments of 16 MiB: at most one more, less the part written of the current one.
        assert (LIMIT + 16) * MEBIBYTE >= sizes[0] > (LIMIT - 16) * MEBIBYTE
        assert sizes[-1] < 0
        assert [status for i, status in enumerate(statuses[slot]) if status not in statuses[slot][:i]] == [
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
        assert headroom_and_status(databases, slot) == (None, "lost")
        for alert in ("PgSlotWalHeadroomLow", "PgSlotLossPredicted", "PgSlotLost"):
            assert incidents.fired[alert, slot]["labels"]["node"] == STANDBY_NODE


@pytest.mark.parametrize("major", [major for major in SUPPORTED if major >= IDLE_TIMEOUT_MAJOR])
def test_idle_slots_of_a_standby_are_invalidated(major: int) -> None:
    with monitored_stack(major) as stack:
        primary, standby = stack.primary, stack.standby
        incidents = Incidents(stack)
        slots = create_slots(stack)
        standby.sql("ALTER SYSTEM SET idle_replication_slot_timeout = '20s'")
        standby.sql("SELECT pg_catalog.pg_reload_conf()")
        for slot in slots:
            incidents.fires("PgSlotIdleTimeoutNear", slot)
            assert incidents.fired["PgSlotIdleTimeoutNear", slot]["labels"]["node"] == STANDBY_NODE
        write_wal(primary, MEBIBYTE)
        idle = "SELECT bool_and(clock_timestamp() - inactive_since > '20s') FROM pg_catalog.pg_replication_slots"
        wait_for(lambda: standby.sql(idle) == [(True,)], "they have been idle for longer than that")
        primary.sql("CHECKPOINT")
        primary.wait_until_replayed(standby)
        standby.sql("CHECKPOINT")
        for slot in slots:
            incidents.fires("PgSlotLost", slot)
            reason = {"node": STANDBY_NODE, "slot_name": slot, "reason": "idle_timeout"}
            assert stack.exporter.value("pgslot_invalidation_reason", **reason) == 1
        incidents.ends("PgSlotIdleTimeoutNear")
