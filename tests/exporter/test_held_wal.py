"""The exporter's memory of retained WAL: an hour, and bounded, whatever the slots do; and its drawing."""

import re
from collections.abc import Mapping, Sequence

import pytest

from exporter.held_wal import REMEMBERED_SECONDS, SPACING_SECONDS, HeldWalMemory, NodeKey
from exporter.held_wal_chart import chart, summary, table
from pgslot.snapshot.model import NodeSnapshot
from pgslot.status.growth import HeldSample
from tests.support.builders.snapshots import SLOT, node, unreachable_node

MEBIBYTE = 1024 * 1024
Held = Mapping[str, int | None]
"""What each slot retains; None: not known."""


def snapshot(held: Held, name: str = "n") -> NodeSnapshot:
    slots = tuple(SLOT._replace(slot_name=slot, retained_wal_bytes=value) for slot, value in held.items())
    return node(name, recovery=False, slots=slots)


def recorded(*points: tuple[float, Held], memory: HeldWalMemory | None = None) -> HeldWalMemory:
    memory = HeldWalMemory() if memory is None else memory
    for at, held in points:
        memory.record(snapshot(held), at)
    return memory


def pairs(memory: HeldWalMemory, held: Held, at: float, slot: str = "a") -> list[tuple[float, int]]:
    return [(sample.at, sample.held_bytes) for sample in memory.samples(snapshot(held), at)[slot]]


def test_samples_are_those_before_and_the_present_one() -> None:
    memory = recorded((0.0, {"a": 1}), (30.0, {"a": 2}))
    assert pairs(memory, {"a": 3}, 40.0) == [(0.0, 1), (30.0, 2), (40.0, 3)]
    assert pairs(memory, {"a": 2}, 30.0) == [(0.0, 1), (30.0, 2)], "the last point itself is there once"


def test_scrapes_in_quick_succession_are_one_point() -> None:
    memory = recorded(*((float(second), {"a": second}) for second in range(120)))
    assert [at for at, _ in pairs(memory, {"a": 0}, 120.0)] == [0.0, 30.0, 60.0, 90.0, 120.0]


def test_slot_that_comes_later_goes_and_comes_again_has_only_its_own_points() -> None:
    memory = recorded((0.0, {"b": 1}), (30.0, {"b": 1, "a": 5}), (60.0, {"b": 1}), (90.0, {"b": 1, "a": 7}))
    assert pairs(memory, {"a": 8}, 95.0) == [(30.0, 5), (90.0, 7), (95.0, 8)]


def test_what_is_not_known_is_left_out_and_never_zero() -> None:
    memory = recorded((0.0, {"a": None}), (30.0, {"a": 0}), (60.0, {"a": None}))
    memory.record(unreachable_node("n"), 90.0)
    assert pairs(memory, {"a": None}, 95.0) == [(30.0, 0)]


def test_memory_is_an_hour_of_points_and_of_slots_that_are_there() -> None:
    memory = recorded(*((at * SPACING_SECONDS, {"a": at, f"gone{at}": 1}) for at in range(1000)))
    now = 999 * SPACING_SECONDS
    points = pairs(memory, {"a": 1}, now + 1)
    assert points[0][0] == now - REMEMBERED_SECONDS + SPACING_SECONDS
    assert len(points) == 121
    assert memory.slots == 122, "those that are gone are forgotten after an hour"


def test_full_memory_keeps_what_it_has_and_the_largest_of_the_new_slots() -> None:
    memory = recorded((0.0, {"a": 1, "small": 5, "large": 9}), memory=HeldWalMemory(max_slots=2))
    later = {"a": 1, "small": 5, "large": 9}
    assert pairs(memory, later, 10.0, "large") == [(0.0, 9), (10.0, 9)]
    assert pairs(memory, later, 10.0, "a") == [(10.0, 1)], "only what the snapshot itself shows"
    memory.record(snapshot({"b": 10}, "other"), 30.0)
    assert memory.slots == 2


def test_removed_node_is_forgotten() -> None:
    memory = recorded((0.0, {"a": 1}))
    memory.record(snapshot({"b": 1}, "other"), 0.0)
    memory.keep_only([NodeKey("c", "other")])
    assert memory.slots == 1
    assert pairs(memory, {"a": 2}, 30.0) == [(30.0, 2)]


def samples(*values: int, step: float = 30.0) -> list[HeldSample]:
    return [HeldSample(index * step, value) for index, value in enumerate(values)]


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0, 0], ["0 B", "5 B", "10 B"]),
        ([3, 700], ["0 B", "500 B", "1000 B"]),
        ([3 * MEBIBYTE, 144 * MEBIBYTE], ["0 B", "100.0 MiB", "200.0 MiB"]),
        ([1001 * MEBIBYTE, 1], ["0 B", "512.0 MiB", "1.0 GiB"]),
        ([2**60, 1], ["0 B", "524288.0 TiB", "1048576.0 TiB"]),
    ],
)
def test_axis_has_round_numbers_that_cover_all_values(values: Sequence[int], labels: Sequence[str]) -> None:
    drawing = chart(samples(*values))
    assert re.findall(r'text-anchor="end">([\d.]+ \w+)</text>', str(drawing)) == labels


def test_drawing_ends_now_and_has_a_title_and_a_description() -> None:
    drawing = str(chart(samples(0, 5 * MEBIBYTE, 10 * MEBIBYTE)))
    [line] = re.findall('<path class="value" d="(.*?)"', drawing)
    assert line.endswith("L412.0 12.0"), "the right end, and the top"
    assert 'role="img" aria-labelledby="chart-title chart-text"' in drawing
    assert "From 0 B 1 min ago to 10.0 MiB now; least 0 B, most 10.0 MiB." in drawing


def test_line_is_not_drawn_across_a_gap() -> None:
    drawing = str(chart([HeldSample(0.0, 1), HeldSample(30.0, 1), HeldSample(1000.0, 2), HeldSample(1030.0, 2)]))
    assert drawing.count('<path class="value"') == 2


@pytest.mark.parametrize(("limit", "drawn"), [(None, False), (120, True), (200, True), (201, False), (-1, False)])
def test_limit_is_drawn_if_it_is_in_sight(limit: int | None, *, drawn: bool) -> None:
    assert ('class="limit"' in str(chart(samples(50, 100), limit))) is drawn


@pytest.mark.parametrize("values", [[], [1]])
def test_less_than_two_points_are_not_a_drawing(values: Sequence[int]) -> None:
    assert chart(samples(*values)) is None


def test_table_has_a_row_for_every_five_minutes_the_newest_first() -> None:
    hour = samples(*range(121))
    assert table(hour)[:3] == [(0, "120 B"), (5, "110 B"), (10, "100 B")]
    assert len(table(hour)) == 13
    assert table([]) == []


def test_summary_of_a_short_time_says_so() -> None:
    assert summary(samples(1, 2, step=5.0)) == "From 1 B less than a minute ago to 2 B now; least 1 B, most 2 B."
