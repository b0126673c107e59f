"""Exit codes; a command that is interrupted, or whose output is not read, ends without a traceback."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

BAD_INPUT = 2
"""Command line, configuration or a file is wrong: ConfigError."""
INTERRUPTED = 130
"""128 and the number of SIGINT, as in shells."""
BROKEN_PIPE = 141


@contextmanager
def die_of_interrupts() -> Iterator[None]:
    """
    Within this context Ctrl-C ends the program at once and without a word, which a shell shows as INTERRUPTED.

    It is for imports: KeyboardInterrupt may come where Python prints it and goes on. It needs the main thread, and
    changes nothing if SIGINT is ignored or handled already.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler or not _in_main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def run_command(command: Callable[[], int]) -> int:
    """Run a command and return its exit code."""
    try:
        code = command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # At its end Python flushes what is left, which would fail once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code
