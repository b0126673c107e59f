"""A clock that is set forward in place of waiting: a week of an event loop goes by in the time that its work takes."""

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any, TypeVar
from unittest import mock

EPOCH = 1_800_000_000.0

_T = TypeVar("_T")


class Clock:
    """Seconds since the beginning, for time.monotonic(); time.time() follows it."""

    def __init__(self) -> None:
        self.now = 0.0

    def run(self, main: Coroutine[Any, Any, _T]) -> _T:
        """Run this in an event loop of its own, in which nobody ever waits for a moment to come."""
        with (
            mock.patch.object(time, "monotonic", self._monotonic),
            mock.patch.object(time, "time", self._time),
            asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(_Jump(self))) as runner,
        ):
            return runner.run(main)

    def _monotonic(self) -> float:
        return self.now

    def _time(self) -> float:
        return EPOCH + self.now


class _Jump(selectors.SelectSelector):
    """When nothing is ready, the moment that the loop would wait for is now."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("nothing is ready and nothing will ever be")
            self._clock.now += timeout
        return ready
