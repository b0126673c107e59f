"""Passwords that a program prints: run without a shell, in bounded time, and kept no longer than they are valid."""

import asyncio
import os
import signal
import time
from contextlib import suppress
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from pgslot.config.password_command import PasswordCommand
from pgslot.postgres.deadlines import PASSWORD_COMMAND_SECONDS

AT_ONCE = 8
"""So many programs run at a time, however many servers there are: the clients of clouds are large."""

FRESH_SHARE = 0.8
"""The part of its `password_ttl` for which a password is used, so that it does not end while a server checks it."""

UNUSED_SECONDS = 60.0
"""A password without `password_ttl` that came too late for its connection serves the next one for this long."""

MAX_BYTES = 65536
"""The first line may be this long."""


@dataclass(frozen=True, slots=True)
class Password:
    """What a program printed."""

    text: str = field(repr=False)
    at: float
    """Monotonic time at which the program was started: its password cannot end earlier than password_ttl from here."""


class Passwords:
    """The passwords of one event loop, by command. Concurrent callers share a run of the program."""

    def __init__(self) -> None:
        self._kept: dict[PasswordCommand, Password] = {}
        self._running: dict[PasswordCommand, asyncio.Task[Password]] = {}
        self._limit = asyncio.Semaphore(AT_ONCE)

    async def get(self, command: PasswordCommand, timeout: float) -> Password:
        """
        Return a password within `timeout` seconds.

        Raises ConfigError if the program fails, and TimeoutError; then it goes on, and the next caller has its result.
        """
        kept = self._kept.get(command)
        if kept is not None and time.monotonic() - kept.at < fresh_seconds(command):
            return self._used(command, kept)
        task = self._running.get(command)
        if task is None:
            task = self._running[command] = asyncio.create_task(self._run(command))
            task.add_done_callback(lambda done: self._ended(command, done))
        done, _ = await asyncio.wait({task}, timeout=timeout)
        if not done:
            raise TimeoutError(f"password_command: {command.program} printed no password in {timeout:.1f} s")
        return self._used(command, task.result())

    def forget(self, command: PasswordCommand) -> None:
        """Drop a password that a server has refused: the next connection gets a new one."""
        self._kept.pop(command, None)

    def _used(self, command: PasswordCommand, password: Password) -> Password:
        if command.ttl is None:
            self._kept.pop(command, None)
        return password

    def _ended(self, command: PasswordCommand, task: asyncio.Task[Password]) -> None:
        self._running.pop(command, None)
        now = time.monotonic()
        # Of commands that are no longer configured as well.
        self._kept = {other: kept for other, kept in self._kept.items() if now - kept.at < fresh_seconds(other)}
        if not task.cancelled() and task.exception() is None:
            self._kept[command] = task.result()

    async def _run(self, command: PasswordCommand) -> Password:
        async with self._limit:
            began = time.monotonic()
            return Password(await first_line(command), began)


def fresh_seconds(command: PasswordCommand) -> float:
    """Return for how long a password of this command is used."""
    return UNUSED_SECONDS if command.ttl is None else command.ttl * FRESH_SHARE


async def first_line(command: PasswordCommand) -> str:
    """
    Run the program, and return the first line of its output.

    Raises ConfigError if it cannot be run, ends with another exit code than 0, prints no line, or takes longer than
    PASSWORD_COMMAND_SECONDS. What it prints is in no error: it may be the password.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *command.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            # A group of its own, so that all of it can be ended.
            start_new_session=True,
            limit=MAX_BYTES,
        )
    except OSError as error:
        raise command.error("a program that can be run", f"{command.program}: {error.strerror}") from None
    try:
        async with asyncio.timeout(PASSWORD_COMMAND_SECONDS):
            line, code = await _output(process)
    except TimeoutError:
        within = f"within {PASSWORD_COMMAND_SECONDS:.0f} s"
        raise command.error(f"a password {within}", f"that {command.program} goes on for longer") from None
    except ValueError:
        raise command.error(
            f"a first line of at most {MAX_BYTES} bytes", f"a longer one by {command.program}"
        ) from None
    finally:
        await _end(process)
    if code != 0:
        found = f"exit code {code} of {command.program} (what it printed is not shown: run it as this program's user)"
        raise command.error("a password", found)
    try:
        password = line.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise command.error("a password", f"output of {command.program} that is not UTF-8 text") from None
    if not password or "\0" in password:
        raise command.error("a password in the first line", f"that {command.program} printed none")
    return password


async def _output(process: asyncio.subprocess.Process) -> tuple[bytes, int]:
    """Return the first line and the exit code; read to the end, as the program may wait for that."""
    assert process.stdout is not None  # noqa: S101 - it is a pipe
    line = await process.stdout.readline()
    while await process.stdout.read(MAX_BYTES):
        pass
    return line, await process.wait()


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        # It may have ended meanwhile.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


_BY_LOOP: WeakKeyDictionary[asyncio.AbstractEventLoop, Passwords] = WeakKeyDictionary()


def passwords() -> Passwords:
    """Return the passwords of the running event loop."""
    return _BY_LOOP.setdefault(asyncio.get_running_loop(), Passwords())
