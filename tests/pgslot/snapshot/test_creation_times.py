"""A creation has not waited for longer than since the last snapshot that did not show it."""

from dataclasses import replace

from pgslot.snapshot.creation_times import CreationTimes, bound_waits
from pgslot.snapshot.rows import SlotCreation
from tests.support.builders.snapshots import CREATION

IN_A_LONG_STATEMENT = replace(CREATION, wait_seconds=41.5)


def waits(*snapshots: tuple[float, tuple[SlotCreation, ...]]) -> list[float | None]:
    """Return the waits in the last of these snapshots, each given with the time of its end; all took 0.5 s."""
    times, creations = CreationTimes(), tuple[SlotCreation, ...]()
    for now, shown in snapshots:
        times, creations = bound_waits(times, shown, now - 0.5, now)
    return [creation.wait_seconds for creation in creations]


def test_creation_in_a_statement_that_began_long_before_has_waited_since_the_snapshot_without_it() -> None:
    assert waits((100.0, ()), (102.0, (IN_A_LONG_STATEMENT,))) == [2.5]
    later = replace(IN_A_LONG_STATEMENT, wait_seconds=51.5)
    assert waits((100.0, ()), (102.0, (IN_A_LONG_STATEMENT,)), (112.0, (later,))) == [12.5]


def test_first_snapshot_takes_the_servers_word() -> None:
    assert waits((100.0, (IN_A_LONG_STATEMENT,))) == [41.5]
    assert waits((100.0, (IN_A_LONG_STATEMENT,)), (110.0, (replace(CREATION, wait_seconds=51.5),))) == [51.5]


def test_server_is_believed_when_it_says_less() -> None:
    assert waits((100.0, ()), (130.0, (replace(CREATION, wait_seconds=3.0),))) == [3.0]
    assert waits((100.0, ()), (130.0, (replace(CREATION, wait_seconds=None),))) == [None]


def test_every_slot_of_one_statement_has_its_own_wait() -> None:
    second = replace(IN_A_LONG_STATEMENT, slot_name="second")
    assert waits((100.0, ()), (110.0, (IN_A_LONG_STATEMENT,)), (120.0, (second,))) == [10.5]


def test_creation_that_ends_is_forgotten() -> None:
    times, _ = bound_waits(CreationTimes(at=99.0), (IN_A_LONG_STATEMENT,), 100.0, 100.5)
    times, _ = bound_waits(times, (), 110.0, 110.5)
    assert times == CreationTimes(110.0)
