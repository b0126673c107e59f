"""The command preflight, on a primary and its standby; tests/preflights compares its verdicts with real creations."""

import json
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from exporter.app import APPLICATION_NAME
from exporter.commands import preflight
from tests.support import in_process
from tests.support.readme import block, lines
from tests.support.servers.conditions import password_required
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import EXPORTER_ROLE, Stack

SLOTS = "SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE slot_type = 'logical'"
OURS = f"SELECT pid FROM pg_catalog.pg_stat_activity WHERE application_name = '{APPLICATION_NAME}'"


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "APART_SECONDS", 0.2)
    monkeypatch.setattr(preflight, "SETTLED_SECONDS", 0.0)


def run(*arguments: str, code: int) -> str:
    done = in_process.run("pg-slot-exporter", "preflight", *arguments)
    assert (done.returncode, done.stderr) == (code, ""), done.stdout
    return done.stdout


def lines_of(*arguments: str, code: int) -> dict[str, dict[str, Any]]:
    said = json.loads(run("--json", *arguments, code=code))
    return {line["check"]: line for line in said["lines"]}


def test_line_of_the_docs_runs_and_creates_nothing(databases: Stack) -> None:
    primary, standby = databases.primary, databases.standby
    [line] = lines(block("pg-slot-exporter preflight --conninfo"))
    hosts = f"host=127.0.0.1,127.0.0.1 port={primary.port},{standby.port} dbname=postgres"
    command = line.replace("host=orders-1,orders-2", hosts).replace("shop", "postgres").replace("=cdc", "=postgres")
    command = command.replace("--publication=postgres", "--publication=shop")
    text = run(*shlex.split(command)[2:], code=0)
    assert f"A logical slot (pgoutput) in postgres for postgres on 127.0.0.1:{primary.port}, as of now" in text
    assert text.endswith("A creation would work at once.\n")
    assert primary.sql(SLOTS) == standby.sql(SLOTS) == []
    wait_for(lambda: not primary.sql(OURS), "its sessions have ended")


def test_configuration_names_the_nodes_and_their_volumes(databases: Stack, tmp_path: Path) -> None:
    file = tmp_path / "pgslot.yml"
    nodes = {"a": databases.primary, "b": databases.standby}
    conninfos = ", ".join(f"{name}: {{conninfo: '{node.conninfo()}'}}" for name, node in nodes.items())
    file.write_text(f"clusters: {{orders: {{wal_volume: 500GB, nodes: {{{conninfos}}}}}}}")
    found = lines_of(f"--config.file={file}", code=0)
    assert found["server"]["text"].startswith("a is a primary")
    assert found["disk"]["status"] == "ok"
    found = lines_of(f"--config.file={file}", "--on=b", code=1)
    assert found["server"]["text"].startswith("b is a standby")
    assert found["record"]["fix_on"] == "a"


def test_hosts_without_a_primary_are_asked_for_the_node(databases: Stack) -> None:
    conninfo = f"host=127.0.0.1,127.0.0.1 port={databases.standby.port},1 user=postgres"
    text = run(f"--conninfo={conninfo}", code=3)
    assert "no host is a primary: name the node with --on (127.0.0.1:1: it did not answer)" in text


def test_password_of_the_connection_is_not_sent_for_another_user(databases: Stack) -> None:
    primary = databases.primary
    with password_required(primary, "guarded", "secret") as conninfo:
        primary.sql("ALTER ROLE guarded REPLICATION")
        observer = f"{conninfo.replace('user=guarded', f'user={EXPORTER_ROLE}')} password=secret"
        found = lines_of(f"--conninfo={observer}", "--user=guarded", code=3)["pg_hba.conf"]
        assert found["status"] == "unknown"
        assert "no line of the passfile has it" in found["text"]
        found = lines_of(f"--conninfo={conninfo} password=secret", code=0)["pg_hba.conf"]
        assert found["status"] == "ok"
        assert lines_of(f"--conninfo={observer}", "--user=guarded", "--no-login", code=3)["pg_hba.conf"]["text"] == (
            "no replication connection of guarded was tried"
        )


def test_wrong_password_of_the_own_user_is_no_verdict_of_ok(databases: Stack) -> None:
    with password_required(databases.primary, "guarded", "secret") as conninfo:
        found = lines_of(f"--conninfo={conninfo} password=wrong", code=3)
    assert "it refused the login" in found["server"]["text"]


def test_identity_of_partitions_and_heartbeats_is_seen(databases: Stack) -> None:
    primary = databases.primary
    primary.sql("CREATE TABLE events (id int) PARTITION BY RANGE (id)")
    try:
        primary.sql("CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (9)")
        primary.sql("CREATE TABLE events_heartbeat (id int PRIMARY KEY)")
        primary.sql("CREATE PUBLICATION parts FOR TABLE events WITH (publish_via_partition_root)")
        arguments = (f"--conninfo={primary.conninfo()}", "--publication=parts")
        found = lines_of(*arguments, code=1)
        assert "public.events_1: " in found["replica identity"]["text"]
        assert found["heartbeat"]["fix"] == ['ALTER PUBLICATION "parts" ADD TABLE public.events_heartbeat;']
        for statement in (*found["replica identity"]["fix"], *found["heartbeat"]["fix"]):
            primary.sql(statement)
        found = lines_of(*arguments, code=0)
        assert {found["replica identity"]["status"], found["heartbeat"]["status"]} == {"ok"}
    finally:
        primary.sql("DROP PUBLICATION IF EXISTS parts")
        primary.sql("DROP TABLE events, events_heartbeat")


def test_ctrl_c_leaves_no_session(databases: Stack) -> None:
    primary: Postgres = databases.primary
    # Not in this process: it is the program that is interrupted.
    program = str(Path(sys.executable).with_name("pg-slot-exporter"))
    command = [program, "preflight", f"--conninfo={primary.conninfo()}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_for(lambda: primary.sql(OURS), "it has connected")
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, stdout, stderr) == (130, "", "")
    wait_for(lambda: not primary.sql(OURS), "its sessions have ended")
