"""What the exporter's role needs on a server beyond LOGIN, as `pg-slot-healer grants` grants it."""

from pgslot.postgres.types import quote_identifier

ROLES = ("pg_read_all_stats", "pg_read_all_settings")
"""Predefined roles. The first shows what other roles' sessions wait for, the second primary_conninfo."""


LISTING_FUNCTIONS = ("pg_ls_waldir()", "pg_ls_archive_statusdir()")
"""What shows the sizes of WAL files and counts those that wait for the archiver: two functions out of pg_monitor."""


def grant_listing(role: str) -> str:
    """Return the statement that lets a role list WAL files: in the database that the exporter connects to."""
    functions = ", ".join(f"pg_catalog.{function}" for function in LISTING_FUNCTIONS)
    return f"GRANT EXECUTE ON FUNCTION {functions} TO {quote_identifier(role)};"


def grant(role: str) -> str:
    """Return the statement that gives a role what it needs, to be run as a superuser on the primary."""
    return f"GRANT {', '.join(ROLES)} TO {quote_identifier(role)};"
