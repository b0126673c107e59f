"""How a command ends when it is interrupted, or when nobody reads what it prints: in order, and without a traceback."""

import os
import sys
from collections.abc import Callable

BAD_INPUT = 2
"""The command line, the configuration or a file is wrong: ConfigError."""
INTERRUPTED = 130
"""As shells have it: 128 and the number of SIGINT."""
BROKEN_PIPE = 141


def run_command(command: Callable[[], int]) -> int:
    """Run a command and return its exit code."""
    try:
        code = command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python would try to write what is left at its own end, and complain once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code
