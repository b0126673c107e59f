"""The states of a slot's heal, whatever the remedy: the diagram in SlotProgress' docstring as a table."""

from dataclasses import replace

import pytest

from healer.remedies.attempt import AttemptResult, Unavailable
from healer.remedies.base import AnyRemedy, EpisodeProgress
from healer.remedies.force_snapshot.connection import RecordAttempt
from healer.remedies.progress import Outcome, SlotProgress
from healer.remedies.registry import REMEDIES
from healer.remedies.slot_state import SlotCondition, SlotState
from healer.remedies.terminate.connection import TerminationAttempt
from pgslot.config.model import HealerSettings
from tests.support.builders.slot_states import C, R, existing, waiting
from tests.support.builders.snapshots import TRANSACTION

SETTINGS = HealerSettings()
USABLE = existing(C.NONE)
LOST = SlotState(SlotCondition.LOST)
DROPPED = SlotState(SlotCondition.DROPPED)
UNOBSERVED = SlotState(SlotCondition.UNOBSERVED)
NEED = waiting(R.RUNNING_XACTS)
ATTEMPTS = {"log_standby_snapshot": RecordAttempt, "end_transaction": TerminationAttempt}
EVERY = pytest.mark.parametrize("remedy", REMEDIES.values(), ids=REMEDIES.keys())


@EVERY
@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        (NEED, None),
        (UNOBSERVED, None),
        (USABLE, Outcome.RESOLVED_ITSELF),
        (DROPPED, Outcome.RESOLVED_ITSELF),
        (LOST, Outcome.GAVE_UP),
    ],
    ids=["in need", "unobserved", "usable", "dropped", "lost"],
)
def test_snapshot_ends_an_open_heal_or_leaves_it_open(
    remedy: AnyRemedy, state: SlotState, outcome: Outcome | None
) -> None:
    progress: SlotProgress = remedy.begin(3.0)
    assert (progress.open, progress.since, progress.now) == (True, 3.0, 3.0)
    progress = remedy.apply_observation(progress, state, 4.0)
    assert (progress.outcome, progress.now) == (outcome, 4.0)


@EVERY
@pytest.mark.parametrize(
    ("change", "now", "outcome"),
    [
        ({}, 5.0, None),
        ({"withdrawn": "resolved"}, 5.0, Outcome.CANCELLED),
        ({}, SETTINGS.give_up_after, Outcome.GAVE_UP),
        ({"unavailable": Unavailable.NO_PRIMARY}, SETTINGS.give_up_after, Outcome.UNAVAILABLE),
    ],
    ids=["in time", "withdrawn", "out of time", "out of time during a failover"],
)
def test_timeout_ends_an_open_heal(
    remedy: AnyRemedy, change: dict[str, object], now: float, outcome: Outcome | None
) -> None:
    progress = remedy.apply_observation(remedy.begin(), NEED, 1.0)
    progress = replace(progress, **change)
    assert remedy.apply_timeouts(progress, EpisodeProgress(now=now), SETTINGS).outcome is outcome


@EVERY
def test_heal_with_an_outcome_no_longer_changes(remedy: AnyRemedy) -> None:
    ended = remedy.begin().end(Outcome.HEALED, "usable")
    attempt = ATTEMPTS[remedy.name](AttemptResult.ERROR, error="broken pipe")
    assert remedy.apply_attempt(ended, attempt, 5.0) is ended
    assert remedy.apply_timeouts(ended, EpisodeProgress(now=1e6), SETTINGS) is ended
    observed = remedy.apply_observation(ended, LOST, 6.0)
    assert (observed.outcome, observed.why, observed.now) == (Outcome.HEALED, "usable", 6.0)
    assert not remedy.wants_attempt(ended)


@EVERY
@pytest.mark.parametrize("outcome", Outcome)
def test_only_a_slot_that_was_well_can_reopen(remedy: AnyRemedy, outcome: Outcome) -> None:
    need = {
        "log_standby_snapshot": NEED,
        "end_transaction": waiting(R.TRANSACTION, on_primary=True),
    }[remedy.name]
    progress = remedy.apply_observation(remedy.begin().end(outcome, "why"), USABLE, 1.0)
    reopens = remedy.should_reopen(progress, blocked(need))
    assert reopens is (outcome in (Outcome.HEALED, Outcome.RESOLVED_ITSELF))


def blocked(state: SlotState) -> SlotState:
    """Return the state with a transaction that blocks it, if that is what it waits for."""
    if state.wait is None or state.wait.reason is not R.TRANSACTION:
        return state
    return replace(state, wait=replace(state.wait, blocker=TRANSACTION))
