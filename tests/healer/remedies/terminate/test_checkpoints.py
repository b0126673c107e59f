"""What checkpoints prove about running-xacts records where none can be forced (14 and 15)."""

import math

from healer.remedies.terminate.checkpoints import Checkpoint, CheckpointHistory
from pgslot.snapshot.history import EMPTY_HISTORY, LoggedRecords, add_records

BEFORE = Checkpoint(redo=100, end=150)
FIRST = Checkpoint(redo=1200, end=1250)
SECOND = Checkpoint(redo=2200, end=2250)


def test_one_checkpoint_sets_a_bound_and_proves_nothing_about_two_records() -> None:
    history = CheckpointHistory()
    assert history.add(BEFORE, position=1000, at=5.0, now=5.1) == (LoggedRecords(math.inf, 5.1, 100, 150),)


def test_two_checkpoints_after_a_check_logged_two_records_after_it() -> None:
    history = CheckpointHistory()
    history.add(BEFORE, position=1000, at=5.0, now=5.1)
    assert [logged.after for logged in history.add(FIRST, position=1300, at=300.0, now=300.1)] == [math.inf]
    assert [logged.after for logged in history.add(FIRST, position=1400, at=310.0, now=310.1)] == [math.inf]
    proven = history.add(SECOND, position=2300, at=600.0, now=600.1)
    assert proven == (LoggedRecords(math.inf, 600.1, 2200, 2250), LoggedRecords(5.0, 600.1, 1000, 2250))


def test_checkpoint_that_had_begun_before_the_check_is_not_one_of_the_two() -> None:
    history = CheckpointHistory()
    history.add(BEFORE, position=1000, at=5.0, now=5.1)
    begun = Checkpoint(redo=999, end=1100)
    assert [logged.after for logged in history.add(begun, position=1150, at=100.0, now=100.1)] == [math.inf]
    assert [logged.after for logged in history.add(FIRST, position=1300, at=300.0, now=300.1)] == [math.inf]


def test_checkpoint_of_a_shutdown_logs_no_record() -> None:
    assert CheckpointHistory().add(Checkpoint(redo=500, end=500), position=1000, at=5.0, now=5.1) == ()


def test_bounded_history_holds_several_checkpoints_however_many_checks_there_are_between_two() -> None:
    """By default half an hour of checks every ten seconds sees six checkpoints."""
    checkpoints, history = CheckpointHistory(), EMPTY_HISTORY
    for second in range(0, 1800, 10):
        begun = second // 300 * 300
        checkpoint = Checkpoint(redo=begun * 10, end=begun * 10 + 5)
        for logged in checkpoints.add(checkpoint, position=second * 10 + 7, at=float(second), now=second + 0.1):
            history = add_records(history, logged)
    assert history.records[0] == LoggedRecords(math.inf, 0.1, 0, 5)
    # Of the checks before a checkpoint the last one is known to precede it and the next one.
    assert [logged.after for logged in history.records if logged.after < math.inf] == [290.0, 590.0, 890.0, 1190.0]
