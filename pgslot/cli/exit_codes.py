"""Exit codes; a command that is interrupted, or whose output is not read, ends without a traceback."""

import os
import sys
from collections.abc import Callable

BAD_INPUT = 2
"""Command line, configuration or a file is wrong: ConfigError."""
INTERRUPTED = 130
"""128 and the number of SIGINT, as in shells."""
BROKEN_PIPE = 141


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
