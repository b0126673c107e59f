"""
What `pg-slot-healer grants --end-transactions` prints; that the role can do its work is in
tests/healer/remedies/terminate/test_statement.py.
"""

import psycopg
import pytest

from healer.commands.grants import ENDER_ROLE, ender_script, script
from healer.remedies.attempt import Unavailable
from healer.remedies.registry import END_TRANSACTION
from pgslot.cli.errors import ConfigError
from tests.support import in_process
from tests.support.blocking_transactions import terminating
from tests.support.servers.postgres import Postgres, run_psql
from tests.support.servers.stack import Stack

NAME = 'The "hand"'


def execute(server: Postgres, sql: str) -> None:
    with psycopg.connect(server.conninfo(), autocommit=True) as connection:
        connection.execute(sql.encode())


def test_script_of_the_third_role_is_printed_alone() -> None:
    done = in_process.run("pg-slot-healer", "grants", "--end-transactions")
    assert done.stdout == ender_script(ENDER_ROLE)
    both = script("e", "h")
    assert "pg_signal_backend" not in both
    assert "pgslot.ended" not in both


async def test_psql_runs_it_twice_with_a_name_that_needs_quotes(databases: Stack) -> None:
    primary = databases.primary
    try:
        for _ in range(2):
            shown = run_psql(primary, ender_script(NAME))
        assert [row.split("|")[2:] for row in shown.replace(" ", "").splitlines() if "|t|" in row] == [["t"] * 5], shown
        target = terminating(f"host=127.0.0.1 port={primary.port} dbname=postgres user='{NAME}'")
        assert (await END_TRANSACTION.check(target)).reason is None
    finally:
        execute(primary, f"DROP OWNED BY {quoted(NAME)}; DROP ROLE {quoted(NAME)}")


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def test_schema_of_another_owner_is_refused(databases: Stack) -> None:
    """Its owner's functions could run in the role's session."""
    primary = databases.primary
    primary.sql("CREATE DATABASE taken")
    try:
        with psycopg.connect(primary.conninfo(dbname="taken"), autocommit=True) as connection:
            connection.execute("CREATE ROLE stranger")
            connection.execute("CREATE SCHEMA pgslot AUTHORIZATION stranger")
            with pytest.raises(psycopg.errors.RaiseException, match="the schema pgslot does not belong to a superuser"):
                connection.execute(ender_script(ENDER_ROLE).encode())
    finally:
        primary.sql("DROP DATABASE taken WITH (FORCE)")
        primary.sql("DROP ROLE stranger")


async def test_standby_is_reported_as_not_a_primary(databases: Stack) -> None:
    execute(databases.primary, ender_script(ENDER_ROLE))
    databases.primary.wait_until_replayed(databases.standby)
    capability = await END_TRANSACTION.check(terminating(databases.standby.conninfo(ENDER_ROLE)))
    assert capability.reason is Unavailable.NO_PRIMARY


def test_bad_role_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="--ender-role: expected 1 to 63 bytes"):
        ender_script("")


async def test_logged_table_of_an_earlier_version_becomes_unlogged(databases: Stack) -> None:
    primary = databases.primary
    execute(primary, ender_script(ENDER_ROLE))
    execute(primary, "ALTER TABLE pgslot.ended SET LOGGED")
    target = terminating(primary.conninfo(ENDER_ROLE))
    assert "FOR ALL TABLES" in (await END_TRANSACTION.check(target)).advice
    execute(primary, ender_script(ENDER_ROLE))
    assert (await END_TRANSACTION.check(target)).reason is None


async def test_table_with_a_trigger_is_refused(databases: Stack) -> None:
    """Its function would run with the role's privileges."""
    primary = databases.primary
    execute(primary, ender_script(ENDER_ROLE))
    execute(primary, "CREATE FUNCTION pgslot.f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'")
    execute(primary, "CREATE TRIGGER t BEFORE INSERT ON pgslot.ended FOR EACH ROW EXECUTE FUNCTION pgslot.f()")
    try:
        with pytest.raises(psycopg.errors.RaiseException, match="not a plain table without triggers"):
            execute(primary, ender_script(ENDER_ROLE))
    finally:
        execute(primary, "DROP TRIGGER t ON pgslot.ended; DROP FUNCTION pgslot.f()")
