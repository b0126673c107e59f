"""Completion in fish, 3.0 and later."""

from collections.abc import Iterator

from pgslot.cli.command_line import Argument, CommandLine, Flag


def fish_script(program: CommandLine) -> str:
    """Return the script for a program."""
    name = program.name
    lines = [f"# Completes {name} in fish; printed by `{name} completion fish`.", "", f"complete -c {name} -f"]
    before = "__fish_use_subcommand"
    lines += [f"complete -c {name} -n {before} {rest}" for rest in _flags(program)]
    for command in program.commands:
        lines.append(f"complete -c {name} -n {before} -a {command.name} -d {_quote(command.summary)}")
        within = _quote(f"__fish_seen_subcommand_from {command.name}")
        lines += [f"complete -c {name} -n {within} {rest}" for rest in (*_flags(command), *_arguments(command))]
    return "\n".join(lines) + "\n"


def _flags(place: CommandLine) -> Iterator[str]:
    for flag in place.flags:
        names = " ".join(
            f"-l {name.removeprefix('--')}" if name.startswith("--") else f"-s {name[1:]}" for name in flag.names
        )
        yield f"{names}{_value(flag)} -d {_quote(flag.meaning)}"


def _value(flag: Flag) -> str:
    if flag.value is None or flag.value_optional:
        return ""
    if flag.is_file:
        return " -r -F"
    return f" -x{_choices(flag)}"


def _arguments(place: CommandLine) -> Iterator[str]:
    for argument in place.arguments:
        if argument.is_file:
            yield f"-F -d {_quote(argument.meaning)}"
        elif argument.choices:
            yield f"-x{_choices(argument)}"


def _choices(item: Flag | Argument) -> str:
    return f" -a {_quote(' '.join(item.choices))}" if item.choices else ""


def _quote(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
