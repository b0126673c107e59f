"""Unmodified third-party consumers on real servers hang, and continue when the event that they wait for arrives."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.support.consumers.programs import Consumer, all_of, following, insert, prepare
from tests.support.consumers.seen import blockers, comes_to, in_creation, outcomes, reasons
from tests.support.servers.processes import NotReadyError, wait_for
from tests.support.servers.stack import CLUSTER, PRIMARY_NODE, STANDBY_NODE, Stack
from tests.support.stories import CONTROL_SECONDS

# All consumers start at once, and Debezium takes long to start.
START_SECONDS = 90.0
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", params=[16, 17, 18])
def databases(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Replaces the session's fixture: adds a subscriber and the shipped exporter and monitoring, without the healer."""
    with Stack(major=request.param, as_shipped=True) as stack:
        stack.start_databases(rows=20)
        prepare(stack)
        stack.start_exporter()
        stack.start_monitoring()
        yield stack
        stack.stop_healer()


def test_consumers_of_a_standby_hang_without_the_healer_and_continue_with_it(databases: Stack, tmp_path: Path) -> None:
    """The alerts reach the healer through Prometheus and Alertmanager; a subscription hangs again for every table."""
    standby = databases.standby
    wait_until_reads_write_no_wal(databases)
    consumers = all_of(databases, standby, tmp_path)
    names = {consumer.name for consumer in consumers}
    with following(*consumers):
        comes_to(lambda: in_creation(standby), names, START_SECONDS)
        hung = dict.fromkeys(names, "running_xacts")
        comes_to(lambda: reasons(databases, STANDBY_NODE), hung)
        with pytest.raises(NotReadyError):
            wait_for(lambda: in_creation(standby) != names or exited_outputs(consumers), "one goes on", CONTROL_SECONDS)
        assert reasons(databases, STANDBY_NODE) == hung

        # From here on, only the healer has records written.
        with databases.primary.no_records_by_itself():
            databases.start_healer()
            wait_for(lambda: all(consumer.follows for consumer in consumers), "all of them follow", 60)
            assert in_creation(standby) == set()
            insert_and_receive(databases, consumers, "for those at the standby")
            comes_to(lambda: outcomes(databases, names), dict.fromkeys(names, ("healed", "usable after our call")))
    assert databases.healer.value("pgslot_heal_episodes_total", cluster=CLUSTER, outcome="no_effect") == 0


def test_consumers_of_a_primary_continue_when_the_named_blocker_commits(databases: Stack, tmp_path: Path) -> None:
    primary, exporter = databases.primary, databases.exporter
    databases.stop_healer()
    consumers = all_of(databases, primary, tmp_path)
    names = {consumer.name for consumer in consumers}
    with primary.hold_transaction("nightly batch") as holder, following(*consumers):
        comes_to(lambda: in_creation(primary), names, START_SECONDS)
        blocked = dict.fromkeys(names, "transaction")
        comes_to(lambda: reasons(databases, PRIMARY_NODE), blocked)
        blocker = dict.fromkeys(names, (str(holder.pid), "nightly batch"))
        comes_to(lambda: blockers(databases), blocker)
        assert in_creation(primary) == names
        assert not exited_outputs(consumers)

        holder.commit()
        wait_for(lambda: all(consumer.follows for consumer in consumers), "all of them follow", 60)
        assert in_creation(primary) == set()
        insert_and_receive(databases, consumers, "for those at the primary")
    assert exporter.samples("pgslot_creation_wait_reason", node=PRIMARY_NODE) == []


def wait_until_reads_write_no_wal(stack: Stack) -> None:
    """
    Wait until the primary is idle and stays idle when it is read.

    The first session that reads a catalog page after a change, such as the first login of a new role, may prune the
    page or set hint bits. That writes WAL, the background writer then logs a record, and every wait ends. VACUUM does
    this work in advance, once the standby's feedback no longer keeps dead rows.
    """
    feedback = "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = 'standby' AND age(xmin) = 0"
    wait_for(lambda: stack.primary.sql(feedback), "the standby keeps no dead rows")
    stack.primary.sql("VACUUM")
    assert stack.exporter.get("/metrics").status_code == 200
    stack.wait_until_idle()


def exited_outputs(consumers: Sequence[Consumer]) -> dict[str, str]:
    """Return the output of the consumers that have exited, by name."""
    return {consumer.name: consumer.output for consumer in consumers if not consumer.process.running}


def insert_and_receive(stack: Stack, consumers: Sequence[Consumer], item: str) -> None:
    """Write a row with this item on the primary and wait until every consumer has it."""
    insert(stack.primary, item)
    for consumer in consumers:
        wait_for(partial(consumer.has, item), f"{consumer.name} has the row", 60, consumer.process.log)
