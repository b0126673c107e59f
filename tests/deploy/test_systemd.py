"""The systemd units, as systemd-analyze judges them; units cannot be started where tests run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from tests.support.servers.programs import program_path

UNITS = ROOT / "deploy/systemd"
MAX_EXPOSURE = 20
"""On systemd's scale from 0 (fully sandboxed) to 100."""

for_each_program = pytest.mark.parametrize("program", ["pg-slot-exporter", "pg-slot-healer"])


def analyze(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False
    )


@for_each_program
@pytest.mark.tools
def test_systemd_accepts_unit(program: str, tmp_path: Path) -> None:
    shipped = (UNITS / f"{program}.service").read_text("utf-8")
    unit = tmp_path / f"{program}.service"
    unit.write_text(shipped.replace("/opt/pg-slot-healer/bin", str(Path(sys.executable).parent)))
    done = analyze("verify", "--man=no", unit)
    assert (done.returncode, done.stderr) == (0, "")


@for_each_program
@pytest.mark.tools
def test_unit_is_hardened(program: str) -> None:
    done = analyze("security", "--offline=yes", f"--threshold={MAX_EXPOSURE}", UNITS / f"{program}.service")
    assert done.returncode == 0, done.stdout


@for_each_program
def test_command_line_has_only_flags_of_program(program: str) -> None:
    [command] = re.findall(r"^ExecStart=(.*)$", (UNITS / f"{program}.service").read_text("utf-8"), re.MULTILINE)
    path, *flags = command.split()
    console_script = program_path(Path(path).name)
    text = subprocess.run([console_script, "--help"], capture_output=True, text=True, timeout=30, check=True).stdout
    for flag in flags:
        assert flag.split("=")[0] in text
