"""`pg-slot-exporter sql`: prints every query as each supported version of PostgreSQL gets it."""

import argparse

from exporter.sql_reference import sql_reference

HELP = "print every query for each version"
EXAMPLES = (("Read what the exporter asks a server, before you install it.", "pg-slot-exporter sql | less"),)


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command has no flags."""


def run(_options: argparse.Namespace) -> int:
    """Print the queries."""
    print(sql_reference())
    return 0
