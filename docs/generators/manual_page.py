"""The programs' manual pages for man(1), from their own argument parsers, in the macros of man(7)."""

import re
import textwrap
from collections.abc import Iterable, Iterator

from pgslot import __version__
from pgslot.cli.command_line import Argument, CommandLine, Flag


def manual_page(program: CommandLine, *, see_also: str) -> str:
    """Return the page of a program. `see_also`: the other program."""
    codes, notes = _split_epilog(program)
    lines = [
        r".\" Generated from the parser of the program by docs/generators; do not edit.",
        f'.TH {program.name.upper()} 1 "" "pg-slot-healer {__version__}" "User Commands"',
        ".SH NAME",
        rf"{_text(program.name)} \- {_text(program.description.rstrip('.'))}",
        ".SH SYNOPSIS",
        *_synopsis(program),
        ".SH DESCRIPTION",
        _text(program.description),
        ".PP",
        _text(notes),
        ".SH OPTIONS",
        *_options(program.flags, program.arguments),
        ".SH COMMANDS",
    ]
    for command in program.commands:
        lines += [
            f".SS {_text(command.name)}",
            _text(command.description),
            *_options(_without_help(command), command.arguments),
        ]
    lines += [".SH EXIT STATUS", *_preformatted(codes), ".SH EXAMPLES"]
    for command in program.commands:
        for purpose, line in _examples(command):
            lines += [".PP", _text(purpose), *_preformatted(line)]
    lines += [".SH SEE ALSO", rf"\fB{_text(see_also)}\fR(1), \fBpsql\fR(1)"]
    return "\n".join(lines) + "\n"


def _synopsis(program: CommandLine) -> Iterator[str]:
    name = rf"\fB{_text(program.name)}\fR"
    for number, command in enumerate(program.commands):
        arguments = "".join(f" {_argument(argument)}" for argument in command.arguments)
        if number:
            yield ".br"
        yield rf"{name} \fB{_text(command.name)}\fR [\fIflag\fR...]{arguments}"


def _argument(argument: Argument) -> str:
    name = rf"\fI{_text(argument.name)}\fR"
    return f"[{name}]" if argument.optional else name


def _options(flags: Iterable[Flag], arguments: Iterable[Argument]) -> Iterator[str]:
    for argument in arguments:
        yield from (".TP", rf"\fI{_text(argument.name)}\fR", _text(argument.meaning))
    for flag in flags:
        yield from (".TP", _flag_name(flag), _text(flag.meaning))


def _without_help(command: CommandLine) -> list[Flag]:
    """Return the flags without --help, which the program's own options have."""
    return [flag for flag in command.flags if "--help" not in flag.names]


def _flag_name(flag: Flag) -> str:
    names = ", ".join(rf"\fB{_text(name)}\fR" for name in flag.names)
    if flag.value is None:
        return names
    value = rf"=\fI{_text('|'.join(flag.choices) or flag.value)}\fR"
    return f"{names}[{value}]" if flag.value_optional else f"{names}{value}"


def _split_epilog(program: CommandLine) -> tuple[str, str]:
    """Return the table of exit codes, and the notes after it."""
    table, _, notes = program.epilog.partition("\n\n")
    return textwrap.dedent(table.partition("\n")[2]), notes.strip()


def _examples(command: CommandLine) -> list[tuple[str, str]]:
    return re.findall(r"^  # (.*)\n  (.*)$", command.epilog, re.MULTILINE)


def _preformatted(text: str) -> list[str]:
    return [".PP", ".RS 4", ".nf", *map(_text, text.splitlines()), ".fi", ".RE"]


def _text(text: str) -> str:
    r"""Return text for roff: dashes stay ASCII, a backslash is one, and no line is a request."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-").replace("'", r"\(aq").replace("`", r"\(ga")
    return rf"\&{escaped}" if escaped.startswith(".") else escaped
