"""
Whether the primary's clock has been set forward, by our own monotonic clock.

A session's idle time and the hour of the limit are measured by the primary's clock. When that jumps, a session looks
idle for longer than it was, and a termination of a minute ago looks older than an hour.
"""

from dataclasses import dataclass

TOLERANCE = 2.0
"""Seconds that the two clocks may differ by: the time that an answer takes, and what NTP corrects without a step."""

MAX_STEPS = 100


@dataclass(frozen=True, slots=True)
class ClockReading:
    """The server's time at one moment of ours."""

    at: float
    """Monotonic, when the answer came."""
    clock: float
    """Unix time by the server."""

    def latest(self, now: float) -> float:
        """Return the latest time that the server's clock can show now, if it was not set."""
        return self.clock + (now - self.at) + TOLERANCE


@dataclass(frozen=True, slots=True)
class ClockStep:
    """The server's clock was set forward, or our host was suspended."""

    noticed_at: float
    """Monotonic."""
    seconds: float


class ServerClock:
    """The steps of the clock of one cluster's primary that this process has noticed; the last MAX_STEPS."""

    def __init__(self) -> None:
        self._reference: ClockReading | None = None
        self.steps: tuple[ClockStep, ...] = ()

    def observe(self, reading: ClockReading) -> None:
        """Compare another reading with the one since which the clock has gone evenly."""
        if self._reference is None:
            self._reference = reading
            return
        difference = (reading.clock - self._reference.clock) - (reading.at - self._reference.at)
        if difference > TOLERANCE:
            self.steps = (*self.steps, ClockStep(reading.at, difference))[-MAX_STEPS:]
        if abs(difference) > TOLERANCE:
            self._reference = reading


def added_seconds(steps: tuple[ClockStep, ...], within: float, now: float) -> float:
    """
    Return by how much a time of this length has to be longer by the server's clock, to be as long by ours.

    A step that was noticed longer ago than that needs no correction: at least as much time has passed since.
    """
    return sum(step.seconds for step in steps if now - step.noticed_at < within)
