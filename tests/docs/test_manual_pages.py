"""The manual pages: what is in them, and that man and groff have nothing to complain of."""

import subprocess
from pathlib import Path

import pytest

from exporter.cli import COMMANDS as EXPORTER_COMMANDS
from exporter.cli import EXIT_CODES as EXPORTER_EXIT_CODES
from healer.cli import COMMANDS as HEALER_COMMANDS
from healer.cli import EXIT_CODES as HEALER_EXIT_CODES
from pgslot import __version__
from tests.support.paths import ROOT

PROGRAMS = {
    "pg-slot-exporter": (EXPORTER_COMMANDS, EXPORTER_EXIT_CODES),
    "pg-slot-healer": (HEALER_COMMANDS, HEALER_EXIT_CODES),
}


def page(program: str) -> Path:
    return ROOT / f"deploy/share/man/man1/{program}.1"


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.tools
def test_man_shows_every_section_command_exit_code_and_example(program: str) -> None:
    done = subprocess.run(
        ["man", "--warnings", "-l", page(program)],
        env={"PATH": "/usr/bin:/bin", "MANWIDTH": "500", "LC_ALL": "C.UTF-8", "MAN_KEEP_FORMATTING": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
    shown = " ".join(done.stdout.split())
    sections = ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "COMMANDS", "EXIT STATUS", "EXAMPLES", "SEE ALSO")
    lines = done.stdout.splitlines()
    assert [line for line in lines if line in sections] == [*sections]
    assert f"pg-slot-healer {__version__}" in shown
    commands, codes = PROGRAMS[program]
    for name, command in commands.items():
        assert f"   {name}" in lines
        assert f" {name} {codes[name]}" in shown
        for purpose, line in command.EXAMPLES:
            assert f"{purpose} {line}" in shown


@pytest.mark.tools
def test_groff_has_no_warning() -> None:
    done = subprocess.run(
        ["groff", "-man", "-Tutf8", "-ww", "-z", *map(page, PROGRAMS)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == ""
