"""What a command shows while it waits: on a terminal only, and nothing of it stays."""

import re
import subprocess
import sys
from pathlib import Path

from tests.support.terminal import Terminal

WAITS = """
import time
from pgslot.cli import progress
progress.QUIET_SECONDS, progress.INTERVAL_SECONDS = {quiet}, 0.02
with progress.show_progress("asking the servers of shop") as shown:
    while {condition}:
        time.sleep(0.01)
        shown.show("asking a name that is much longer than a terminal is wide " * 3)
print("the result")
"""


def test_line_comes_after_the_quiet_time_and_is_removed_before_the_result(tmp_path: Path) -> None:
    code = WAITS.format(quiet=0.05, condition="not shown._columns_used")
    terminal = Terminal([sys.executable, "-c", code], tmp_path)
    try:
        shown = terminal.read_to_end()
    finally:
        terminal.close()
    lines = [line for line in shown.replace("\r\n", "\n").partition("the result")[0].split("\r") if line.strip()]
    assert lines
    assert all(re.match(r"asking ", line) and len(line) < 100 for line in lines)
    # What a person sees in the end: carriage returns put each line over the one before.
    assert on_screen(shown) == "the result"


def on_screen(shown: str) -> str:
    """Return what a terminal shows in its first line after carriage returns."""
    screen = ""
    for part in shown.replace("\r\n", "\n").partition("\n")[0].split("\r"):
        screen = part + screen[len(part) :]
    return screen.rstrip()


def test_command_that_answers_at_once_shows_nothing(tmp_path: Path) -> None:
    terminal = Terminal([sys.executable, "-c", WAITS.format(quiet=60, condition="False")], tmp_path)
    try:
        assert terminal.read_to_end() == "the result\r\n"
    finally:
        terminal.close()


def test_pipe_gets_no_progress() -> None:
    code = WAITS.format(quiet=0.0, condition="time.process_time() < 0")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("the result\n", "")
