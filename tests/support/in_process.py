"""A program's command in this process: it has no second of imports to wait for, as a process of its own has.

A test of signals, of pipes or of what a program serves starts the program itself: `tests.support.servers.programs`.
"""

import io
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from subprocess import CompletedProcess

import exporter.__main__
import healer.__main__

MAINS: dict[str, Callable[[list[str]], int | None]] = {
    "pg-slot-exporter": exporter.__main__.main,
    "pg-slot-healer": healer.__main__.main,
}

QUIETED = ("psycopg", "markdown_it")
"""The loggers whose level `pgslot.cli.logging.setup` sets."""


def run(program: str, *arguments: str) -> CompletedProcess[str]:
    """Run a command of a program that ends by itself; return its exit code and what it printed."""
    with redirect_stdout(io.StringIO()) as stdout, redirect_stderr(io.StringIO()) as stderr, _logging_restored():
        try:
            code = MAINS[program](list(arguments)) or 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else 1
    return CompletedProcess([program, *arguments], code, stdout.getvalue(), stderr.getvalue())


@contextmanager
def _logging_restored() -> Iterator[None]:
    """Keep what the command does to this process' logging from the tests after it, which read warnings from the log."""
    root = logging.getLogger()
    handlers = list(root.handlers)
    levels = {logger: logger.level for logger in (root, *map(logging.getLogger, QUIETED))}
    try:
        yield
    finally:
        root.handlers[:] = handlers
        for logger, level in levels.items():
            logger.setLevel(level)
