"""What to do about a login that the server refused, by the text of its error: one thing, for a person to read."""

import re

from pgslot.postgres.types import quote_identifier

_NAME = r'"(?P<name>[^"]*)"'

_ADVICE: tuple[tuple[str, str], ...] = (
    (
        r"no password supplied",
        "Give the conninfo a password: a line of its passfile (mode 0600) that matches host, port, database and role,"
        " or a conninfo_file.",
    ),
    (
        rf"(?:password|SASL) authentication failed(?: for user {_NAME})?",
        "Make the two passwords the same: the one that the conninfo uses (passfile, conninfo_file, PGPASSWORD), and the"
        " one of {name} on the primary, which may also have expired. psql sets it with: \\password {name}",
    ),
    (rf"role {_NAME} does not exist", "Create role {name} on the primary, as pg-slot-healer grants prints it."),
    (r"no such user", "Add the role to the connection pooler's users, or name the server itself in the conninfo."),
    (rf"role {_NAME} is not permitted to log in", "On the primary: ALTER ROLE {name} LOGIN;"),
    (
        rf"permission denied for database {_NAME}",
        "On the primary, to the conninfo's role: GRANT CONNECT ON DATABASE {name} TO ...;",
    ),
    (
        rf"(?:database {_NAME} does not exist|no such database)",
        "Name a database that exists in the conninfo's dbname, such as dbname=postgres.",
    ),
    (
        rf'no pg_hba\.conf entry for (?:host "(?P<host>[^"]*)", )?user {_NAME}, database "(?P<database>[^"]*)"',
        "Add a line for host {host}, user {name} and database {database} to this server's pg_hba.conf, then:"
        " SELECT pg_reload_conf();",
    ),
    (
        r"pg_hba\.conf rejects connection",
        "A line of this server's pg_hba.conf rejects the login: put a line that lets it in above that, then:"
        " SELECT pg_reload_conf();",
    ),
    (
        r"authentication failed|auth failed",
        "This server's pg_hba.conf asks for a kind of authentication that the conninfo does not pass: change the method"
        " of that line, to scram-sha-256 for a password, then: SELECT pg_reload_conf();",
    ),
)
"""Pattern of the message, advice. The first that matches counts."""

_OTHERWISE = "Compare role, password and dbname of the conninfo with the server's roles and pg_hba.conf."


def login_advice(text: str) -> str:
    """Return what to do about a refused login; `text`: the server's or libpq's message, in whatever language."""
    for pattern, advice in _ADVICE:
        match = re.search(pattern, text)
        if match is not None:
            named = {key: quote_identifier(value) for key, value in match.groupdict().items() if value is not None}
            return advice.format_map({"name": "ROLE", "host": "local", **named})
    return _OTHERWISE
