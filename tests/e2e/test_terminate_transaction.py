"""
The incident that led to this project, end to end: a forgotten transaction endangers slots.

The server's state reaches the healer through exporter, Prometheus' rules and Alertmanager's routes. The healer
terminates the session without an operator.
"""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.blocking_transactions import (
    APPLICATION,
    USER,
    alive,
    delete_records,
    holding,
    set_up_roles,
    termination_records,
    wait_until_blocked,
)
from tests.support.incidents import MEBIBYTE, limit_retained_wal, log_standby_snapshot
from tests.support.running_healer import usable
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import CLUSTER, PRIMARY_NODE, Stack
from tests.support.servers.workload import confirmed_all, streaming_consumer, write_wal

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

THRESHOLDS = {"PgSlotEndangeredByTransaction": "5", "PgSlotLossPredicted": "1s"}
END_TRANSACTIONS = {
    "dry_run": False,
    "users": [USER],
    "applications": [APPLICATION],
    "idle_in_transaction_for": "2s",
    "at_most_per_hour": 2,
}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(thresholds=THRESHOLDS, end_transactions=END_TRANSACTIONS) as stack:
        stack.start_databases()
        set_up_roles(stack.primary)
        stack.start_exporter()
        stack.start_healer()
        stack.start_monitoring()
        yield stack


def heal_of(stack: Stack, slot: str) -> dict[str, object] | None:
    """Return the healer's result for the slot; None until there is one."""
    episodes = [episode for episode in stack.healer.get_json("/episodes") if episode["remedy"] == "end_transaction"]
    return next((heal for episode in episodes for heal in episode["slots"] if heal["slot_name"] == slot), None)


def test_endangered_slot_is_saved_from_loss(stack: Stack) -> None:
    primary = stack.primary
    with ExitStack() as incident:
        incident.enter_context(streaming_consumer(primary, "cdc", stack.folder))
        victim = incident.enter_context(holding(primary))
        pid = victim.info.backend_pid
        victim.execute("SELECT pg_catalog.pg_logical_emit_message(true, 'held', 'by this transaction')")
        limit_retained_wal(primary, "256MB")
        write_wal(primary, 150 * MEBIBYTE)
        log_standby_snapshot(stack)
        wait_for(confirmed_all(primary, "cdc"), "the consumer has confirmed all")

        def session_ended() -> bool:
            """Write a little WAL at every poll, as long as more than the last segments are left."""
            [(left,)] = primary.sql("SELECT safe_wal_size FROM pg_catalog.pg_replication_slots WHERE slot_name = 'cdc'")
            if left > 40 * MEBIBYTE:
                primary.sql("SELECT pg_catalog.pg_logical_emit_message(false, 'w', pg_catalog.repeat('x', 1000000))")
            return not alive(primary, pid)

        wait_for(session_ended, "the session is ended", timeout=240)
        heal = wait_for(lambda: heal_of(stack, "cdc"), "the healer has seen the effect", timeout=90)
        [(status, invalid)] = primary.sql(
            "SELECT wal_status, invalidation_reason FROM pg_catalog.pg_replication_slots WHERE slot_name = 'cdc'"
        )
    assert (heal["outcome"], heal["node"]) == ("healed", PRIMARY_NODE)
    assert (status in ("reserved", "extended"), invalid) == (True, None)
    assert termination_records(primary) == [(USER, APPLICATION, "cdc", "slot cdc keeps WAL because of it")]
    limit_retained_wal(primary, "1GB")
    primary.drop_slot("cdc")


def test_blocked_creation_completes_without_an_operator(stack: Stack) -> None:
    primary = stack.primary
    delete_records(primary)
    with holding(primary) as victim, primary.create_slot("blocked") as creator:
        pid = victim.info.backend_pid
        wait_until_blocked(primary, "blocked")
        assert creator.wait(120), "the creation has ended"
        assert creator.error is None
        assert not alive(primary, pid)
        heal = wait_for(lambda: heal_of(stack, "blocked"), "the healer has seen the effect")
    assert heal["outcome"] == "healed"
    assert usable(primary, "blocked")
    assert stack.healer.value("pgslot_heal_calls_total", remedy="end_transaction", result="ended", cluster=CLUSTER) == 2
    [audit, _] = [line for line in stack.healer.log_events() if line["msg"] == "ended a transaction"]
    assert audit["alerts"] == ["PgSlotEndangeredByTransaction"]
    assert audit["rule"] == f"users: [{USER}], applications: [{APPLICATION}], idle_in_transaction_for: 2s"
    primary.drop_slot("blocked")
