"""Ctrl-C while a command waits for a server: exit code 130, no traceback, and no session is left."""

import contextlib
import json
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml
from psycopg.conninfo import make_conninfo

from exporter.cli import COMMANDS as EXPORTER_COMMANDS
from exporter.cli import parser as exporter_parser
from healer.cli import COMMANDS as HEALER_COMMANDS
from healer.cli import parser as healer_parser
from pgslot.cli.command_line import read_parser
from tests.support.servers.processes import wait_for
from tests.support.servers.programs import program_path
from tests.support.servers.stack import EXPORTER_ROLE, HEALER_ROLE, Stack

PROGRAMS = {
    "pg-slot-exporter": (EXPORTER_COMMANDS, exporter_parser),
    "pg-slot-healer": (HEALER_COMMANDS, healer_parser),
}
ALERT = {
    "status": "firing",
    "labels": {
        "alertname": "PgSlotCreationStuck",
        "heal": "log_standby_snapshot",
        "cluster": "shop",
        "node": "shop-1",
        "slot_name": "a",
    },
    "annotations": {},
    "startsAt": "2026-01-01T00:00:00Z",
    "endsAt": "0001-01-01T00:00:00Z",
    "fingerprint": "1",
}
MUST_CONNECT = {"rehearse", "heal", "replay", "doctor"}
"""Commands that are known to connect; a new one that does is tested as these are."""


def commands_that_may_connect() -> list[tuple[str, str]]:
    """Return the commands that take a configuration or a connection string; serve ends by its own rules."""
    return [
        (program, command.name)
        for program, (_, parser) in PROGRAMS.items()
        for command in read_parser(parser()).commands
        if command.name != "serve"
        and any(name in ("--config.file", "--conninfo") for flag in command.flags for name in flag.names)
    ]


CONNECTING = commands_that_may_connect()


def start(program: str, name: str, folder: Path, port: int, role: str = "x") -> "subprocess.Popen[str]":
    """Start the command's first example that names a configuration or a server, with this server in its place."""
    conninfo = make_conninfo(host="127.0.0.1", port=port, dbname="postgres", user=role)
    nodes = {node: {"conninfo": conninfo} for node in ("shop-1", "shop-2")}
    healer = {"conninfo": make_conninfo(conninfo, user=HEALER_ROLE)}
    (folder / "pgslot.yml").write_text(yaml.safe_dump({"clusters": {"shop": {"nodes": nodes, "healer": healer}}}))
    commands, parser = PROGRAMS[program]
    lines = [line for _, line in commands[name].EXAMPLES]
    line = next((line for line in lines if re.search(r"--config\.file|--conninfo", line)), lines[0])
    [own] = [part for part in re.split(r"[|>]", line) if program in part]
    words = [
        f"--conninfo={conninfo}" if word.startswith("--conninfo=") else word
        for word in shlex.split(own.partition(program)[2])
    ]
    [flags] = [command.flags for command in read_parser(parser()).commands if command.name == name]
    if any("--healer.url" in flag.names for flag in flags):
        words.append(f"--healer.url=http://127.0.0.1:{port}")
    # What the healer asks of a person, it does not ask in a pipe.
    if name == "heal" and any(word.startswith("--conninfo=") for word in words):
        words.append("--yes")
    process = subprocess.Popen(
        [program_path(program), *words],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    process.stdin.write(json.dumps({"version": "4", "alerts": [ALERT]}))
    process.stdin.close()
    process.stdin = None
    return process


def interrupted(process: "subprocess.Popen[str]") -> None:
    """Press Ctrl-C, and check how the command ends."""
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "")


@pytest.mark.parametrize("program", PROGRAMS)
def test_interrupt_while_a_program_is_imported_prints_nothing(program: str, tmp_path: Path) -> None:
    """The programs' own slowest import interrupts itself."""
    module = "aiohttp.py"
    (tmp_path / module).write_text("import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(60)\n")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from {program[8:]}.__main__ import main; main(['--help'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.fixture
def silent_server() -> Iterator[socket.socket]:
    """It accepts connections and answers nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        yield server


@pytest.mark.parametrize(("program", "name"), CONNECTING)
@pytest.mark.servers
def test_interrupt_while_a_server_does_not_answer_ends_a_command(
    silent_server: socket.socket, program: str, name: str, tmp_path: Path
) -> None:
    process = start(program, name, tmp_path, silent_server.getsockname()[1])
    client = None
    with process:
        while client is None and process.poll() is None:
            with contextlib.suppress(TimeoutError):
                client, _ = silent_server.accept()
        if client is None:
            assert name not in MUST_CONNECT, process.communicate()
            return
        with client:
            interrupted(process)
            client.settimeout(10)
            while client.recv(4096):
                pass


@pytest.mark.parametrize(("program", "name"), CONNECTING)
def test_interrupt_during_a_query_leaves_no_session(databases: Stack, program: str, name: str, tmp_path: Path) -> None:
    """A query of slots waits for a lock; its statement_timeout ends the session while that lock is still held."""
    sessions = f"""
        SELECT wait_event_type FROM pg_catalog.pg_stat_activity
        WHERE usename IN ('{EXPORTER_ROLE}', '{HEALER_ROLE}') AND backend_type = 'client backend'
    """
    with psycopg.connect(databases.primary.conninfo()) as holder, psycopg.connect(databases.primary.conninfo()) as eyes:
        eyes.autocommit = True
        holder.execute("SET LOCAL allow_system_table_mods = on")
        holder.execute("ALTER VIEW pg_catalog.pg_replication_slots SET (security_barrier = false)")
        with start(program, name, tmp_path, databases.primary.port, EXPORTER_ROLE) as process:
            wait_for(
                lambda: process.poll() is not None or ("Lock",) in eyes.execute(sessions).fetchall(),
                "a query waits, or the command has ended",
            )
            if process.poll() is not None:
                assert name not in MUST_CONNECT, process.communicate()
                return
            interrupted(process)
            wait_for(lambda: not eyes.execute(sessions).fetchall(), "no session is left")
        holder.rollback()
