"""The SQL that makes the roles: grants.sql and grants_ender.sql, with the roles' names filled in."""

import argparse
import re
from importlib.resources import files

from pgslot.cli.errors import ConfigError

EXPORTER_ROLE = "pgslot_exporter"
HEALER_ROLE = "pgslot_healer"
ENDER_ROLE = "pgslot_ender"

# Written as psql writes its variables, which it does not fill in within a DO block.
_PLACEHOLDER = re.compile(r""":(["'])(?:exporter|healer|ender)\1""")

LONGEST_NAME = 63
"""Bytes; PostgreSQL cuts longer names off, which would then be other names."""


def run(options: argparse.Namespace) -> int:
    """Print the SQL that makes both roles; with --end-transactions that of the third, and of nothing else."""
    both = None if options.end_transactions else script(options.exporter_role, options.healer_role)
    print(ender_script(options.ender_role) if both is None else both, end="")
    return 0


def script(exporter_role: str, healer_role: str) -> str:
    """Return the script for PostgreSQL 14 to 19. Raises ConfigError for a name that cannot be a role's."""
    _check("--exporter-role", exporter_role)
    _check("--healer-role", healer_role)
    if exporter_role == healer_role:
        raise ConfigError(f"--healer-role: expected another name than the exporter's role, found {healer_role!r}")
    return _filled("grants.sql", exporter=exporter_role, healer=healer_role)


def ender_script(ender_role: str) -> str:
    """Return the script of the role that ends transactions. Raises ConfigError for a name that cannot be a role's."""
    _check("--ender-role", ender_role)
    return _filled("grants_ender.sql", ender=ender_role)


def _filled(file: str, **roles: str) -> str:
    filled = {f':"{each}"': _identifier(name) for each, name in roles.items()}
    filled |= {f":'{each}'": _literal(name) for each, name in roles.items()}
    # In one pass: a name that reads like a placeholder stays a name.
    return _PLACEHOLDER.sub(lambda found: filled[found[0]], files(__package__).joinpath(file).read_text("utf-8"))


def _check(flag: str, name: str) -> None:
    # It stands in comments and in a dollar-quoted block as well: a name must not be able to end either.
    good = name and name.isprintable() and "\\" not in name and "$pgslot$" not in name
    if not good or len(name.encode()) > LONGEST_NAME:
        raise ConfigError(
            f"{flag}: expected 1 to {LONGEST_NAME} bytes, printable, without backslash and $pgslot$, found {name!r}"
        )


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"
