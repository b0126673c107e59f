"""pg-slot-healer as a program: parses the command line, runs one command, exits with its code."""

import sys
from collections.abc import Sequence

from pgslot.cli import exit_codes
from pgslot.cli.errors import ConfigError
from pgslot.cli.exit_codes import BAD_INPUT


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; argparse itself exits with 2 for a bad command line."""
    try:
        return exit_codes.run_command(lambda: _run(arguments))
    except ConfigError as error:
        from pgslot.cli.logging import printable  # noqa: PLC0415 - as in _run()

        print(printable(f"pg-slot-healer: {error}"), file=sys.stderr)
        return BAD_INPUT


def _run(arguments: Sequence[str] | None) -> int:
    # Imported here, because these imports take most of a second, in which Ctrl-C must not print a traceback either.
    with exit_codes.die_of_interrupts():
        from healer.cli import parser  # noqa: PLC0415

    options = parser().parse_args(arguments)
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
