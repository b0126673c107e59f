"""How many calls a cluster may still have: over all its episodes, however often its alerts come and go."""

import math
from collections import deque

WINDOW = 3600.0
"""Seconds."""


class CallBudget:
    """At most so many calls within any hour. Times are of one monotonic clock, in seconds."""

    def __init__(self, per_hour: int, now: float, *, at_start: int) -> None:
        """
        Start with `at_start` calls left; the others come back evenly over the first hour.

        What an earlier process spent is not known: a healer that crashes again and again must not get a new budget
        each time.
        """
        self._per_hour = per_hour
        self._began = now
        self._unknown = max(0, per_hour - at_start)
        self._spent: deque[float] = deque()

    def resize(self, per_hour: int) -> None:
        """Take another limit over; what was spent stays spent."""
        self._per_hour = per_hour

    def left(self, now: float) -> int:
        """Return how many calls are left at this moment."""
        while self._spent and self._spent[0] <= now - WINDOW:
            self._spent.popleft()
        back = math.floor(self._unknown * (now - self._began) / WINDOW)
        return max(0, self._per_hour - max(0, self._unknown - back) - len(self._spent))

    def spend(self, now: float) -> None:
        """Count one call; also one that may have been made, or that another healer makes while it locks us out."""
        self._spent.append(now)
