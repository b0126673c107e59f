"""How fast the WAL that a slot retains grows: a pure function of what earlier looks showed."""

from collections.abc import Sequence
from typing import NamedTuple

WINDOW_SECONDS = 900.0
"""As long as the alerts' trends."""
MIN_SECONDS = 3.0
"""A shorter time shows a burst, and not a rate."""
FORECAST_SECONDS = 60.0
"""A forecast for which somebody is called takes a rate over this time at least."""


class HeldSample(NamedTuple):
    """How much WAL a slot retained at one moment."""

    at: float
    """Monotonic, in seconds."""
    held_bytes: int


class Growth(NamedTuple):
    """How the WAL that a slot retains changes."""

    bytes_per_second: float
    """Negative: it shrinks."""
    seconds: float
    """For how long this was observed."""


def growth(samples: Sequence[HeldSample]) -> Growth | None:
    """
    Return the slope of a line through the last WINDOW_SECONDS, as Prometheus' deriv() has it; None: too short a time.

    `samples`: oldest first.
    """
    if not samples:
        return None
    newest = samples[-1].at
    recent = [sample for sample in samples if newest - sample.at <= WINDOW_SECONDS]
    seconds = newest - recent[0].at
    if seconds < MIN_SECONDS:
        return None
    mean_at = sum(sample.at for sample in recent) / len(recent)
    mean_held = sum(sample.held_bytes for sample in recent) / len(recent)
    covariance = sum((sample.at - mean_at) * (sample.held_bytes - mean_held) for sample in recent)
    variance = sum((sample.at - mean_at) ** 2 for sample in recent)
    return Growth(covariance / variance, seconds)
