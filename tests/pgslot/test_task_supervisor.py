"""Background tasks: kept, logged when they fail, and ended together."""

import asyncio
import logging

import pytest

from pgslot.task_supervisor import TaskSupervisor


async def forever() -> None:
    await asyncio.Event().wait()


async def fails() -> None:
    raise ValueError("no such thing")


async def test_close_cancels_and_awaits_all_tasks() -> None:
    supervisor = TaskSupervisor()
    tasks = [supervisor.start(forever(), f"task {number}") for number in range(3)]
    assert len(supervisor) == 3
    assert supervisor.oldest is tasks[0]
    assert await supervisor.close() == ()
    assert all(task.cancelled() for task in tasks)
    assert len(supervisor) == 0
    assert supervisor.oldest is None


async def test_a_failed_task_is_logged_with_its_name_and_traceback(caplog: pytest.LogCaptureFixture) -> None:
    supervisor = TaskSupervisor()
    await asyncio.wait({supervisor.start(fails(), "reload")})
    assert supervisor.failed == ("reload",)
    [record] = caplog.records
    assert record.levelno == logging.CRITICAL
    assert record.exc_info is not None
    assert vars(record)["fields"] == {"task": "reload"}


async def test_a_task_that_fails_again_is_named_once() -> None:
    supervisor = TaskSupervisor()
    for _ in range(2):
        await asyncio.wait({supervisor.start(fails(), "reload")})
    assert supervisor.failed == ("reload",)


async def test_a_cancelled_task_is_not_a_failure() -> None:
    supervisor = TaskSupervisor()
    task = supervisor.start(forever(), "endless")
    task.cancel()
    await asyncio.wait({task})
    assert (supervisor.failed, len(supervisor)) == ((), 0)


async def test_the_owner_learns_of_the_end_of_a_task() -> None:
    supervisor = TaskSupervisor()
    ended: list[str] = []
    task = supervisor.start(fails(), "failing", on_end=lambda task: ended.append(task.get_name()))
    await asyncio.wait({task})
    await asyncio.sleep(0)
    assert ended == ["failing"]


async def test_close_names_a_task_that_does_not_end_in_time() -> None:
    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.Event().wait()

    supervisor = TaskSupervisor()
    supervisor.start(stubborn(), "stubborn")
    await asyncio.sleep(0)
    assert await supervisor.close(timeout=0.05) == ("stubborn",)
    await supervisor.close()
