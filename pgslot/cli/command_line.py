"""A program's command line as facts, read from its parser: for manual pages, shell completion and the reference."""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag of a command."""

    names: tuple[str, ...]
    value: str | None
    """What its value is called, such as FILE; None: it takes no value."""
    value_optional: bool
    """Whether the value may be left out; a value that is given then follows an equals sign."""
    choices: tuple[str, ...]
    """The values that it takes; empty: any value."""
    is_file: bool
    repeatable: bool
    meaning: str


@dataclass(frozen=True, slots=True)
class Argument:
    """An argument that has no name on the command line."""

    name: str
    choices: tuple[str, ...]
    """The values that it takes; empty: any value."""
    is_file: bool
    optional: bool
    meaning: str


@dataclass(frozen=True, slots=True)
class CommandLine:
    """A command, or a program without a command."""

    name: str
    summary: str
    """One line, lower case, without a full stop; empty for a program."""
    description: str
    flags: tuple[Flag, ...]
    """Without those that are accepted and not listed."""
    arguments: tuple[Argument, ...]
    epilog: str
    """Exit codes of a program, examples of a command."""
    commands: tuple["CommandLine", ...]


def read_parser(parser: argparse.ArgumentParser) -> CommandLine:
    """Return what a program's parser accepts."""
    return _read(parser, parser.prog, "")


def _read(parser: argparse.ArgumentParser, name: str, summary: str) -> CommandLine:
    actions = [
        action
        for action in parser._actions  # noqa: SLF001 - argparse has no public list of a parser's options
        if action.help != argparse.SUPPRESS
    ]
    return CommandLine(
        name=name,
        summary=summary,
        description=parser.description or "",
        flags=tuple(_flag(parser, action) for action in actions if action.option_strings),
        arguments=tuple(
            _argument(parser, action)
            for action in actions
            if not action.option_strings and not isinstance(action, argparse._SubParsersAction)  # noqa: SLF001
        ),
        epilog=(parser.epilog or "").strip("\n"),
        commands=tuple(command for action in actions for command in _commands(action)),
    )


def _commands(action: argparse.Action) -> Iterator[CommandLine]:
    if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
        summaries = {listed.dest: listed.help or "" for listed in action._choices_actions}  # noqa: SLF001
        for name, parser in action.choices.items():
            yield _read(parser, name, summaries[name])


def _flag(parser: argparse.ArgumentParser, action: argparse.Action) -> Flag:
    takes_value = action.nargs != 0
    return Flag(
        names=tuple(action.option_strings),
        value=_value_name(action) if takes_value else None,
        value_optional=action.nargs == argparse.OPTIONAL,
        choices=tuple(map(str, action.choices or ())),
        is_file=action.type is Path,
        repeatable=isinstance(action, argparse._AppendAction | argparse._CountAction),  # noqa: SLF001
        meaning=_meaning(parser, action),
    )


def _argument(parser: argparse.ArgumentParser, action: argparse.Action) -> Argument:
    return Argument(
        name=_value_name(action),
        choices=tuple(map(str, action.choices or ())),
        is_file=action.type is Path,
        optional=action.nargs in (argparse.OPTIONAL, argparse.ZERO_OR_MORE),
        meaning=_meaning(parser, action),
    )


def _value_name(action: argparse.Action) -> str:
    return action.metavar if isinstance(action.metavar, str) else action.dest.upper()


def _meaning(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = parser._get_formatter()  # noqa: SLF001
    return formatter._expand_help(action) if action.help else ""  # noqa: SLF001
