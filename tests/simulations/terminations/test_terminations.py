"""A small year of transactions that hold slots or seem to: whom the healer ends, and what the judge convicts."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest

from healer.remedies.connection import PrimaryConnection
from healer.remedies.progress import Outcome
from healer.remedies.slot_state import SlotState
from healer.remedies.terminate import outcome
from healer.remedies.terminate.blocking_transaction import BlockingTransaction, blocker_of
from healer.remedies.terminate.progress import TerminationProgress
from tests.simulations.terminations import incidents, judge
from tests.simulations.terminations.act_statement import ActStatement
from tests.simulations.terminations.incidents import KINDS, BlockedIncident
from tests.simulations.terminations.judge import TerminationJudge
from tests.simulations.terminations.report import report
from tests.simulations.year.run import run

pytestmark = pytest.mark.simulation


def judged(statement: ActStatement, kinds: Sequence[BlockedIncident], count: int) -> TerminationJudge:
    weights: Mapping[BlockedIncident, float] = dict.fromkeys(kinds, 1.0)
    simulation, _ = run(clusters=count, incidents=count, seed=1, statement=statement, kinds=weights)
    return simulation.termination_judge


def test_healer_ends_only_sessions_that_hold_a_slot_and_claims_no_more(statement: ActStatement) -> None:
    simulation, spent = run(clusters=20, incidents=20, seed=2, statement=statement, kinds=KINDS)
    judge = simulation.termination_judge
    assert not judge.mistakes, report(judge, spent)
    assert len(judge.endings) > 5, report(judge, spent)
    assert judge.holders_left == 0, report(judge, spent)


@contextmanager
def without_guards(statement: ActStatement, *guards: str) -> Iterator[None]:
    """Let the statement act where only these guards would refuse."""
    run_statement = statement.run

    def run_without(sql: str, *arguments: Any) -> dict[str, Any]:
        for guard in guards:
            assert f"THEN '{guard}'" in sql
            sql = sql.replace(f"THEN '{guard}'", "AND false THEN NULL")
        return run_statement(sql, *arguments)

    with mock.patch.object(statement, "run", run_without):
        yield


def oldest(state: SlotState) -> BlockingTransaction | None:
    """Return the oldest transaction that could be the cause, as if that were a proof."""
    blocking = blocker_of(state)
    return None if blocking is None else replace(blocking, proven=True, rivals=(), awaited=0)


def test_judge_convicts_ending_by_seniority(statement: ActStatement) -> None:
    """As it was before there was a proof: the oldest xid is taken for the holder (C1, C2 of the review)."""
    kinds = (incidents.older_without_wal, incidents.just_committed)
    with without_guards(statement, "ambiguous", "unproven"), mock.patch.object(outcome, "blocker_of", oldest):
        assert judged(statement, kinds, 5).mistakes[judge.NOT_THE_HOLDER] > 0


def test_judge_convicts_acts_after_the_kill_switch(statement: ActStatement) -> None:
    async def leave_it(_connection: PrimaryConnection[Any, Any]) -> None:
        pass

    with mock.patch.object(PrimaryConnection, "interrupt", leave_it):
        assert judged(statement, (incidents.switched_off_in_flight,), 3).mistakes[judge.SWITCHED_OFF] > 0


def test_judge_convicts_what_the_rules_do_not_allow(statement: ActStatement) -> None:
    with without_guards(statement, "too_young", "hour_spent", "clock"):
        assert judged(statement, (incidents.clock_steps,), 3).mistakes[judge.NOT_ALLOWED] > 0


def test_judge_convicts_a_heal_that_is_not_ours(statement: ActStatement) -> None:
    def boast(progress: TerminationProgress, how: str) -> TerminationProgress:
        return progress.end(Outcome.HEALED, how)

    kinds = (incidents.older_without_wal, incidents.just_committed)
    with mock.patch.object(outcome, "_unblocked", boast):
        assert judged(statement, kinds, 4).mistakes[judge.FALSE_HEALED] > 0
