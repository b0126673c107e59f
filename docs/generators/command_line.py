"""The command line reference, from the programs' own argument parsers."""

from docs.generators.markdown import table
from exporter.cli import parser as exporter_parser
from healer.cli import parser as healer_parser
from pgslot.cli.command_line import Argument, CommandLine, Flag, read_parser

_HEAD = """# Command line

Generated from the programs' parsers by `make docs-reference`; do not edit. `man pg-slot-exporter` and `man
pg-slot-healer` show the same.

Both programs exit with 2 on bad input: command line, configuration or file. `--help` after a command shows its flags.
"""


def command_line_page() -> str:
    """Return the page: every command of both programs with its flags."""
    return _HEAD + "".join(_program(read_parser(parser)) for parser in (exporter_parser(), healer_parser()))


def _program(program: CommandLine) -> str:
    text = f"\n## {program.name}\n\n{program.description}\n\n{_flags(program)}"
    for command in program.commands:
        text += f"\n### {program.name} {command.name}\n\n{command.description}\n\n{_flags(command)}{_epilog(command)}"
    return text + _epilog(program)


def _epilog(place: CommandLine) -> str:
    return f"\n```text\n{place.epilog.strip()}\n```\n"


def _flags(place: CommandLine) -> str:
    rows = [(_argument_name(argument), argument.meaning) for argument in place.arguments]
    rows += [(_flag_name(flag), flag.meaning) for flag in place.flags if "--help" not in flag.names]
    return table(("flag", "meaning"), rows) if rows else "It has no flags.\n"


def _argument_name(argument: Argument) -> str:
    return f"`{argument.name}`{_choices(argument.choices)}"


def _flag_name(flag: Flag) -> str:
    names = ", ".join(f"`{name}`" for name in flag.names)
    if flag.choices:
        return f"{names}{_choices(flag.choices)}"
    if flag.value is None:
        return names
    return f"{names}[={flag.value}]" if flag.value_optional else f"{names} {flag.value}"


def _choices(choices: tuple[str, ...]) -> str:
    return "".join([" ", ", ".join(f"`{choice}`" for choice in choices)]) if choices else ""
