"""pg-slot-exporter as a program: parses the command line, runs one command, exits with its code."""

import sys
from collections.abc import Sequence

from pgslot.cli import exit_codes
from pgslot.cli.errors import ConfigError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; exits with its code unless that is 0, and with 2 on bad input."""
    try:
        code = exit_codes.run_command(lambda: _run(arguments))
    except ConfigError as error:
        from pgslot.cli.logging import printable  # noqa: PLC0415 - as in _run()

        print(printable(f"pg-slot-exporter: {error}"), file=sys.stderr)
        code = exit_codes.BAD_INPUT
    if code:
        sys.exit(code)


def _run(arguments: Sequence[str] | None) -> int:
    # Imported here, because these imports take most of a second, in which Ctrl-C must not print a traceback either.
    with exit_codes.die_of_interrupts():
        from exporter.cli import parser  # noqa: PLC0415

    options = parser().parse_args(arguments)
    return int(options.run(options))


if __name__ == "__main__":
    main()
