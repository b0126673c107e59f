"""
What `pg-slot-healer grants --end-transactions` prints; that the role can do its work is in
tests/healer/remedies/terminate/test_statement.py.
"""

import subprocess

import psycopg
import pytest

from healer.commands.grants import ENDER_ROLE, ender_script, script
from healer.remedies.attempt import Unavailable
from healer.remedies.registry import END_TRANSACTION
from pgslot.cli.errors import ConfigError
from tests.healer.commands.test_grants import PROGRAM, run
from tests.support.blocking_transactions import acting
from tests.support.servers.postgres import Postgres
from tests.support.servers.stack import Stack

NAME = 'The "hand"'


def execute(server: Postgres, sql: str) -> None:
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute(sql.encode())


def test_it_is_printed_apart() -> None:
    done = subprocess.run([PROGRAM, "grants", "--end-transactions"], capture_output=True, text=True, check=True)
    assert done.stdout == ender_script(ENDER_ROLE)
    both = script("e", "h")
    assert "pg_signal_backend" not in both
    assert "pgslot.ended" not in both


async def test_psql_runs_it_twice_also_with_a_name_that_has_to_be_quoted(databases: Stack) -> None:
    primary = databases.primary
    try:
        for _ in range(2):
            shown = run(primary, ender_script(NAME))
        assert [row.split("|")[2:] for row in shown.replace(" ", "").splitlines() if "|t|" in row] == [["t"] * 4], shown
        target = acting(f"host=127.0.0.1 port={primary.port} dbname=postgres user='{NAME}'")
        assert (await END_TRANSACTION.check(target)).reason is None
    finally:
        execute(primary, f"DROP OWNED BY {quoted(NAME)}; DROP ROLE {quoted(NAME)}")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def test_where_the_schema_is_a_stranger_s_it_stops(databases: Stack) -> None:
    """What stands in it would run in the role's session."""
    primary = databases.primary
    primary.sql("CREATE DATABASE taken")
    try:
        with psycopg.connect(primary.conninfo(dbname="taken"), autocommit=True) as connection:
            connection.execute("CREATE ROLE stranger")
            connection.execute("CREATE SCHEMA pgslot AUTHORIZATION stranger")
            with pytest.raises(psycopg.errors.RaiseException, match="the schema pgslot belongs to somebody else"):
                connection.execute(ender_script(ENDER_ROLE).encode())
    finally:
        primary.sql("DROP DATABASE taken WITH (FORCE)")
        primary.sql("DROP ROLE stranger")


async def test_a_standby_is_no_place_to_end_anything(databases: Stack) -> None:
    execute(databases.primary, ender_script(ENDER_ROLE))
    databases.primary.wait_until_replayed(databases.standby)
    found = await END_TRANSACTION.check(acting(databases.standby.conninfo(ENDER_ROLE)))
    assert found.reason is Unavailable.NO_PRIMARY


def test_names_are_checked() -> None:
    with pytest.raises(ConfigError, match="--ender-role: expected 1 to 63 bytes"):
        ender_script("")
