"""A program's command in this process: it has no second of imports to wait for, as a process of its own has.

A test of signals, of pipes or of what a program serves starts the program itself: `tests.support.servers.programs`.
"""

import io
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from subprocess import CompletedProcess

import exporter.__main__
import healer.__main__

MAINS: dict[str, Callable[[list[str]], int | None]] = {
    "pg-slot-exporter": exporter.__main__.main,
    "pg-slot-healer": healer.__main__.main,
}


def run(program: str, *arguments: str) -> CompletedProcess[str]:
    """Run a command of a program that ends by itself and logs nothing; return its exit code and what it printed."""
    with redirect_stdout(io.StringIO()) as stdout, redirect_stderr(io.StringIO()) as stderr:
        try:
            code = MAINS[program](list(arguments)) or 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
    return CompletedProcess([program, *arguments], code, stdout.getvalue(), stderr.getvalue())
