"""`pg-slot-healer grants`: prints grants.sql or grants_end_transactions.sql, with the names of the roles filled in."""

import argparse
import re
from collections.abc import Mapping
from importlib.resources import files

from healer.commands.service_notes import comment
from pgslot.cli.errors import ConfigError
from pgslot.diagnosis.services import SERVICES

HELP = "print the SQL that creates both roles with least privilege"
EXAMPLES = (
    ("Create both roles; run it on the primary.", "pg-slot-healer grants | psql --dbname=postgres"),
    ("Create both roles on Amazon RDS.", "pg-slot-healer grants --service=rds | psql --dbname=postgres"),
    ("Create the role that may end transactions.", "pg-slot-healer grants --end-transactions | psql --dbname=postgres"),
)
EXPORTER_ROLE = "pgslot_exporter"
HEALER_ROLE = "pgslot_healer"
ENDER_ROLE = "pgslot_ender"

_PLACEHOLDER = re.compile(r""":(["'])(?:exporter|healer|ender)\1""")
"""As psql's own variables, which psql does not replace within a DO block."""

MAX_NAME_BYTES = 63
"""PostgreSQL truncates longer names, which would then be other names."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--exporter-role", default=EXPORTER_ROLE, metavar="NAME", help="the exporter's role; default %(default)s"
    )
    parser.add_argument(
        "--healer-role", default=HEALER_ROLE, metavar="NAME", help="the healer's role; default %(default)s"
    )
    parser.add_argument(
        "--service",
        choices=[service.name for service in SERVICES],
        help="instead, print the SQL of both roles for a managed service, where nobody is superuser",
    )
    parser.add_argument(
        "--end-transactions",
        action="store_true",
        help="instead, print the SQL that creates the role that may end transactions and the table in which it records "
        "the sessions that it ended",
    )
    parser.add_argument(
        "--ender-role",
        default=ENDER_ROLE,
        metavar="NAME",
        help="the role that may end transactions; default %(default)s",
    )


def run(options: argparse.Namespace) -> int:
    """
    Print the SQL of the exporter's and the healer's role, for a managed service with --service.

    With --end-transactions it is only that of the third role. Raises ConfigError for both flags.
    """
    if options.service is not None and options.end_transactions:
        raise ConfigError("--service: expected it without --end-transactions, whose SQL needs the owner of a database")
    if options.service is not None:
        print(service_script(options.service, options.exporter_role, options.healer_role), end="")
    elif options.end_transactions:
        print(ender_script(options.ender_role), end="")
    else:
        print(script(options.exporter_role, options.healer_role), end="")
    return 0


def script(exporter_role: str, healer_role: str) -> str:
    """Return the SQL of both roles, for PostgreSQL 14 to 19. Raises ConfigError for a bad role name."""
    _check_name("--exporter-role", exporter_role)
    _check_name("--healer-role", healer_role)
    if exporter_role == healer_role:
        raise ConfigError(f"--healer-role: expected another name than the exporter's role, found {healer_role!r}")
    return _fill_in("grants.sql", exporter=exporter_role, healer=healer_role)


def service_script(name: str, exporter_role: str, healer_role: str) -> str:
    """Return the SQL of both roles for a managed service. Raises ConfigError for a bad role name."""
    script(exporter_role, healer_role)
    [service] = [service for service in SERVICES if service.name == name]
    administrator = "postgres" if service.administrator == "postgres" else f"a member of {service.administrator}"
    texts = {"service": service.title, "administrator": administrator, "name": name, "notes": comment(name)}
    return _fill_in("grants_service.sql", texts, exporter=exporter_role, healer=healer_role)


def ender_script(ender_role: str) -> str:
    """Return the SQL of the role that ends transactions. Raises ConfigError for a bad role name."""
    _check_name("--ender-role", ender_role)
    return _fill_in("grants_end_transactions.sql", ender=ender_role)


def _fill_in(file: str, texts: Mapping[str, str] | None = None, **roles: str) -> str:
    """Return the file's SQL with these roles, and with these texts in its comments."""
    sql = files(__package__).joinpath(file).read_text("utf-8")
    for key, text in (texts or {}).items():
        sql = re.sub(rf"(?<!:):{key}\b", lambda _: text, sql)  # noqa: B023 - called at once
    values = {f':"{role}"': _identifier(name) for role, name in roles.items()}
    values |= {f":'{role}'": _literal(name) for role, name in roles.items()}
    # In one pass, so that a name that reads like a placeholder is not replaced in turn.
    return _PLACEHOLDER.sub(lambda match: values[match[0]], sql)


def _check_name(flag: str, name: str) -> None:
    # Names are also filled in within comments and a dollar-quoted block: a name must not be able to end either.
    safe = name and name.isprintable() and "\\" not in name and "$pgslot$" not in name
    if not safe or len(name.encode()) > MAX_NAME_BYTES:
        raise ConfigError(
            f"{flag}: expected 1 to {MAX_NAME_BYTES} bytes, printable, without backslash and $pgslot$, found {name!r}"
        )


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(name: str) -> str:
    return "'" + name.replace("'", "''") + "'"
