"""The commands of a program, and the parser that selects one of them."""

import argparse
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

ANY_COMMAND = "any"
"""In a table of exit codes, what holds for every command."""
HELP_WIDTH = 110
"""Characters of a line in a table of --help, which does not follow the terminal's width."""


class Command(Protocol):
    """What each module of a program's commands has."""

    HELP: str
    """What the command does, for a list of commands: lower case, without a full stop."""

    @property
    def EXAMPLES(self) -> Sequence[tuple[str, str]]:  # noqa: N802 - a constant of a module
        """What a user wants, and the command line for it: at the end of --help, and in the manual page."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, options: argparse.Namespace) -> int:
        """Run the command and return its exit code. Raises ConfigError for bad input."""


class _HelpFormatter(argparse.HelpFormatter):
    """Wraps a text of one line, and leaves a text of several lines as it is."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if "\n" not in text:
            return super()._fill_text(text, width, indent)
        return "".join(indent + line for line in text.splitlines(keepends=True))


def program_parser(
    program: str, description: str, exit_codes: Mapping[str, str], notes: str
) -> argparse.ArgumentParser:
    """Return a program's parser without any command; --help ends with the exit codes of each command and the notes."""
    return argparse.ArgumentParser(
        prog=program,
        description=description,
        epilog=f"{_table('exit codes:', [*exit_codes.items()])}\n{notes}",
        formatter_class=_HelpFormatter,
    )


def add_commands(
    parser: argparse.ArgumentParser,
    commands: Mapping[str, Command],
    exit_codes: Mapping[str, str],
    parents: Callable[[str], Sequence[argparse.ArgumentParser]] = lambda _name: (),
) -> None:
    """
    Add the commands by name; in the parser's result, `run` is the chosen command's function of the options.

    `exit_codes`: by command, and for `any`. `parents`: parsers whose flags the command of this name accepts as well.
    """
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, command in commands.items():
        codes = [("", exit_codes[name]), ("", exit_codes[ANY_COMMAND])]
        subparser = subparsers.add_parser(
            name,
            help=command.HELP,
            description=f"{command.HELP[0].upper()}{command.HELP[1:]}.",
            epilog=f"{_table('exit codes:', codes)}\n{_examples(command.EXAMPLES)}",
            formatter_class=_HelpFormatter,
            parents=parents(name),
        )
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)


def _table(title: str, rows: Sequence[tuple[str, str]]) -> str:
    """Return the title and a line for each row, or more lines, with the texts in one column."""
    longest = max(len(name) for name, _ in rows)
    width = longest + 2 if longest else 0
    lines = [
        line
        for name, text in rows
        for line in textwrap.wrap(
            text,
            HELP_WIDTH,
            initial_indent=f"  {name:{width}}",
            subsequent_indent=" " * (width + 2),
            break_on_hyphens=False,
        )
    ]
    return "\n".join([title, *lines, ""])


def _examples(examples: Sequence[tuple[str, str]]) -> str:
    return "\n".join(["examples:", *(f"  # {purpose}\n  {line}" for purpose, line in examples)])
