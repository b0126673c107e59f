"""Secrets that every user can read, and passfiles that libpq ignores, are named by --check and the doctor."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from healer.doctor.run import Endpoints, run_checks
from pgslot.config.loader import load
from pgslot.config.secret_permissions import libpq_ignores, log_exposed_secrets, readable_by_everybody
from pgslot.postgres.connect import connect
from tests.support import in_process


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that every user can enter; pytest's own is its owner's alone."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def written(path: Path, text: str, mode: int) -> Path:
    path.write_text(text, "utf-8")
    path.chmod(mode)
    return path


@pytest.fixture
def configuration(public_folder: Path) -> Path:
    """A configuration with one secret of each kind, all of them readable by every user."""
    written(public_folder / "token", "secret-token\n", 0o644)
    written(public_folder / "conninfo", "host=127.0.0.1 port=1 password=secret-a", 0o604)
    written(public_folder / "pgpass", "*:*:*:*:secret-b\n", 0o640)
    written(
        public_folder / "included.yml", "clusters: {d: {nodes: {n: {conninfo: 'password=secret-c port=1'}}}}", 0o644
    )
    return written(
        public_folder / "pgslot.yml",
        "clusters:\n"
        "  c:\n"
        "    nodes:\n"
        "      n: {conninfo_file: conninfo}\n"
        f"      m: {{conninfo: 'host=127.0.0.1 port=1 passfile={public_folder / 'pgpass'}'}}\n"
        "    healer: {conninfo: 'host=127.0.0.1 port=1'}\n"
        "include: [included.yml]\n"
        "healer: {webhook_token_file: token}\n",
        0o644,
    )


async def test_libpq_does_not_warn_of_the_same_passfile_at_every_connection(
    configuration: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It does so on standard error by itself, twice for each connection, among the doctor's findings."""
    conninfo = f"host=127.0.0.1 port=1 user=x passfile={configuration.parent / 'pgpass'}"
    for _ in range(3):
        with pytest.raises(psycopg.OperationalError):
            await connect(conninfo, 5.0)
    assert capfd.readouterr().err == ""


def test_program_logs_secrets_that_every_user_can_read(configuration: Path, caplog: pytest.LogCaptureFixture) -> None:
    log_exposed_secrets(load(configuration), healer=True)
    fields = [vars(record)["fields"] for record in caplog.records]
    assert {field["path"].name for field in fields} == {"token", "conninfo", "included.yml", "pgpass"}
    assert all(field["remedy"].startswith("chmod") for field in fields)


def test_check_warns_of_secrets_that_every_user_can_read(configuration: Path) -> None:
    done = in_process.run("pg-slot-healer", "--check", f"--config.file={configuration}")
    warnings = {Path(line.split(":")[1].strip()).name: line for line in done.stderr.splitlines()}
    assert done.returncode == 0
    assert set(warnings) == {"token", "conninfo", "included.yml", "pgpass"}
    assert "can read the webhook token in it (mode 0644)" in warnings["token"]
    assert "libpq ignores this passfile" in warnings["pgpass"]
    assert "secret-" not in done.stderr


def test_exporters_check_leaves_out_what_only_the_healer_reads(configuration: Path) -> None:
    done = in_process.run("pg-slot-exporter", "--check", f"--config.file={configuration}")
    assert done.returncode == 0
    assert "token" not in done.stderr
    assert "conninfo" in done.stderr


@pytest.mark.parametrize("program", ["pg-slot-exporter", "pg-slot-healer"])
def test_check_is_silent_about_secrets_of_group_and_owner(configuration: Path, program: str) -> None:
    for file in configuration.parent.iterdir():
        file.chmod(0o600 if file.name == "pgpass" else 0o640)
    done = in_process.run(program, "--check", f"--config.file={configuration}")
    assert (done.returncode, done.stderr) == (0, "")


def test_doctor_reports_each_file_with_what_to_do(configuration: Path) -> None:
    closed = "http://127.0.0.1:1"
    findings = asyncio.run(run_checks(load(configuration), configuration, Endpoints(closed, None, None)))
    secrets = {Path(finding.subject).name: finding for finding in findings if finding.check == "secrets"}
    assert set(secrets) == {"token", "conninfo", "included.yml", "pgpass"}
    assert secrets["pgpass"].advice == "chmod 0600, owned by the programs' user."


def test_file_in_a_folder_that_others_cannot_enter_is_not_exposed(public_folder: Path) -> None:
    folder = public_folder / "folder"
    folder.mkdir(mode=0o750)
    assert not readable_by_everybody(written(folder / "token", "x", 0o644))
    assert not readable_by_everybody(public_folder / "missing")


@pytest.mark.parametrize(("mode", "ignored"), [(0o600, False), (0o400, False), (0o640, True), (0o604, True)])
def test_libpq_ignores_passfiles_by_their_mode(public_folder: Path, mode: int, *, ignored: bool) -> None:
    assert libpq_ignores(written(public_folder / "pgpass", "x", mode)) is ignored


@pytest.mark.parametrize(
    ("conninfo", "warned"),
    [
        ("host=127.0.0.1 port=1 password=secret-d", True),
        ("postgresql://u:secret-d@127.0.0.1:1/db", True),
        ("host=127.0.0.1 port=1 passfile=/nowhere", False),
        ("", False),
    ],
)
def test_password_on_the_command_line_is_warned_of_with_what_to_do_instead(conninfo: str, *, warned: bool) -> None:
    done = in_process.run("pg-slot-exporter", "--check", f"--conninfo={conninfo}")
    assert done.returncode == 0
    assert ("--conninfo has a password" in done.stderr and "use passfile=" in done.stderr) is warned
    assert "secret-d" not in done.stdout + done.stderr
