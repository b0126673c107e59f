"""The systemd units, as systemd-analyze judges them; `make systemd` starts them under a real systemd."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import in_process
from tests.support.paths import ROOT
from tests.support.readme import block

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
def test_unit_runs_as_the_user_that_readme_creates(program: str) -> None:
    """A name that is a group's or a user's keeps systemd from making a dynamic user of the same name."""
    unit = (UNITS / f"{program}.service").read_text("utf-8")
    [user] = re.findall(r"^User=(.*)$", unit, re.MULTILINE)
    assert re.search(rf"^useradd .* {user}$", block("useradd ").text, re.MULTILINE)
    assert "DynamicUser" not in unit


def test_exporters_unit_hides_the_files_that_only_the_healer_needs() -> None:
    unit = (UNITS / "pg-slot-exporter.service").read_text("utf-8")
    installed = {word for word in block("useradd ").text.split() if word in {"webhook-token", "healer.pgpass"}}
    hidden = {
        Path(path).name for path in re.findall(r"^InaccessiblePaths=-/etc/pg-slot-healer/(.*)$", unit, re.MULTILINE)
    }
    assert hidden == installed == {"webhook-token", "healer.pgpass"}


@for_each_program
def test_command_line_has_only_flags_of_program(program: str) -> None:
    [command] = re.findall(r"^ExecStart=(.*)$", (UNITS / f"{program}.service").read_text("utf-8"), re.MULTILINE)
    path, *flags = command.split()
    text = in_process.run(Path(path).name, "--help").stdout
    for flag in flags:
        assert flag.split("=")[0] in text
