"""Programs as a person at a terminal sees them."""

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from collections.abc import Sequence
from pathlib import Path

PATIENCE_SECONDS = 20.0


class Terminal:
    """A program in a terminal of its own, with HOME and the working directory in a folder."""

    def __init__(self, command: Sequence[str | Path], folder: Path, *, kind: str = "dumb") -> None:
        self._main, terminal = pty.openpty()
        self._unread = ""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "TERM": kind,
            "COLUMNS": "100",
            "LC_ALL": "C.UTF-8",
        }
        self.process = subprocess.Popen(
            command,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            cwd=folder,
            env=environment,
            start_new_session=True,
        )
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 100, 0, 0))
        os.close(terminal)

    def type(self, text: str) -> None:
        os.write(self._main, text.encode())

    def read_until(self, text: str) -> str:
        """Return what the terminal showed up to this text. Raises AssertionError after PATIENCE_SECONDS."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while text not in self._unread:
            readable, _, _ = select.select([self._main], [], [], give_up_at - time.monotonic())
            assert readable, f"{text!r} did not come: {self._unread!r}"
            self._unread += os.read(self._main, 65536).decode("utf-8", "replace")
        shown, _, self._unread = self._unread.partition(text)
        return shown

    def read_to_end(self) -> str:
        """Return what the terminal shows until the program ends. Raises TimeoutExpired."""
        shown = self._unread
        try:
            while part := os.read(self._main, 65536):
                shown += part.decode("utf-8", "replace")
        except OSError:
            # So Linux reports that no process has the terminal open any more.
            pass
        self.process.wait(PATIENCE_SECONDS)
        return shown

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._main)
