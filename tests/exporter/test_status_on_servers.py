"""`pg-slot-exporter status` and `explain` on real servers: the situations that people open a terminal for."""

import asyncio
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import psycopg
import pytest

from exporter.commands.look import CLUSTER, observing
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerSettings, Node
from pgslot.status.explanation import explanation
from pgslot.status.slot_status import Concern
from tests.support import in_process
from tests.support.hanging_creations import hanging_creation
from tests.support.running_healer import impatient
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import free_port, wait_for
from tests.support.servers.programs import EXPORTER_PROGRAM
from tests.support.servers.stack import EXPORTER_ROLE, POWERLESS_ROLE, Stack
from tests.support.servers.workload import confirmed_all, streaming_consumer, write_wal
from tests.support.terminal import Terminal

CREATE = "SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput')"


def run(
    command: str, *servers: Postgres, more: tuple[str, ...] = (), role: str = EXPORTER_ROLE
) -> CompletedProcess[str]:
    conninfos = [f"--conninfo={server.conninfo(role)}" for server in servers]
    return in_process.run("pg-slot-exporter", *command.split(), *conninfos, *more)


def json_of(*servers: Postgres, role: str = EXPORTER_ROLE) -> tuple[int, dict[str, Any]]:
    done = run("status --json", *servers, role=role)
    return done.returncode, json.loads(done.stdout)


def row_of(report: dict[str, Any], slot_name: str) -> dict[str, Any]:
    [row] = [slot for slot in report["slots"] if slot["slot_name"] == slot_name]
    found: dict[str, Any] = row
    return found


def name_of(server: Postgres) -> str:
    return f"127.0.0.1:{server.port}"


@pytest.fixture
def unused(databases: Stack) -> Iterator[str]:
    databases.primary.sql(CREATE, ["unused"])
    yield "unused"
    databases.primary.drop_slot("unused")


def test_healthy_servers_need_nobody(databases: Stack) -> None:
    done = run("status", databases.primary, databases.standby)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "Nothing needs anybody."


def test_both_hosts_of_one_conninfo_are_nodes_whose_roles_are_seen(databases: Stack) -> None:
    primary, standby = databases.primary, databases.standby
    text = f"host=127.0.0.1,127.0.0.1 port={standby.port},{primary.port} dbname=postgres user={EXPORTER_ROLE}"
    report = json.loads(run("status --json", more=(f"--conninfo={text} target_session_attrs=primary",)).stdout)
    assert {node["node"]: node["role"] for node in report["nodes"]} == {
        name_of(standby): "standby",
        name_of(primary): "primary",
    }


def test_creation_that_hangs_on_a_standby_shows_the_statement_that_ends_it(databases: Stack) -> None:
    primary, standby = databases.primary, databases.standby

    def waits() -> CompletedProcess[str] | None:
        done = run("status", primary, standby)
        return done if done.returncode == 1 else None

    with hanging_creation(databases, "electric"):
        done = wait_for(waits, "the creation has waited for some seconds")
        assert "waits for a running-xacts record from the primary" in done.stdout
        assert f"(on {name_of(primary)}):\n        SELECT pg_log_standby_snapshot();\n" in done.stdout
        assert done.stdout.splitlines()[-1] == "1 slot needs somebody."
        told = run("explain electric", primary, standby)
        assert told.returncode == 1
        assert "The server shows its wait as Client / WalSenderWaitForWal" in told.stdout.replace("WAL", "Wal")
    standby.drop_slot("electric")


def test_creation_that_is_blocked_on_a_primary_names_who_blocks_it(databases: Stack) -> None:
    primary = databases.primary
    with primary.hold_transaction(application_name="nightly load"), primary.create_slot("debezium"):

        def blocked() -> dict[str, Any] | None:
            _, report = json_of(primary)
            row = row_of(report, "debezium")
            return row if row["concerns"] and row["cause"] == "transaction" else None

        row = wait_for(blocked, "it waits for the transaction")
        [culprit] = row["culprits"]
        assert (row["culprit_known"], culprit["application_name"]) == (True, "nightly load")
        end = row["steps"][0]
        assert end["node"] == name_of(primary)
        assert "nightly load" in run("status", primary).stdout
        primary.sql(end["command"])
        wait_for(lambda: row_of(json_of(primary)[1], "debezium")["state"] != "creating", "the statement has ended it")
    primary.drop_slot("debezium")


def test_slot_that_nobody_uses_is_dropped_by_the_statement_shown_only_while_that_is_so(
    databases: Stack, tmp_path: Path
) -> None:
    primary = databases.primary
    with streaming_consumer(primary, "shop", tmp_path):
        _, report = json_of(primary)
        row = row_of(report, "shop")
        assert (row["state"], row["user"]["application_name"]) == ("active", "pg_recvlogical")
        primary.sql(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
            " WHERE slot_name = 'shop' AND NOT active"
        )
        assert row_of(json_of(primary)[1], "shop")["state"] == "active"


@pytest.mark.servers
def test_lost_slot_is_shown_with_the_drop_that_drops_nothing_else() -> None:
    """On a server of its own: the limit would lose the slot of the others' standby as well."""
    with Stack() as stack:
        primary = stack.single(max_slot_wal_keep_size="'16MB'")
        primary.sql(CREATE, ["unused"])
        write_wal(primary, 60_000_000)
        primary.sql("CHECKPOINT")
        wait_for(lambda: row_of(json_of(primary, role="postgres")[1], "unused")["state"] == "lost", "the slot is lost")
        code, report = json_of(primary, role="postgres")
        row = row_of(report, "unused")
        assert (code, row["concerns"]) == (1, ["lost"])
        primary.sql(row["steps"][0]["command"])
        assert json_of(primary, role="postgres")[1]["slots"] == []


async def test_watch_names_the_transaction_that_pins_a_slot(databases: Stack, tmp_path: Path) -> None:
    primary = databases.primary
    primary.sql("CREATE TABLE IF NOT EXISTS written (n int)")
    node = Node(CLUSTER, "p", Conninfo(primary.conninfo(EXPORTER_ROLE)))
    config = Config((Cluster(CLUSTER, (node,), None),), HealerSettings())
    with impatient(), primary.no_records_by_itself(), streaming_consumer(primary, "pinned", tmp_path):
        async with observing(config) as observer:
            await observer.look()
            with psycopg.connect(primary.conninfo(), application_name="forgotten") as forgotten:
                forgotten.execute("INSERT INTO written VALUES (1)")
                write_wal(primary, 40_000_000)
                for _ in range(40):
                    report = (await observer.look()).only(slot_name="pinned")
                    [slot] = report.slots
                    if slot.culprit is not None:
                        break
                    primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
                    write_wal(primary, 1_000_000)
                    await asyncio.to_thread(wait_for, confirmed_all(primary, "pinned"), "the record is confirmed")
                    await asyncio.sleep(0.5)
                assert slot.culprit is not None
                assert slot.culprit.application_name == "forgotten"
                assert (slot.concerns, report.exit_code) == ((Concern.RETAINS,), 1)
                assert "(forgotten)" in " ".join(explanation(slot))
                assert slot.growth is not None


@pytest.mark.usefixtures("unused")
def test_role_that_may_see_little_is_shown_the_grant_that_shows_the_rest(databases: Stack) -> None:
    primary = databases.primary
    done = run("status", primary, role=POWERLESS_ROLE)
    assert done.returncode == 3
    assert "what sessions wait for" in done.stdout
    [grant] = [line.strip() for line in done.stdout.splitlines() if "GRANT pg_read_all_stats" in line]
    primary.sql(grant)
    try:
        assert run("status", primary, role=POWERLESS_ROLE).returncode == 0
    finally:
        primary.sql(grant.replace("GRANT", "REVOKE").replace(" TO ", " FROM "))


def test_node_that_is_down_is_not_taken_for_well(databases: Stack) -> None:
    down = free_port()
    done = run("status", databases.primary, more=(f"--conninfo=host=127.0.0.1 port={down}",))
    assert done.returncode == 3
    assert f"127.0.0.1:{down} cannot be reached: " in done.stdout
    assert "Nothing needs anybody as far as could be seen" in done.stdout
    missing = run("explain nothing", databases.primary, more=(f"--conninfo=host=127.0.0.1 port={down}",))
    assert missing.returncode == 3, "the node that is down may have it"


@pytest.mark.parametrize("command", ["explain nothing", "status --slot=nothing"])
def test_slot_that_no_server_has_is_bad_input(databases: Stack, command: str) -> None:
    done = run(command, databases.primary)
    assert (done.returncode, done.stdout) == (2, "")
    assert "expected a slot of these servers, found 'nothing', which is not there" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["status"], "expected exactly one of --config.file and --conninfo, found neither"),
        (["status", "--conninfo=host=a", "--config.file=x"], "found both"),
        (["status", "--conninfo=host=a", "--cluster=c"], "expected --config.file with --cluster"),
        (["status", "--conninfo=host=a", "--watch=0s"], "--watch: expected a duration of at least 500ms"),
        (["status", "--conninfo=nonsense"], "--conninfo: expected libpq's key=value pairs or a URI"),
        (["explain", "s", "--conninfo=host=a", "--for=soon"], "--for: expected a duration"),
    ],
)
def test_bad_input_is_exit_code_2(arguments: list[str], words: str) -> None:
    done = in_process.run("pg-slot-exporter", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr


@pytest.mark.usefixtures("unused")
def test_pipe_gets_plain_lines_and_the_answer_comes_in_five_seconds(databases: Stack) -> None:
    began = time.monotonic()
    command = [str(EXPORTER_PROGRAM), "status", f"--conninfo={databases.primary.conninfo(EXPORTER_ROLE)}"]
    done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    assert time.monotonic() - began < 60, "a hanging command"
    text = done.stdout.decode("ascii")
    assert "\x1b" not in text
    [row] = [line for line in text.splitlines() if " unused " in line]
    assert "logical" in row
    assert all(line == line.rstrip() for line in text.splitlines())


def test_watch_that_is_interrupted_leaves_no_session(databases: Stack) -> None:
    primary = databases.primary
    conninfo = f"{primary.conninfo(EXPORTER_ROLE)}"
    command = [str(EXPORTER_PROGRAM), "status", "--watch=500ms", "--json", f"--conninfo={conninfo}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
        assert watch.stdout is not None
        looks = [json.loads(watch.stdout.readline()) for _ in range(2)]
        watch.send_signal(signal.SIGINT)
        assert watch.wait(30) == 130
    assert looks[1]["looked_at"] > looks[0]["looked_at"]
    query = "SELECT 1 FROM pg_catalog.pg_stat_activity WHERE usename = %s"
    wait_for(lambda: not primary.sql(query, [EXPORTER_ROLE]), "its session has ended")


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("unused")
def test_watch_on_a_terminal_leaves_what_it_showed_last(databases: Stack, tmp_path: Path) -> None:
    conninfo = databases.primary.conninfo(EXPORTER_ROLE)
    command: list[str | Path] = [EXPORTER_PROGRAM, "status", "--watch=500ms", "--slot=unused", f"--conninfo={conninfo}"]
    terminal = Terminal(command, tmp_path, kind="xterm")
    try:
        terminal.read_until("every 0.5 s; Ctrl-C ends this")
        terminal.read_until("B/h")
        terminal.process.send_signal(signal.SIGINT)
        left = terminal.read_to_end().rpartition("\x1b[?1049l")[2]
        assert terminal.process.returncode == 130
    finally:
        terminal.close()
    assert "unused" in left, "after the other screen has gone"
    assert "B/h" in left
    query = "SELECT 1 FROM pg_catalog.pg_stat_activity WHERE usename = %s"
    wait_for(lambda: not databases.primary.sql(query, [EXPORTER_ROLE]), "its session has ended")


def test_status_writes_nothing(databases: Stack) -> None:
    with databases.primary.no_records_by_itself():
        before = databases.primary.lsn()
        run("status", databases.primary, databases.standby)
        assert databases.primary.lsn() == before
