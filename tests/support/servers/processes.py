"""Processes that end with this one: on exit, on Ctrl-C, after a failed test, and when it is killed."""

import contextlib
import ctypes
import itertools
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class NotReadyError(Exception):
    """A condition was not met in time."""


MAX_POLL_SECONDS = 0.2


def wait_for(
    condition: Callable[[], Result | None], what: str, timeout: float = 30.0, log: Path | None = None
) -> Result:
    """
    Poll until the condition returns a true value, and return that.

    Raises NotReadyError after `timeout` seconds, with `what` and the end of the log.
    """
    began = time.monotonic()
    deadline = began + timeout
    while True:
        result = condition()
        if result:
            return result
        if time.monotonic() > deadline:
            tail = "" if log is None or not log.exists() else "\n" + log.read_text("utf-8", "replace")[-3000:]
            raise NotReadyError(f"not within {timeout:.0f} s: {what}{tail}")
        # Most conditions ask a server over a new connection: what takes long is asked less and less often.
        time.sleep(min(0.02 + (time.monotonic() - began) / 20, MAX_POLL_SECONDS))


_PORTS = range(20_000, 32_000)
"""Below the kernel's ephemeral ports: a connection could take a free port from there before it is used."""
_next_port = itertools.count(os.getpid() * 397)


def free_port() -> int:
    """Return a free loopback port; a process gets the same port again only after 12,000 others."""
    for _ in _PORTS:
        port = _PORTS[next(_next_port) % len(_PORTS)]
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise NotReadyError(f"no free port in {_PORTS}")


class Process:
    """A program. Start it from the main thread only: the kernel's death signal follows the starting thread."""

    def __init__(
        self,
        arguments: Sequence[str | Path],
        log: Path,
        *,
        user: int | None = None,
        outlive_us: bool = False,
        death_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.log = log
        self.arguments = [str(argument) for argument in arguments]
        self._user = user
        self._outlive_us = outlive_us
        self._death_signal = death_signal
        self._starter = os.getpid()
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._popen is not None
        return self._popen.pid

    @property
    def running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    def start(self) -> None:
        """Start it in a new session, so that Ctrl-C in a terminal reaches only this process, which then ends it."""
        self._starter = os.getpid()
        with self.log.open("wb") as log:
            self._popen = subprocess.Popen(
                self.arguments,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=self._user,
                group=self._user,
                extra_groups=None if self._user is None else [],
                cwd="/",
                preexec_fn=None if self._outlive_us else self._die_with_parent,  # noqa: PLW1509 - one prctl, no locks
            )

    def send(self, number: signal.Signals) -> None:
        if self.running:
            os.kill(self.pid, number)

    def pause(self) -> None:
        """Hang the program (SIGSTOP): it keeps its sockets and does not answer."""
        self.send(signal.SIGSTOP)

    def resume(self) -> None:
        self.send(signal.SIGCONT)

    def kill(self) -> None:
        self.send(signal.SIGKILL)
        self._reap(10)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 15.0) -> int | None:
        """End it by a signal, and by force after `timeout` seconds; return its exit code."""
        if self._popen is None:
            return None
        self.resume()
        self.send(number)
        if not self._reap(timeout):
            self.kill()
        return self._popen.returncode

    def _reap(self, timeout: float) -> bool:
        assert self._popen is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout)
        return self._popen.returncode is not None

    def _die_with_parent(self) -> None:
        # Runs after the change of user, which would clear it.
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(self._death_signal))
        if os.getppid() != self._starter:
            # The parent was killed before the call, which then has no effect.
            os._exit(1)
