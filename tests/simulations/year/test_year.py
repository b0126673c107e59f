"""A small year of incidents (tests/year): the real healer, model clusters, a judge who knows what really happened."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from healer.remedies.force_snapshot import outcome
from healer.remedies.force_snapshot.schedule import Attempt, LookAgain, Progress
from healer.remedies.progress import Track
from healer.remedies.registry import RECORD, REMEDIES
from healer.remedies.slot_state import SlotState
from tests.simulations.year.incidents import KINDS
from tests.simulations.year.run import run
from tests.simulations.year.told import page


@pytest.mark.parametrize("seed", [1, 2])
def test_nothing_is_done_or_told_wrong_and_no_alert_is_lost(seed: int) -> None:
    world, spent = run(clusters=100, incidents=150, seed=seed)
    told = page(world, 100, 150, seed, spent)
    assert not world.judge.wrongs, told
    # It was no quiet year.
    assert sum(world.judge.kinds.values()) >= 150
    assert len(world.judge.kinds) >= len(KINDS) - 2
    assert world.judge.outcomes["healed"] > 50, told
    assert world.judge.ended[True] > 50, told


def ruled(**rules: Callable[..., Any]) -> Any:
    """Have the remedy decide by other rules."""
    other = replace(RECORD, rules=replace(RECORD.rules, **rules))
    return mock.patch.dict(REMEDIES, {RECORD.name: other})


def test_the_judge_sees_a_healer_that_calls_without_need() -> None:
    def always(_tracks: object, progress: Progress, _settings: object) -> Attempt | LookAgain:
        early = progress.last_attempt is not None and progress.now - progress.last_attempt < 10.0
        return LookAgain(5.0) if early else Attempt(10.0)

    with ruled(next_step=always):
        world, _ = run(clusters=60, incidents=90, seed=1)
    assert world.judge.wrongs["called for a creation on a primary"] > 0


def test_the_judge_sees_a_healer_that_sleeps() -> None:
    def never(*_: object) -> LookAgain:
        return LookAgain(5.0)

    with ruled(next_step=never):
        world, _ = run(clusters=20, incidents=30, seed=1)
    assert world.judge.wrongs["an alert is lost: a record would help, and none is asked for"] > 0


def test_the_judge_sees_a_healer_that_boasts() -> None:
    def ours(track: Track) -> Track:
        return replace(track, called_in_time=True)

    def advance(track: Track, sight: SlotState, now: float = 0.0) -> Track:
        return outcome.advance(ours(track), sight, now)

    with ruled(advance=advance), mock.patch.object(outcome, "_made_before", return_value=False):
        world, _ = run(clusters=60, incidents=90, seed=1)
    assert any(wrong.startswith("claimed what is not so: healed") for wrong in world.judge.wrongs)
