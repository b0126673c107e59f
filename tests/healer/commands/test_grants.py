"""What `pg-slot-healer grants` prints, run by psql on real servers: both roles can do their work and nothing more."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from healer.commands.grants import script
from healer.remedies.attempt import Act, AttemptResult, Unavailable
from healer.remedies.force_snapshot.connection import RecordConnection
from healer.remedies.registry import FORCE_SNAPSHOT
from pgslot.cli.errors import ConfigError
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, HealerConfig, Node
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.model import QueryStatus
from pgslot.snapshot.queries import SUPPORTED
from tests.support import in_process
from tests.support.servers.postgres import Postgres, run_psql
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import Stack

# Names that have to be quoted, and that read like placeholders.
EXPORTER, HEALER = 'The "eyes"', 'o\'hands :"exporter"'

FORBIDDEN = {
    "read a table": "SELECT * FROM public.orders",
    "write a table": "INSERT INTO public.orders VALUES (1, 'one')",
    "empty a table": "TRUNCATE public.orders",
    "lock a table": "BEGIN; LOCK TABLE public.orders IN ACCESS SHARE MODE",
    "read the passwords": "SELECT * FROM pg_catalog.pg_authid",
    "read the passwords another way": "SELECT * FROM pg_catalog.pg_shadow",
    "read the connection strings of subscriptions": "SELECT subconninfo FROM pg_catalog.pg_subscription",
    "read pg_hba.conf": "SELECT * FROM pg_catalog.pg_hba_file_rules",
    "make a table in public": "CREATE TABLE public.mine (id int)",
    "make a function in public": "CREATE FUNCTION public.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "make a schema": "CREATE SCHEMA mine",
    "make a database": "CREATE DATABASE mine",
    "make a role": "CREATE ROLE mine",
    "become a superuser": "ALTER ROLE CURRENT_USER SUPERUSER",
    "become a replication role": "ALTER ROLE CURRENT_USER REPLICATION",
    "become somebody else": "SET ROLE postgres",
    "take a role": "GRANT pg_write_all_data TO CURRENT_USER",
    "take a privilege": "GRANT EXECUTE ON FUNCTION pg_catalog.pg_switch_wal() TO CURRENT_USER",
    "change a setting": "ALTER SYSTEM SET work_mem = '64MB'",
    "change a database": "ALTER DATABASE postgres SET work_mem = '64MB'",
    "switch triggers off": "SET session_replication_role = replica",
    "load the settings anew": "SELECT pg_catalog.pg_reload_conf()",
    "switch the WAL file": "SELECT pg_catalog.pg_switch_wal()",
    "make a restore point": "SELECT pg_catalog.pg_create_restore_point('mine')",
    "force a checkpoint": "CHECKPOINT",
    "promote": "SELECT pg_catalog.pg_promote()",
    "pause replay": "SELECT pg_catalog.pg_wal_replay_pause()",
    "make a logical slot": "SELECT pg_catalog.pg_create_logical_replication_slot('mine', 'pgoutput')",
    "make a physical slot": "SELECT pg_catalog.pg_create_physical_replication_slot('mine')",
    "drop a slot": "SELECT pg_catalog.pg_drop_replication_slot('standby')",
    "move a slot": "SELECT pg_catalog.pg_replication_slot_advance('standby', '0/1')",
    "read a slot": "SELECT pg_catalog.pg_logical_slot_peek_changes('standby', NULL, NULL)",
    "publish": "CREATE PUBLICATION mine",
    "subscribe": "CREATE SUBSCRIPTION mine CONNECTION 'host=nowhere' PUBLICATION shop WITH (connect = false)",
    "end a superuser's session": "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
    " WHERE usename = 'postgres'",
    "cancel a superuser's query": "SELECT pg_catalog.pg_cancel_backend(pid) FROM pg_catalog.pg_stat_activity"
    " WHERE usename = 'postgres'",
    "reset statistics": "SELECT pg_catalog.pg_stat_reset()",
    "reset a slot's statistics": "SELECT pg_catalog.pg_stat_reset_replication_slot(NULL)",
    "list other directories": "SELECT pg_catalog.pg_ls_logdir()",
    "list files": "SELECT pg_catalog.pg_ls_dir('.')",
    "read a file": "SELECT pg_catalog.pg_read_file('PG_VERSION')",
    "import a file": "SELECT pg_catalog.lo_import('/etc/hostname')",
    "run a program": "COPY (SELECT 1) TO PROGRAM 'true'",
    "write a file": "COPY (SELECT 1) TO '/dev/null'",
}


@pytest.fixture(scope="module", params=SUPPORTED)
def stack(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """A primary and its standby of one version, hardened: CONNECT and CREATE are no longer everybody's."""
    with Stack(major=request.param) as stack:
        stack.start_databases()
        stack.primary.sql("REVOKE CONNECT ON DATABASE postgres FROM PUBLIC")
        # From 15 on it is so by default. Before, everybody may, and no grant of ours changes that.
        stack.primary.sql("REVOKE CREATE ON SCHEMA public FROM PUBLIC")
        run_psql(stack.primary, script(EXPORTER, HEALER))
        ready = "SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = %s"
        wait_for(lambda: stack.standby.sql(ready, [HEALER]), "the standby has the roles")
        yield stack


def conninfo(server: Postgres, role: str) -> str:
    return make_conninfo(server.conninfo(), user=role)


def privileges(server: Postgres) -> list[tuple[Any, ...]]:
    """Return all roles, memberships and privileges that a script could have changed."""
    return [
        row
        for table, columns in {
            "pg_authid": "rolname, rolsuper, rolinherit, rolcanlogin, rolreplication, rolconnlimit, rolpassword",
            "pg_auth_members": "roleid::regrole::text, member::regrole::text, admin_option",
            "pg_database": "datname, datacl::text",
            "pg_proc": "oid::regprocedure::text, proacl::text",
            "pg_namespace": "nspname, nspacl::text",
            "pg_db_role_setting": "setdatabase, setrole, setconfig::text",
        }.items()
        for row in server.sql(f"SELECT '{table}', {columns} FROM pg_catalog.{table} ORDER BY 2, 3")
    ]


def test_second_run_changes_nothing(stack: Stack) -> None:
    before = privileges(stack.primary)
    said = run_psql(stack.primary, script(EXPORTER, HEALER))
    assert privileges(stack.primary) == before
    assert "WARNING" not in said


def test_script_prints_what_each_role_may_do_now(stack: Stack) -> None:
    lines = [
        line.split(" | ") for line in run_psql(stack.primary, script(EXPORTER, HEALER)).splitlines() if " | " in line
    ]
    privileges_by_role = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in lines[1:]}
    heals = "t" if stack.major >= 16 else "f"
    assert privileges_by_role == {
        EXPORTER: ["postgres", "t", "t", "t", "f"],
        HEALER: ["postgres", "t", "f", "f", heals],
    }


async def test_exporter_role_can_read_everything_it_shows(stack: Stack) -> None:
    nodes = [Node("c", server.name, Conninfo(conninfo(server, EXPORTER))) for server in (stack.primary, stack.standby)]
    observer = ClusterCollector([Cluster("c", tuple(nodes), None)], "test", listing_interval=60.0)
    snapshot = await observer.collect_cluster("c", 5.0)
    await observer.close()
    for node in snapshot.nodes:
        assert set(node.all_statuses.values()) == {QueryStatus.OK}
        assert "wal_directory" in node.all_statuses
    standby = snapshot.nodes[1].standby
    assert standby is not None
    assert (standby.receiver_status, standby.streaming_configured) == ("streaming", True)


async def test_healer_role_can_heal(stack: Stack) -> None:
    target = HealerConfig(Conninfo(conninfo(stack.primary, HEALER)), enabled=True, dry_run=False)
    capability = await FORCE_SNAPSHOT.check(target)
    if stack.major < 16:
        assert capability.reason is Unavailable.SERVER_TOO_OLD
        return
    assert capability.reason is None
    async with RecordConnection(target) as primary:
        assert (await primary.act(Act(0.0))).result is AttemptResult.OK


@pytest.mark.parametrize("role", [EXPORTER, HEALER], ids=["exporter", "healer"])
def test_neither_role_has_any_further_privilege(stack: Stack, role: str) -> None:
    """One test for all: forty connections per role take little time, forty tests on five versions do not."""
    states = {}
    for what, statement in FORBIDDEN.items():
        with psycopg.connect(conninfo(stack.primary, role), autocommit=True) as connection:
            try:
                connection.execute(statement.encode())
            except psycopg.Error as error:
                states[what] = error.sqlstate
            else:
                states[what] = "it may"
    assert states == dict.fromkeys(FORBIDDEN, "42501")


@pytest.mark.parametrize("role", [EXPORTER, HEALER], ids=["exporter", "healer"])
def test_neither_role_gets_a_replication_connection(stack: Stack, role: str) -> None:
    with pytest.raises(psycopg.OperationalError, match=r"(?i)wal ?sender"):
        psycopg.connect(f"{conninfo(stack.primary, role)} replication=database")


def test_exporter_role_cannot_heal_and_healer_role_cannot_read_queries(stack: Stack) -> None:
    with psycopg.connect(conninfo(stack.primary, HEALER)) as connection:
        seen = connection.execute("SELECT query FROM pg_catalog.pg_stat_activity WHERE usename = 'postgres'").fetchall()
        assert {query for (query,) in seen} == {"<insufficient privilege>"}
    if stack.major >= 16:
        with (
            psycopg.connect(conninfo(stack.primary, EXPORTER)) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute("SELECT pg_catalog.pg_log_standby_snapshot()")


def test_healer_role_cannot_heal_in_another_database(databases: Stack) -> None:
    run_psql(databases.primary, script("grants_exporter", "grants_healer"))
    may = "SELECT pg_catalog.has_function_privilege('grants_healer', 'pg_catalog.pg_log_standby_snapshot()', 'EXECUTE')"
    with psycopg.connect(databases.primary.conninfo(dbname="template1")) as connection:
        assert connection.execute(may.encode()).fetchall() == [(False,)]
    assert databases.primary.sql(may) == [(True,)]


def test_existing_role_keeps_its_attributes_and_excess_ones_are_reported(databases: Stack) -> None:
    databases.primary.sql("CREATE ROLE grants_before LOGIN REPLICATION CONNECTION LIMIT 3")
    said = run_psql(databases.primary, script("grants_exporter", "grants_before"))
    assert "WARNING:  role grants_before has attributes that it does not need" in said
    attributes = "SELECT rolreplication, rolconnlimit FROM pg_catalog.pg_roles WHERE rolname = 'grants_before'"
    assert databases.primary.sql(attributes) == [(True, 3)]


def test_nothing_is_granted_if_a_part_fails(databases: Stack) -> None:
    with pytest.raises(AssertionError, match="reserved"):
        run_psql(databases.primary, script("grants_whole", "pg_not_allowed"))
    assert databases.primary.sql("SELECT 1 FROM pg_catalog.pg_roles WHERE rolname = 'grants_whole'") == []


@pytest.mark.parametrize("name", ["", "a\nDROP TABLE t; --", "$pgslot$", "a\\", "a\0", "é" * 32])
def test_bad_role_names_are_refused(name: str) -> None:
    for names in ((name, HEALER), (EXPORTER, name)):
        with pytest.raises(ConfigError, match=r"role: expected 1 to 63 bytes, printable"):
            script(*names)


def test_both_roles_need_different_names() -> None:
    with pytest.raises(ConfigError, match="expected another name than the exporter's role"):
        script("both", "both")


def test_command_prints_the_script() -> None:
    printed = partial(in_process.run, "pg-slot-healer", "grants")
    done = printed()
    assert (done.returncode, done.stdout) == (0, script("pgslot_exporter", "pgslot_healer"))
    assert printed("--exporter-role=a", "--healer-role=b").stdout == script("a", "b")
    bad = printed("--healer-role=")
    assert (bad.returncode, bad.stdout) == (2, "")
    assert bad.stderr.startswith("pg-slot-healer: --healer-role: expected 1 to 63 bytes")
