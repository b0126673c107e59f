"""The command line reference, from the programs' own argument parsers."""

import argparse
from collections.abc import Iterator

from docs.generators.markdown import table
from exporter.cli import parser as exporter_parser
from healer.cli import parser as healer_parser

_HEAD = """# Command line

Generated from the programs' parsers by `make docs-reference`; do not edit.

Both programs exit with 2 on bad input: command line, configuration or file. `--help` after a command shows its flags.
"""


def command_line_page() -> str:
    """Return the page: every command of both programs with its flags."""
    return _HEAD + "".join(_program(parser) for parser in (exporter_parser(), healer_parser()))


def _program(parser: argparse.ArgumentParser) -> str:
    text = f"\n## {parser.prog}\n\n{_description(parser)}{_flags(parser)}"
    for name, command in _commands(parser):
        text += f"\n### {parser.prog} {name}\n\n{_description(command)}{_flags(command)}"
    if parser.epilog:
        text += f"\n```text\n{parser.epilog.strip()}\n```\n"
    return text


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:  # noqa: SLF001 - argparse has no public list of a parser's options
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            yield from action.choices.items()


def _description(parser: argparse.ArgumentParser) -> str:
    return f"{parser.description}\n\n" if parser.description else ""


def _flags(parser: argparse.ArgumentParser) -> str:
    rows = [
        (_name(action), _help(parser, action))
        for action in parser._actions  # noqa: SLF001
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)  # noqa: SLF001
        and action.help != argparse.SUPPRESS
    ]
    return table(("flag", "meaning"), rows) if rows else "It has no flags.\n"


def _name(action: argparse.Action) -> str:
    name = ", ".join(f"`{option}`" for option in action.option_strings) or f"`{action.metavar or action.dest}`"
    if action.choices is not None:
        return f"{name} " + ", ".join(f"`{choice}`" for choice in action.choices)
    return f"{name} {action.metavar}" if action.option_strings and action.metavar else name


def _help(parser: argparse.ArgumentParser, action: argparse.Action) -> str:
    formatter = parser._get_formatter()  # noqa: SLF001
    return formatter._expand_help(action) if action.help else ""  # noqa: SLF001
