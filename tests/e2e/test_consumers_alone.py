"""One third-party consumer at a time, with the healer running from the start: its own alert gets it healed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.consumers.programs import all_of, following, insert, prepare
from tests.support.consumers.seen import comes_to, outcomes
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import Stack

pytestmark = [pytest.mark.e2e]


@pytest.fixture(scope="module")
def databases() -> Iterator[Stack]:
    """Replaces the session's fixture: adds a subscriber and all programs as shipped."""
    with Stack(as_shipped=True) as stack:
        stack.start_databases(rows=20)
        prepare(stack)
        stack.start_exporter()
        stack.start_healer()
        stack.start_monitoring()
        yield stack


@pytest.mark.parametrize("name", ["pg_recvlogical", "psycopg2", "pg_logical_replication", "debezium", "subscription"])
def test_slot_of_a_consumer_is_healed_and_a_row_arrives(databases: Stack, tmp_path: Path, name: str) -> None:
    [consumer] = [consumer for consumer in all_of(databases, databases.standby, tmp_path) if consumer.name == name]
    with databases.quiet(), following(consumer):
        comes_to(lambda: outcomes(databases, {name}), {name: ("healed", "usable after our call")}, 90)
        wait_for(lambda: consumer.follows, f"{name} follows", 60)
        insert(databases.primary, f"written for {name}")
        wait_for(lambda: consumer.has(f"written for {name}"), f"{name} has the row", 30, consumer.process.log)
