"""Background tasks: TaskSupervisor keeps them, logs failures, and cancels and awaits them at the end."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from pgslot.cli.logging import get_logger

log = get_logger(__name__)

ResultT = TypeVar("ResultT")


class TaskSupervisor:
    """
    The background tasks of one owner, in the order in which they were started.

    asyncio keeps only weak references to tasks, and reports an exception that is never awaited when it collects the
    task. Here a task is referenced until it ends, and its exception is logged at once, with its traceback.
    """

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._failed: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._tasks)

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the tasks that ended with an exception, each once."""
        return tuple(self._failed)

    @property
    def oldest(self) -> asyncio.Task[Any] | None:
        """The running task that was started first; None: no task runs."""
        return next(iter(self._tasks), None)

    def start(
        self,
        coroutine: Coroutine[Any, Any, ResultT],
        name: str,
        on_end: Callable[[asyncio.Task[ResultT]], None] | None = None,
    ) -> asyncio.Task[ResultT]:
        """Run the coroutine as a task; `on_end` is called with the task when it has ended, however it ended."""
        task = asyncio.create_task(coroutine, name=name)
        self._tasks[task] = None
        task.add_done_callback(self._ended)
        if on_end is not None:
            task.add_done_callback(on_end)
        return task

    def cancel(self) -> None:
        """Ask all tasks to end, without waiting for it."""
        for task in self._tasks:
            task.cancel()

    async def close(self, timeout: float | None = None) -> tuple[str, ...]:
        """Cancel all tasks and wait for their end; return the names of those that still run after `timeout` seconds."""
        self.cancel()
        return await self.wait(timeout)

    async def wait(self, timeout: float | None = None) -> tuple[str, ...]:
        """Wait for the end of all tasks; return the names of those that still run after `timeout` seconds."""
        if not self._tasks:
            return ()
        _, pending = await asyncio.wait(self._tasks, timeout=timeout)
        return tuple(task.get_name() for task in pending)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not task.cancelled() and task.exception() is not None:
            self._failed[task.get_name()] = None
            log.critical("a background task failed: internal error", exc=task.exception(), task=task.get_name())
