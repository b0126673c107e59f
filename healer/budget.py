"""How many calls a cluster may still have: over all its episodes, however often its alerts come and go."""

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
        unknown = max(0, per_hour - at_start)
        self._spent = deque(now - WINDOW + WINDOW * (i + 1) / unknown for i in range(unknown))

    def resize(self, per_hour: int) -> None:
        """Take another limit over; what was spent stays spent."""
        self._per_hour = per_hour

    def left(self, now: float) -> int:
        """Return how many calls are left at this moment."""
        while self._spent and self._spent[0] <= now - WINDOW:
            self._spent.popleft()
        return max(0, self._per_hour - len(self._spent))

    def spend(self, now: float) -> None:
        """Count one call; also one that may have been made, or that another healer makes while it locks us out."""
        self._spent.append(now)
