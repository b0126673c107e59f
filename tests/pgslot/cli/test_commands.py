"""What every command of both programs has: help, exit codes, and examples that are valid command lines."""

import argparse
import platform
import re
import shlex
from collections.abc import Callable, Mapping

import pytest

from exporter.cli import COMMANDS as EXPORTER_COMMANDS
from exporter.cli import EXIT_CODES as EXPORTER_EXIT_CODES
from exporter.cli import parser as exporter_parser
from healer.cli import COMMANDS as HEALER_COMMANDS
from healer.cli import EXIT_CODES as HEALER_EXIT_CODES
from healer.cli import parser as healer_parser
from pgslot import __version__
from pgslot.cli.commands import ANY_COMMAND, Command
from tests.support import in_process

COMMANDS: dict[str, Mapping[str, Command]] = {"pg-slot-exporter": EXPORTER_COMMANDS, "pg-slot-healer": HEALER_COMMANDS}
EXIT_CODES = {"pg-slot-exporter": EXPORTER_EXIT_CODES, "pg-slot-healer": HEALER_EXIT_CODES}
PARSERS: dict[str, Callable[[], argparse.ArgumentParser]] = {
    "pg-slot-exporter": exporter_parser,
    "pg-slot-healer": healer_parser,
}
EVERY_COMMAND = [(program, name) for program, commands in COMMANDS.items() for name in commands]


@pytest.mark.parametrize(("program", "name"), EVERY_COMMAND)
def test_help_of_a_command_has_its_exit_codes_and_examples(program: str, name: str) -> None:
    done = in_process.run(program, name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    shown = " ".join(done.stdout.split())
    assert f"usage: {program} {name} " in shown
    codes = EXIT_CODES[program]
    assert f" exit codes: {codes[name]} {codes[ANY_COMMAND]} examples: # " in shown


@pytest.mark.parametrize(("program", "name"), EVERY_COMMAND)
def test_examples_of_a_command_are_command_lines_that_it_accepts(program: str, name: str) -> None:
    command = COMMANDS[program][name]
    assert command.EXAMPLES
    for purpose, line in command.EXAMPLES:
        assert re.fullmatch(r"[A-Z].*[.?]", purpose)
        [words] = re.findall(rf"{program}( [^|><)]*)", line.removesuffix(".fish"))
        options = PARSERS[program]().parse_args(shlex.split(words))
        assert options.run == command.run


@pytest.mark.parametrize("program", COMMANDS)
@pytest.mark.parametrize("arguments", [[], ["serve"]])
def test_version_names_program_version_and_python(program: str, arguments: list[str]) -> None:
    done = in_process.run(program, *arguments, "--version")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{program} {__version__} (Python {platform.python_version()})\n"


@pytest.mark.parametrize("program", COMMANDS)
def test_every_command_has_exit_codes_and_no_other(program: str) -> None:
    assert list(EXIT_CODES[program]) == [ANY_COMMAND, *COMMANDS[program]]
