"""A line on the terminal that shows what a command waits for, once that takes more than two seconds."""

import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

QUIET_SECONDS = 2.0
"""A command that answers within this time shows no progress."""
INTERVAL_SECONDS = 1.0
"""From one update of the line to the next."""


class Progress:
    """What the command waits for now; `show()` may be called by any thread."""

    def __init__(self, waiting_for: str) -> None:
        self._waiting_for = waiting_for
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._columns_used = 0

    def show(self, waiting_for: str) -> None:
        """Change what the command waits for, such as `asking Prometheus`."""
        self._waiting_for = waiting_for

    def end(self) -> None:
        self._ended.set()

    def run(self) -> None:
        """Update the line until end(), and then remove it."""
        delay = QUIET_SECONDS
        while not self._ended.wait(delay):
            self._write(f"{self._waiting_for} ({time.monotonic() - self._began:.0f} s)")
            delay = INTERVAL_SECONDS
        if self._columns_used:
            self._write("")
            print("\r", end="", file=sys.stderr, flush=True)

    def _write(self, text: str) -> None:
        # Blanks instead of an escape sequence: every terminal understands them.
        line = text[: os.get_terminal_size(sys.stderr.fileno()).columns - 1]
        print(f"\r{line:{self._columns_used}}", end="", file=sys.stderr, flush=True)
        self._columns_used = len(line)


@contextmanager
def show_progress(waiting_for: str) -> Iterator[Progress]:
    """
    Show what the command waits for on standard error, if that is a terminal; never in a pipe or a file.

    Print nothing else within this context: the line is gone when it ends.
    """
    progress = Progress(waiting_for)
    if not sys.stderr.isatty():
        yield progress
        return
    thread = threading.Thread(target=progress.run, name="progress", daemon=True)
    thread.start()
    try:
        yield progress
    finally:
        progress.end()
        thread.join()
