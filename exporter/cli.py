"""The command line of pg-slot-exporter: its commands, and what their exit codes mean."""

import argparse
from typing import Any

from exporter.commands import explain, metrics, preflight, rehearse, rules, serve, sql, status
from pgslot.cli.commands import ANY_COMMAND, Command, add_commands, program_parser
from pgslot.cli.completion.command import CompletionCommand

COMMANDS: dict[str, Command] = {
    "status": status,
    "explain": explain,
    "serve": serve,
    "sql": sql,
    "metrics": metrics,
    "rules": rules,
    "rehearse": rehearse,
    "preflight": preflight,
    "completion": CompletionCommand("pg-slot-exporter", lambda: parser()),  # noqa: PLW0108 - it is defined below
}

_FLAGS_OF_OTHERS: dict[str, tuple[Command, ...]] = {
    "serve": (rules,),
    "sql": (serve, rules),
    "metrics": (serve, rules),
    "rules": (serve,),
}
"""These commands have always accepted each other's flags, and ignore them."""

EXIT_CODES = {
    ANY_COMMAND: "2 bad input: command line, configuration or file; 130 interrupted by Ctrl-C",
    "status": "0 nothing needs anybody, 1 something does, 3 nothing does as far as the command could see, but it could "
    "not see everything",
    "explain": "0 the slot needs nobody, 1 it does, 3 it does not as far as the command could see, but it could not "
    "see everything",
    "serve": "0 stopped by a signal",
    "sql": "0 printed",
    "metrics": "0 printed",
    "rules": "0 printed",
    "rehearse": "0 nothing breaks, 1 something breaks, 3 nothing breaks as far as the command could see, but it could "
    "not see everything",
    "preflight": "0 a creation would work at once, 1 it would wait, or it or its consumer would fail, 3 as far as the "
    "command could see it would work, but it could not see everything",
    "completion": "0 printed",
}
_NOTES = "pg-slot-exporter COMMAND --help shows the flags of a command. You can put --config.file before or after it."


class _WithoutHelp(argparse.ArgumentParser):
    """A parent whose flags are accepted and not listed."""

    def add_argument(self, *names: Any, **options: Any) -> argparse.Action:
        return super().add_argument(*names, **{**options, "help": argparse.SUPPRESS})


def parser() -> argparse.ArgumentParser:
    """Return the parser; in its result, `run` is the command's function of the options."""
    result = program_parser(
        "pg-slot-exporter",
        "Prometheus exporter that shows why PostgreSQL's logical replication slots wait or retain WAL.",
        EXIT_CODES,
        _NOTES,
    )
    # Without a command the program serves, so serve's flags are also accepted without it.
    serve.add_arguments(result, again=False)
    rules.add_arguments(result, again=False)
    result.set_defaults(run=serve.run)
    add_commands(result, COMMANDS, EXIT_CODES, _ignored_flags)
    return result


def _ignored_flags(name: str) -> list[argparse.ArgumentParser]:
    """Return a parser of the flags that this command accepts and ignores."""
    ignored = _WithoutHelp(add_help=False)
    for other in _FLAGS_OF_OTHERS.get(name, ()):
        other.add_arguments(ignored)
    return [ignored]
