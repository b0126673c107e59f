"""The commands of a program, and the parser that selects one of them."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol


class Command(Protocol):
    """What each module of a program's commands has."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, options: argparse.Namespace) -> int:
        """Run the command and return its exit code. Raises ConfigError for bad input."""


def program_parser(program: str, description: str, exit_codes: str) -> argparse.ArgumentParser:
    """Return a program's parser without any command; `exit_codes` ends its --help as it is."""
    return argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=exit_codes,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_commands(
    parser: argparse.ArgumentParser,
    commands: Mapping[str, Command],
    parents: Callable[[str], Sequence[argparse.ArgumentParser]] = lambda _name: (),
) -> None:
    """
    Add the commands by name; in the parser's result, `run` is the chosen command's function of the options.

    `parents`: parsers whose flags the command of this name accepts as well.
    """
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, command in commands.items():
        subparser = subparsers.add_parser(name, help=command.HELP, parents=parents(name))
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
