"""The budget of calls of a cluster and remedy, over all its episodes, however often its alerts come and go."""

import math
from collections import deque
from collections.abc import Iterable

WINDOW_SECONDS = 3600.0
SAME_CALL_SECONDS = 5.0
"""Two times of one call, as we and the primary measured them, differ by less."""


class CallBudget:
    """A limit of calls within any hour. Times in seconds, of one monotonic clock."""

    def __init__(self, per_hour: int, now: float, *, at_start: int) -> None:
        """
        Start with `at_start` calls left; the rest becomes available evenly over the first hour.

        It is not known how much an earlier process spent, and a healer that crashes repeatedly must not get a new
        budget every time.
        """
        self._per_hour = per_hour
        self._started_at = now
        self._withheld = max(0, per_hour - at_start)
        self._spent: deque[float] = deque()

    def resize(self, per_hour: int) -> None:
        """Change the limit; calls already spent still count."""
        self._per_hour = per_hour

    def left(self, now: float) -> int:
        """Return how many calls are left."""
        while self._spent and self._spent[0] <= now - WINDOW_SECONDS:
            self._spent.popleft()
        released = math.floor(self._withheld * (now - self._started_at) / WINDOW_SECONDS)
        return max(0, self._per_hour - max(0, self._withheld - released) - len(self._spent))

    def learn(self, times: Iterable[float]) -> None:
        """Count the calls of all healers that the primary showed, except those that are counted already."""
        counted = list(self._spent)
        for time in sorted(times):
            same = min(counted, key=lambda spent: abs(spent - time), default=None)
            if same is not None and abs(same - time) < SAME_CALL_SECONDS:
                counted.remove(same)
            else:
                self._spent.append(time)
        self._spent = deque(sorted(self._spent))

    def spend(self, now: float) -> None:
        """Count one call, also one that may have been made, or that another healer made while we were locked out."""
        self._spent.append(now)
