"""The command line of pg-slot-healer: its commands, and what their exit codes mean."""

import argparse
from typing import Protocol

from healer.commands import doctor, grants, heal, metrics_reference, replay, serve


class Command(Protocol):
    """What each module of healer/commands has."""

    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def run(self, options: argparse.Namespace) -> int:
        """Run the command and return its exit code. Raises ConfigError for bad input."""


COMMANDS: dict[str, Command] = {
    "serve": serve,
    "heal": heal,
    "replay": replay,
    "grants": grants,
    "metrics": metrics_reference,
    "doctor": doctor,
}

_EXIT_CODES = """
exit codes:
  any      2 bad input: command line, configuration or file
  serve    0 stopped by a signal
  heal     0 nothing waits any more (healed, or nothing was there to heal), 1 not healed, 2 unavailable
  replay   0 printed, 1 somebody has to put something right before one of the alerts is of use
  grants   0 printed
  metrics  0 printed
  doctor   0 nothing failed (warnings do not count), 1 something failed, 3 nothing failed but something is unknown

pg-slot-healer COMMAND --help shows the flags of a command. --config.file may stand before or after the command.
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser; in its result, `run` is the command's function of the options."""
    result = argparse.ArgumentParser(
        prog="pg-slot-healer",
        description="Takes Alertmanager's webhooks and forces the running-xacts record that a slot waits for.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # Without a command the program serves, so serve's flags are also accepted without it.
    serve.add_arguments(result, again=False)
    result.set_defaults(run=serve.run)
    subparsers = result.add_subparsers(title="commands", metavar="COMMAND")
    for name, command in COMMANDS.items():
        subparser = subparsers.add_parser(name, help=command.HELP)
        command.add_arguments(subparser)
        subparser.set_defaults(run=command.run)
    return result
