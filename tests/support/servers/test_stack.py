"""The stack itself: real servers behave as the tests assume, and never outlive the tests."""

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.paths import ROOT
from tests.support.servers.monitoring import ALERTS, rules_with
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import Stack

HOLDS_A_STACK = """
import signal, sys
from tests.support.servers.stack import Stack
with Stack() as stack:
    stack.start_databases()
    print(stack.folder, flush=True)
    signal.pause()
"""


def test_reset_undoes_leftovers_of_failed_test(databases: Stack) -> None:
    primary, standby = databases.primary, databases.standby
    primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('left', 'pgoutput')")
    primary.sql_in_one_transaction("SELECT pg_catalog.pg_current_xact_id()", "PREPARE TRANSACTION 'left'")
    holder = primary.hold_transaction()
    creator = primary.create_slot("left_waiting")
    with creator:
        assert not creator.wait(0.5)
        standby.sql("SELECT pg_catalog.pg_wal_replay_pause()")
        standby.pause_all()
        for server in (primary, standby):
            server.reset()
        assert creator.wait(10)
    with pytest.raises(psycopg.OperationalError):
        holder.commit()
    for view in ("pg_prepared_xacts", "pg_replication_slots WHERE slot_type = 'logical'"):
        assert primary.sql(f"SELECT 1 FROM pg_catalog.{view}") == []
    assert standby.sql("SELECT pg_catalog.pg_is_wal_replay_paused()") == [(False,)]


def test_wait_until_idle_ends_despite_concurrent_write(databases: Stack) -> None:
    databases.primary.restart()
    write = "SELECT pg_catalog.pg_logical_emit_message(false, 'test', 'written meanwhile')"
    writer = threading.Timer(1, databases.primary.sql, [write])
    writer.start()
    databases.wait_until_idle()
    writer.join()


def test_creation_on_standby_of_idle_primary_hangs_until_record_is_forced(databases: Stack) -> None:
    databases.wait_until_idle()
    with databases.standby.create_slot("hangs") as creator:
        assert not creator.wait(3)
        for _ in range(4):
            databases.primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
            if creator.wait(1):
                break
        assert creator.done
        assert creator.error is None
    databases.drop_slot("hangs")


def test_hanging_creation_can_be_abandoned(databases: Stack) -> None:
    databases.wait_until_idle()
    with databases.standby.create_slot("given_up") as creator:
        assert not creator.wait(0.5)
    assert creator.error is not None
    databases.drop_slot("given_up")
    assert databases.standby.sql("SELECT 1 FROM pg_catalog.pg_replication_slots") == []


@pytest.fixture
def holder() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process that runs a stack, and the stack's folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLDS_A_STACK], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    try:
        yield process, folder
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        # A killed process cannot remove it.
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.servers
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_servers_end_with_process_that_started_them(
    holder: tuple[subprocess.Popen[str], Path], number: signal.Signals
) -> None:
    process, folder = holder
    assert len(running(folder)) == 2
    process.send_signal(number)
    process.wait(30)
    wait_for(lambda: not running(folder), "all servers have ended")
    assert folder.exists() == (number == signal.SIGKILL)


@pytest.mark.servers
def test_kept_stack_outlives_its_context_and_can_be_stopped() -> None:
    with Stack(keep=True) as stack:
        stack.start_databases()
    assert len(running(stack.folder)) == 2
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.servers.stop", str(stack.folder)], cwd=ROOT, check=False
    )
    for server in (stack.primary, stack.standby):
        server.process.stop()
    assert done.returncode == 0
    assert running(stack.folder) == []
    assert not stack.folder.exists()


@pytest.mark.servers
def test_kept_stack_can_be_stopped_after_its_process_ended() -> None:
    code = HOLDS_A_STACK.replace("Stack()", "Stack(keep=True)")
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        folder = Path(process.stdout.readline().strip())
        process.terminate()
    assert len(running(folder)) == 2
    subprocess.run([sys.executable, "-m", "tests.support.servers.stop", str(folder)], cwd=ROOT, check=True)
    assert running(folder) == []
    assert not folder.exists()


def test_thresholds_are_replaced_and_unknown_rules_rejected() -> None:
    rules = ALERTS / "pgslot.rules.yml"
    assert "(pgslot_creation_wait_seconds) > 7" in rules_with({"PgSlotCreationStuck": "7"}, rules)
    assert "for: 7s" in rules_with({"PgSlotTargetDown": "7s"}, rules)
    trend = "slot:pgslot_wal_until_lost:seconds6h"
    assert "slot:pgslot_wal_headroom:max1h offset 5s" in rules_with({trend: "/5s"}, rules)
    with pytest.raises(AssertionError, match="no such rules"):
        rules_with({"PgSlotNothing": "7"}, rules)


def test_timeout_error_names_condition_and_end_of_log(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("the reason")
    started = time.monotonic()
    with pytest.raises(Exception, match=r"(?s)not within 0 s: it rains.*the reason"):
        wait_for(lambda: None, "it rains", timeout=0.2, log=tmp_path / "log")
    assert time.monotonic() - started < 5


def running(folder: Path) -> list[int]:
    """Return the processes that were started for this folder's servers."""
    pids = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit() and int(process.name) != os.getpid():
            try:
                arguments = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"-D" in arguments and any(argument.startswith(os.fsencode(folder)) for argument in arguments):
                pids.append(int(process.name))
    return pids
