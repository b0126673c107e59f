"""A test starts only the programs that its markers allow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.process_guard import MissingMarkerError, needed_marker


def test_server_is_not_started_without_its_marker() -> None:
    with pytest.raises(MissingMarkerError, match=r"starts .*postgres: mark it with @pytest.mark.servers"):
        subprocess.run(["/nowhere/bin/postgres", "--version"], check=False)


def test_package_program_is_not_started_without_its_marker() -> None:
    with pytest.raises(MissingMarkerError, match=r"starts promtool: mark it with @pytest.mark.tools"):
        subprocess.run(["promtool", "--version"], check=False)


@pytest.mark.tools
def test_marker_for_tools_does_not_allow_servers() -> None:
    with pytest.raises(MissingMarkerError):
        subprocess.run(["prometheus", "--version"], check=False)


@pytest.mark.parametrize(
    ("command", "marker"),
    [
        ([sys.executable, "-m", "pgslot"], None),
        ([Path(sys.executable).with_name("pg-slot-healer"), "--help"], None),
        ([os.fsencode("/usr/bin/openssl"), b"req"], None),
        (["bash", "-c", 'ulimit -n 256; exec "$0" "$@"', "/srv/pg-slot-exporter"], None),
        (["bash", "-c", "exec prometheus --version"], "servers"),
        (["env", "A=b", "/usr/sbin/pgbouncer", "file"], "servers"),
        ([Path(sys.executable).with_name("patroni"), "patroni.yml"], "servers"),
        (["amtool", "check-config", "file"], "tools"),
    ],
)
def test_marker_follows_the_program(command: list[str | bytes | Path], marker: str | None) -> None:
    assert needed_marker(command) == marker
