"""`pg-slot-exporter rehearse` on the servers of the session; tests/rehearsals compares it with real switchovers."""

import json
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import psycopg
import pytest
import yaml

from tests.support import in_process
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import EXPORTER_ROLE, POWERLESS_ROLE, Stack


def rehearse(stack: Stack, folder: Path, *arguments: str, role: str = EXPORTER_ROLE) -> CompletedProcess[str]:
    conninfos = {"p": stack.primary.conninfo(role), "s": stack.standby.conninfo(role)}
    file = folder / "pgslot.yml"
    nodes = {name: {"conninfo": conninfo} for name, conninfo in conninfos.items()}
    file.write_text(yaml.safe_dump({"clusters": {"c": {"nodes": nodes}}}))
    return in_process.run("pg-slot-exporter", "rehearse", "c", f"--config.file={file}", *arguments)


@pytest.fixture
def plain_slot(databases: Stack) -> Iterator[str]:
    databases.primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('plain', 'pgoutput')")
    yield "plain"
    databases.primary.drop_slot("plain")


def test_everything_goes_on_where_there_is_no_logical_slot(databases: Stack, tmp_path: Path) -> None:
    done = rehearse(databases, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("c: a switchover from p to s, as of now\n")
    assert done.stdout.splitlines()[-1] == "c/s: everything goes on."


@pytest.mark.usefixtures("plain_slot")
def test_slot_that_ends_is_exit_code_1(databases: Stack, tmp_path: Path) -> None:
    done = rehearse(databases, tmp_path, "--to=s", "--json")
    assert done.returncode == 1
    [said] = json.loads(done.stdout)
    [plain] = [slot for slot in said["slots"] if slot["slot_name"] == "plain"]
    assert (plain["outcome"], plain["reason"]) == ("ends", "no_failover")


def test_switchover_to_the_primary_is_bad_input(databases: Stack, tmp_path: Path) -> None:
    done = rehearse(databases, tmp_path, "--to=p")
    assert (done.returncode, done.stdout) == (2, "")
    assert "--to: expected a standby, found 'p', which is the primary" in done.stderr


def test_what_the_role_may_not_see_is_unknown_and_the_grant_it_names_shows_it(databases: Stack, tmp_path: Path) -> None:
    done = rehearse(databases, tmp_path, role=POWERLESS_ROLE)
    assert done.returncode == 3, done.stdout
    [line] = [line for line in done.stdout.splitlines() if "this takes" in line]
    assert line.startswith("  - whether and how s streams: this takes a privilege: GRANT ")
    grant = line.partition("a privilege: ")[2]
    databases.primary.sql(grant)
    try:
        databases.primary.wait_until_replayed(databases.standby)
        assert rehearse(databases, tmp_path, role=POWERLESS_ROLE).returncode == 0
    finally:
        databases.primary.sql(grant.replace("GRANT", "REVOKE").replace(" TO ", " FROM "))


def test_rehearsal_leaves_nothing_behind(databases: Stack, tmp_path: Path) -> None:
    """It writes no WAL, and its sessions end."""
    with databases.primary.no_records_by_itself():
        before = databases.primary.lsn()
        rehearse(databases, tmp_path)
        assert databases.primary.lsn() == before

    def sessions() -> bool:
        query = "SELECT 1 FROM pg_catalog.pg_stat_activity WHERE usename = %s"
        return any(server.sql(query, [EXPORTER_ROLE]) for server in (databases.primary, databases.standby))

    wait_for(lambda: not sessions(), "its sessions have ended")


def test_standby_that_is_down_is_unknown(databases: Stack, tmp_path: Path) -> None:
    def answers() -> Any:
        try:
            return databases.standby.sql("SELECT 1")
        except psycopg.OperationalError:
            return None

    databases.standby.stop()
    try:
        done = rehearse(databases, tmp_path)
    finally:
        databases.standby.start()
        wait_for(answers, "the standby is back")
    assert done.returncode == 3
    assert "  - what s does after the switchover: this takes s to answer: node unreachable" in done.stdout
