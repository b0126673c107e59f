"""What commands print: control characters in names are escaped, and a closed pipe is not an error."""

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support import in_process
from tests.support.running_healer import alert
from tests.support.servers.processes import free_port
from tests.support.servers.programs import EXPORTER_PROGRAM, HEALER_PROGRAM

HOSTILE_NAME = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e"


def replay_arguments(folder: Path, **more: Any) -> list[str]:
    """Save a webhook of one alert, whose labels `more` changes, and return the arguments that replay it."""
    labels = alert("s")["labels"] | more
    (folder / "body.json").write_text(json.dumps({"version": "4", "alerts": [alert("s") | {"labels": labels}]}))
    node = f"{{conninfo: 'host=127.0.0.1 port={free_port()} dbname=x user=x'}}"
    (folder / "p.yml").write_text(f"clusters: {{c: {{nodes: {{standby: {node}}}, healer: {node}}}}}")
    return ["replay", str(folder / "body.json"), f"--config.file={folder / 'p.yml'}"]


def test_replay_escapes_control_characters_in_labels(tmp_path: Path) -> None:
    completed = in_process.run("pg-slot-healer", *replay_arguments(tmp_path, alertname=HOSTILE_NAME))
    assert "\\x1b[2J" in completed.stdout
    assert all(line.isprintable() for line in completed.stdout.splitlines())


def test_replay_of_an_unreachable_node_claims_nothing_about_its_slot(tmp_path: Path) -> None:
    completed = in_process.run("pg-slot-healer", *replay_arguments(tmp_path))
    assert completed.returncode == 1
    assert "fail" in completed.stdout
    assert "the slot's state is unknown: its node could not be read (unreachable)" in completed.stdout
    assert "not help" not in completed.stdout


@pytest.mark.servers
def test_broken_pipe_ends_without_a_traceback(tmp_path: Path) -> None:
    for command in (
        [str(HEALER_PROGRAM), *replay_arguments(tmp_path)],
        [str(EXPORTER_PROGRAM), "sql"],
    ):
        read, write = socket.socketpair()
        read.close()
        with write:
            completed = subprocess.run(command, stdout=write.fileno(), stderr=subprocess.PIPE, timeout=60, check=False)
        assert (completed.returncode, completed.stderr) == (141, b"")
