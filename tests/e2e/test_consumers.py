"""Consumers of other people, unmodified, on real servers: each hangs, and each goes on when what it waits for comes."""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.support.consumers.programs import Consumer, all_of, following, insert, prepare
from tests.support.consumers.seen import blockers, comes_to, in_creation, outcomes, reasons
from tests.support.servers.processes import NotReadyError, wait_for
from tests.support.servers.stack import CLUSTER, PRIMARY_NODE, STANDBY_NODE, Stack
from tests.support.stories import CONTROL_SECONDS

# All of them are started at once, and Debezium needs a while for that.
START_SECONDS = 90.0
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


@pytest.fixture(scope="module", params=[16, 17, 18])
def databases(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """In place of the session's: with a subscriber and the whole chain as shipped, all but the healer."""
    with Stack(major=request.param, as_shipped=True) as stack:
        stack.start_databases(rows=20)
        prepare(stack)
        stack.start_exporter()
        stack.start_monitoring()
        yield stack
        stack.stop_healer()


def test_consumers_of_a_standby_hang_without_the_healer_and_continue_with_it(databases: Stack, tmp_path: Path) -> None:
    """By way of Prometheus and Alertmanager; a subscription hangs once more for each of its tables."""
    standby = databases.standby
    idle_though_looked_at(databases)
    consumers = all_of(databases, standby, tmp_path)
    names = {consumer.name for consumer in consumers}
    with following(*consumers):
        comes_to(lambda: in_creation(standby), names, START_SECONDS)
        hung = dict.fromkeys(names, "running_xacts")
        comes_to(lambda: reasons(databases, STANDBY_NODE), hung)
        with pytest.raises(NotReadyError):
            wait_for(lambda: in_creation(standby) != names or ended(consumers), "one goes on", CONTROL_SECONDS)
        assert reasons(databases, STANDBY_NODE) == hung

        # From here on no record but the healer's.
        with databases.primary.no_records_by_itself():
            databases.start_healer()
            wait_for(lambda: all(each.follows for each in consumers), "all of them follow", 60)
            assert in_creation(standby) == set()
            arrives(databases, consumers, "for those at the standby")
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
        assert not ended(consumers)

        holder.commit()
        wait_for(lambda: all(each.follows for each in consumers), "all of them follow", 60)
        assert in_creation(primary) == set()
        arrives(databases, consumers, "for those at the primary")
    assert exporter.samples("pgslot_creation_wait_reason", node=PRIMARY_NODE) == []


def idle_though_looked_at(stack: Stack) -> None:
    """
    Wait until the primary is idle, and stays so whoever looks.

    The first to read a page of a catalog after a change may prune it, or set hint bits, as with a new role's first
    login: that is WAL, after which the background writer logs a record, and every wait ends. VACUUM leaves nothing of
    it to do, once the standby's feedback no longer keeps dead rows.
    """
    feedback = "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = 'standby' AND age(xmin) = 0"
    wait_for(lambda: stack.primary.sql(feedback), "the standby keeps no dead rows")
    stack.primary.sql("VACUUM")
    assert stack.exporter.get("/metrics").status_code == 200
    stack.wait_until_idle()


def ended(consumers: Sequence[Consumer]) -> dict[str, str]:
    """Return those that run no more, and what they said."""
    return {consumer.name: consumer.output for consumer in consumers if not consumer.process.running}


def arrives(stack: Stack, consumers: Sequence[Consumer], item: str) -> None:
    """Write a row with this item on the primary, which each of them gets."""
    insert(stack.primary, item)
    for consumer in consumers:
        wait_for(partial(consumer.has, item), f"{consumer.name} has the row", 60, consumer.process.log)
