"""What an episode of several slots is called after, and that what it tells is bounded."""

import pytest

from healer.episodes.journal import EpisodeJournal
from healer.episodes.report import MAX_RESULTS, TIMELINE_LENGTH, SlotResult, summary
from healer.remedies.progress import Outcome
from healer.remedies.registry import FORCE_SNAPSHOT
from healer.remedies.slot_state import SlotKey

OTHERWISE = (Outcome.CANCELLED, "the healer stops")


def heal(slot: str, outcome: Outcome, why: str) -> SlotResult:
    return SlotResult("n", slot, outcome, why, seconds=1.0, calls=1, heal_seconds=None)


HEALED = heal("a", Outcome.HEALED, "usable after our call")
LOST = heal("b", Outcome.GAVE_UP, "the slot is lost: it was invalidated")
MANY = [heal(f"s{i}", Outcome.NO_EFFECT, f"because of {i}") for i in range(7)]


@pytest.mark.parametrize(
    ("heals", "outcome", "why"),
    [
        ([], *OTHERWISE),
        ([HEALED], Outcome.HEALED, "usable after our call"),
        ([HEALED, heal("c", HEALED.outcome, HEALED.why)], Outcome.HEALED, "usable after our call"),
        (
            [HEALED, LOST],
            Outcome.GAVE_UP,
            "b: gave_up (the slot is lost: it was invalidated); a: healed (usable after our call)",
        ),
        ([LOST, heal("d", Outcome.ERROR, "a defect")], Outcome.ERROR, None),
        ([HEALED, heal("d", Outcome.RESOLVED_ITSELF, "gone")], Outcome.HEALED, None),
        (MANY, Outcome.NO_EFFECT, "; ".join(f"s{i}: no_effect (because of {i})" for i in range(5)) + "; and 2 more"),
    ],
)
def test_episode_has_the_most_severe_outcome_of_its_slots(
    heals: list[SlotResult], outcome: Outcome, why: str | None
) -> None:
    found, text = summary(heals, OTHERWISE)
    assert found is outcome
    assert why is None or text == why


def test_report_of_a_long_episode_keeps_the_last_slots() -> None:
    """Those of table synchronisations have a name of their own each time."""
    narrator = EpisodeJournal("c", FORCE_SNAPSHOT)
    for i in range(MAX_RESULTS + 500):
        narrator.joined(SlotKey("n", f"pg_{i}_sync"))
    subjects = narrator.report.subjects
    assert len(subjects) == MAX_RESULTS
    assert subjects[-1].slot_name == f"pg_{MAX_RESULTS + 499}_sync"
    assert len(narrator.report.timeline) == TIMELINE_LENGTH
