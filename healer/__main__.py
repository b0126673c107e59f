"""pg-slot-healer as a program: parses the command line, runs one command, exits with its code."""

import sys
from collections.abc import Sequence

from healer.cli import parser
from pgslot.cli import exit_codes
from pgslot.cli.errors import ConfigError
from pgslot.cli.exit_codes import BAD_INPUT
from pgslot.cli.logging import printable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code; argparse itself exits with 2 for a bad command line."""
    options = parser().parse_args(arguments)
    try:
        return exit_codes.run_command(lambda: int(options.run(options)))
    except ConfigError as error:
        print(printable(f"pg-slot-healer: {error}"), file=sys.stderr)
        return BAD_INPUT


if __name__ == "__main__":
    sys.exit(main())
