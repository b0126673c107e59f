"""A clock that jumps forward instead of waiting: a week of an event loop takes only the CPU time of its work."""

import asyncio
import selectors
import time
from collections.abc import Coroutine
from typing import Any, TypeVar
from unittest import mock

EPOCH = 1_800_000_000.0

_T = TypeVar("_T")


class Clock:
    """Simulated seconds since the start, which time.monotonic() returns; time.time() advances with it."""

    def __init__(self) -> None:
        self.now = 0.0

    def run(self, main: Coroutine[Any, Any, _T]) -> _T:
        """Run a coroutine in a new event loop, whose timers never wait."""
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
    """A selector that advances the clock by the timeout when nothing is ready."""

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
