"""A clock of the primary that was set forward is noticed by our own monotonic clock, and shortens no time."""

import pytest

from healer.remedies.server_clock import TOLERANCE, ClockReading, ClockStep, ServerClock, added_seconds

Readings = tuple[tuple[float, float], ...]

STEPS: dict[str, tuple[Readings, tuple[ClockStep, ...]]] = {
    "the first reading": (((0.0, 1000.0),), ()),
    "an even clock": (((0.0, 1000.0), (60.0, 1060.0)), ()),
    "an answer that took long": (((0.0, 1000.0), (60.0, 1060.0 + TOLERANCE)), ()),
    "a step forward": (((0.0, 1000.0), (60.0, 1660.0)), (ClockStep(60.0, 600.0),)),
    "two steps": (
        ((0.0, 1000.0), (60.0, 1660.0), (70.0, 5670.0)),
        (ClockStep(60.0, 600.0), ClockStep(70.0, 4000.0)),
    ),
    "a step back shortens nothing": (((0.0, 1000.0), (60.0, 460.0), (70.0, 470.0)), ()),
    "back and forward again": (((0.0, 1000.0), (60.0, 460.0), (70.0, 1070.0)), (ClockStep(70.0, 600.0),)),
    "many small steps that add up": (
        tuple((float(at), 1000.0 + at + 0.75 * at) for at in range(5)),
        (ClockStep(3.0, 2.25),),
    ),
}


@pytest.mark.parametrize(("readings", "steps"), STEPS.values(), ids=STEPS.keys())
def test_steps_are_noticed(readings: Readings, steps: tuple[ClockStep, ...]) -> None:
    clock = ServerClock()
    for at, shown in readings:
        clock.observe(ClockReading(at, shown))
    assert clock.steps == steps


def test_time_is_longer_by_every_step_that_may_lie_within_it() -> None:
    steps = (ClockStep(10.0, 600.0), ClockStep(400.0, 50.0))
    assert added_seconds(steps, within=300.0, now=405.0) == 50.0
    assert added_seconds(steps, within=3600.0, now=405.0) == 650.0
    assert added_seconds(steps, within=3600.0, now=5000.0) == 0.0


def test_later_time_than_the_even_clock_can_show_is_beyond_the_latest() -> None:
    reading = ClockReading(100.0, 5000.0)
    assert reading.latest(160.0) == 5060.0 + TOLERANCE
