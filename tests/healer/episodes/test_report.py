"""The outcome of an episode of several slots, and the limits of its report."""

import pytest

from healer.episodes.journal import EpisodeJournal
from healer.episodes.report import MAX_RESULTS, TIMELINE_LENGTH, SlotResult, summary
from healer.remedies.progress import Outcome
from healer.remedies.registry import FORCE_SNAPSHOT
from healer.remedies.slot_state import SlotKey

OTHERWISE = (Outcome.CANCELLED, "the healer stops")


def result(slot: str, outcome: Outcome, why: str) -> SlotResult:
    return SlotResult("n", slot, outcome, why, seconds=1.0, calls=1, heal_seconds=None)


HEALED = result("a", Outcome.HEALED, "usable after our call")
LOST = result("b", Outcome.GAVE_UP, "the slot is lost: it was invalidated")
MANY = [result(f"s{i}", Outcome.NO_EFFECT, f"because of {i}") for i in range(7)]


@pytest.mark.parametrize(
    ("results", "outcome", "why"),
    [
        ([], *OTHERWISE),
        ([HEALED], Outcome.HEALED, "usable after our call"),
        ([HEALED, result("c", HEALED.outcome, HEALED.why)], Outcome.HEALED, "usable after our call"),
        (
            [HEALED, LOST],
            Outcome.GAVE_UP,
            "b: gave_up (the slot is lost: it was invalidated); a: healed (usable after our call)",
        ),
        ([LOST, result("d", Outcome.ERROR, "internal error")], Outcome.ERROR, None),
        ([HEALED, result("d", Outcome.RESOLVED_ITSELF, "gone")], Outcome.HEALED, None),
        (MANY, Outcome.NO_EFFECT, "; ".join(f"s{i}: no_effect (because of {i})" for i in range(5)) + "; and 2 more"),
    ],
)
def test_episode_has_the_most_severe_outcome_of_its_slots(
    results: list[SlotResult], outcome: Outcome, why: str | None
) -> None:
    episode_outcome, text = summary(results, OTHERWISE)
    assert episode_outcome is outcome
    assert why is None or text == why


def test_report_of_a_long_episode_keeps_the_last_slots() -> None:
    """The slot of every table synchronisation has a new name."""
    journal = EpisodeJournal("c", FORCE_SNAPSHOT)
    for i in range(MAX_RESULTS + 500):
        journal.joined(SlotKey("n", f"pg_{i}_sync"))
    subjects = journal.report.subjects
    assert len(subjects) == MAX_RESULTS
    assert subjects[-1].slot_name == f"pg_{MAX_RESULTS + 499}_sync"
    assert len(journal.report.timeline) == TIMELINE_LENGTH
