"""What the healer remembers about slots is bounded, and it says from when on it is complete."""

import pytest

from healer import slot_history
from healer.slot_history import MAX_AGE_SECONDS, MAX_EVENTS_OF_SLOT, EventKind, SlotEvent, SlotHistory

NOON = 1_800_000_000.0


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def history() -> SlotHistory:
    return SlotHistory(Clock())


def event(text: str) -> SlotEvent:
    return SlotEvent(EventKind.STATE, "waiting", text, node="n")


def texts(history: SlotHistory, slot: str = "s", cluster: str = "c") -> list[str]:
    [memory] = history.recall(slot, cluster)
    return [event.text for event in memory.events]


def test_events_alike_are_counted_also_with_others_between_them(history: SlotHistory) -> None:
    for text in ("a", "b", "a", "a", "c"):
        history.record("c", "s", event(text))
    [memory] = history.recall("s")
    assert [(event.text, event.count) for event in memory.events] == [("a", 3), ("b", 1), ("c", 1)]
    first = memory.events[0]
    assert first.at < memory.events[1].at < first.last_at


def test_slots_of_one_name_in_two_clusters_are_two(history: SlotHistory) -> None:
    history.record("a", "s", event("in a"))
    history.record("b", "s", event("in b"))
    assert [memory.cluster for memory in history.recall("s")] == ["a", "b"]
    assert texts(history, cluster="b") == ["in b"]
    assert history.recall("t") == []


def test_what_happened_before_the_start_is_not_known(history: SlotHistory) -> None:
    memory = history.nothing("s", "c")
    assert (memory.events, memory.known_since, memory.dropped) == ((), NOON + 1, False)


def test_oldest_events_of_a_slot_are_dropped_and_that_is_remembered(history: SlotHistory) -> None:
    for number in range(MAX_EVENTS_OF_SLOT + 2):
        history.record("c", "s", event(f"{number}"))
    [memory] = history.recall("s")
    assert len(memory.events) == MAX_EVENTS_OF_SLOT
    assert memory.events[0].text == "2"
    assert memory.dropped
    assert NOON < memory.known_since < memory.events[0].at


def test_slots_without_news_are_dropped_first_and_that_is_remembered(
    history: SlotHistory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slot_history, "MAX_EVENTS", 10)
    for slot in ("old", "kept"):
        history.record("c", slot, event("first"))
    history.record("c", "kept", event("second"))
    for number in range(8):
        history.record("c", f"new_{number}", event("it"))
    assert history.recall("old") == []
    assert history.nothing("old", "c").dropped
    [kept] = history.recall("kept")
    # It was there all the time: what was dropped was not about it.
    assert ([event.text for event in kept.events], kept.dropped) == (["first", "second"], False)
    history.record("c", "old", event("again"))
    [again] = history.recall("old")
    assert again.dropped
    assert kept.known_since < again.known_since < again.events[0].at


def test_events_are_forgotten_after_a_day() -> None:
    clock = Clock()
    history = SlotHistory(clock)
    history.record("c", "s", event("yesterday"))
    history.record("c", "t", event("yesterday"))
    clock.now += MAX_AGE_SECONDS - 10
    history.record("c", "s", event("today"))
    clock.now += 60
    assert texts(history) == ["today"]
    assert history.recall("t") == []
    assert not history.recall("s")[0].dropped


def test_texts_and_names_are_bounded(history: SlotHistory) -> None:
    history.record("c" * 1000, "s" * 1000, event("x" * 10_000))
    [memory] = history.recall("s" * 200)
    assert (len(memory.cluster), len(memory.events[0].text)) == (200, 500)
