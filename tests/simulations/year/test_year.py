"""A small year of incidents: the real healer on model clusters, and a judge that knows their true state."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from healer.remedies.attempt import Act, Wait
from healer.remedies.base import EpisodeProgress
from healer.remedies.force_snapshot.progress import RecordProgress
from healer.remedies.force_snapshot.remedy import ForceSnapshot
from healer.remedies.registry import REMEDIES
from healer.remedies.slot_state import SlotState
from pgslot.config.model import HealerSettings
from tests.simulations.terminations.act_statement import ActStatement
from tests.simulations.year.incidents import KINDS
from tests.simulations.year.report import report_page
from tests.simulations.year.run import ALL_KINDS, run

pytestmark = pytest.mark.simulation


def test_healer_makes_no_wrong_call_or_claim_and_loses_no_alert() -> None:
    simulation, spent = run(clusters=100, incidents=150, seed=1)
    report = report_page(simulation, 100, 150, 1, spent)
    assert not simulation.judge.mistakes, report
    # The year had enough incidents of nearly all kinds.
    assert sum(simulation.judge.kinds.values()) >= 150
    assert len(simulation.judge.kinds) >= len(KINDS) - 2
    assert simulation.judge.outcomes["healed"] > 50, report
    assert simulation.judge.ended[True] > 50, report


def test_one_healer_does_both_remedies_without_a_mistake(statement: ActStatement) -> None:
    """Of an incident in five transactions are the subject, and the healer may end those that its owner allows."""
    simulation, spent = run(clusters=50, incidents=60, seed=2, statement=statement, kinds=ALL_KINDS)
    report = report_page(simulation, 50, 60, 2, spent)
    assert not simulation.judge.mistakes, report
    assert not simulation.termination_judge.mistakes, report
    assert simulation.judge.ended[True] > 10, report
    assert len(simulation.termination_judge.endings) > 1, report


def with_remedy(remedy: ForceSnapshot) -> Any:
    """Register another remedy under this name."""
    return mock.patch.dict(REMEDIES, {remedy.name: remedy})


def test_judge_detects_unnecessary_calls() -> None:
    class Always(ForceSnapshot):
        def next_step(
            self, _open_slots: Collection[RecordProgress], episode: EpisodeProgress, _settings: HealerSettings
        ) -> Act | Wait:
            early = episode.last_attempt is not None and episode.now - episode.last_attempt < 10.0
            return Wait(5.0) if early else Act(10.0)

    with with_remedy(Always()):
        simulation, _ = run(clusters=60, incidents=90, seed=1)
    assert simulation.judge.mistakes["called for a creation on a primary"] > 0


def test_judge_detects_idle_healer() -> None:
    class Never(ForceSnapshot):
        def next_step(self, *_: object) -> Act | Wait:
            return Wait(5.0)

    with with_remedy(Never()):
        simulation, _ = run(clusters=20, incidents=30, seed=1)
    assert simulation.judge.mistakes["an alert is lost: a record would help, and none is asked for"] > 0


def test_judge_detects_false_claims_of_healing() -> None:
    class Boasting(ForceSnapshot):
        def apply_observation(self, progress: RecordProgress, state: SlotState, now: float) -> RecordProgress:
            # Without the ranges of its records, the healer cannot tell whether a record is its own.
            return super().apply_observation(replace(progress, called_in_time=True, record_ranges=()), state, now)

    with with_remedy(Boasting()):
        simulation, _ = run(clusters=60, incidents=90, seed=1)
    assert any(mistake.startswith("claimed what is not so: healed") for mistake in simulation.judge.mistakes)
