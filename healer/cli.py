"""The command line of pg-slot-healer: its commands, and what their exit codes mean."""

import argparse

from healer.commands import doctor, grants, heal, metrics_reference, replay, serve, why
from pgslot.cli.commands import ANY_COMMAND, Command, add_commands, program_parser
from pgslot.cli.completion.command import CompletionCommand

COMMANDS: dict[str, Command] = {
    "serve": serve,
    "heal": heal,
    "replay": replay,
    "grants": grants,
    "metrics": metrics_reference,
    "doctor": doctor,
    "why": why,
    "completion": CompletionCommand("pg-slot-healer", lambda: parser()),  # noqa: PLW0108 - it is defined below
}

EXIT_CODES = {
    ANY_COMMAND: "2 bad input: command line, configuration or file; 130 interrupted by Ctrl-C",
    "serve": "0 stopped by a signal",
    "heal": "0 no slot is waiting any more, and every node was read; 1 a slot is still waiting (with --dry-run, or if "
    "you answered no, too); "
    "2 unavailable: the function cannot be called, or a node could not be read",
    "replay": "0 printed, 1 someone has to fix something before the healer can act on one of the alerts",
    "grants": "0 printed",
    "metrics": "0 printed",
    "doctor": "0 nothing failed (warnings do not count), 1 something failed, 3 nothing failed but something is unknown",
    "why": "0 the last wait is over, or the healer works on it; 1 the healer did not act, or in vain; 3 unknown: the "
    "healer does not answer, or it knows of no alert",
    "completion": "0 printed",
}
_NOTES = "pg-slot-healer COMMAND --help shows the flags of a command. You can put --config.file before or after it."


def parser() -> argparse.ArgumentParser:
    """Return the parser; in its result, `run` is the command's function of the options."""
    result = program_parser(
        "pg-slot-healer",
        "Receives Alertmanager's webhooks and forces the running-xacts record that a slot is waiting for.",
        EXIT_CODES,
        _NOTES,
    )
    # Without a command the program serves, so serve's flags are also accepted without it.
    serve.add_arguments(result, again=False)
    result.set_defaults(run=serve.run)
    add_commands(result, COMMANDS, EXIT_CODES)
    return result
