"""Builds the wheel and the source distribution twice, compares, and checks them; it uses this environment."""

import filecmp
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

from deploy.release.changelog import ReleaseError
from deploy.release.sbom import PROJECT, read_direct, read_requirements, sbom

PROGRAMS = ("pg-slot-exporter", "pg-slot-healer")
SHARED = (
    *(f"man/man1/{program}.1" for program in PROGRAMS),
    *(f"bash-completion/completions/{program}" for program in PROGRAMS),
    *(f"zsh/site-functions/_{program}" for program in PROGRAMS),
    *(f"fish/vendor_completions.d/{program}.fish" for program in PROGRAMS),
)
"""What is installed below share/."""


def build(root: Path, folder: Path, version: str, epoch: int) -> list[Path]:
    """
    Write wheel, source distribution, SBOM and SHA256SUMS into an empty folder; return the first three.

    `epoch`: Unix time of every file in them. Raises ReleaseError if a second build differs, or a check fails.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ReleaseError(f"{folder}: expected an empty folder, found files")
    _build_once(root, folder, epoch)
    built = sorted(folder.iterdir())
    with tempfile.TemporaryDirectory() as second:
        _build_once(root, Path(second), epoch)
        _, different, missing = filecmp.cmpfiles(folder, second, [file.name for file in built], shallow=False)
    if different or missing:
        raise ReleaseError(f"expected the same bytes from both builds, found a difference in {different or missing}")
    _run([sys.executable, "-m", "twine", "--no-color", "check", "--strict", *map(str, built)])
    wheel = next(file for file in built if file.suffix == ".whl")
    check_contents(root, wheel, next(file for file in built if file.suffix == ".gz"))
    bill = folder / f"{PROJECT}-{version}.cdx.json"
    bill.write_text(json.dumps(sbom(read_requirements(root), read_direct(root), version), indent=2) + "\n", "utf-8")
    files = [*built, bill]
    sums = "".join(f"{sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in files)
    (folder / "SHA256SUMS").write_text(sums, "utf-8")
    return files


def check_contents(root: Path, wheel: Path, source: Path) -> None:
    """Raise ReleaseError unless rules, runbooks, SQL, manual pages and completions are inside."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    wanted = {f"exporter/runbooks/{file.name}" for file in (root / "alerts/runbooks").glob("*.md")}
    wanted |= {f"pgslot/snapshot/queries/{file.name}" for file in (root / "pgslot/snapshot/queries").glob("*.sql")}
    wanted |= {"pgslot/pgslot.rules.yml", "healer/commands/grants.sql"}
    data = next(name.partition("/")[0] for name in names if name.partition("/")[0].endswith(".data"))
    wanted |= {f"{data}/data/share/{file}" for file in SHARED}
    if wanted - names:
        raise ReleaseError(f"{wheel.name}: expected these files, found them missing: {sorted(wanted - names)}")
    with tarfile.open(source) as archive:
        members = {name.partition("/")[2] for name in archive.getnames()}
    own = {"pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "deploy/share/man/man1/pg-slot-healer.1"}
    if own - members:
        raise ReleaseError(f"{source.name}: expected these files, found them missing: {sorted(own - members)}")


def install(wheel: Path, root: Path, environment: Path) -> None:
    """Install the wheel with its pinned dependencies into a new environment, from the package index."""
    _run([sys.executable, "-m", "venv", "--without-pip", str(environment)])
    pip = [sys.executable, "-m", "pip", f"--python={environment}", "--disable-pip-version-check", "--quiet"]
    requirements = root / "deploy/docker/requirements.txt"
    _run([*pip, "install", "--require-hashes", "--only-binary=:all:", f"--requirement={requirements}"])
    _run([*pip, "install", "--no-index", "--no-deps", str(wheel)])
    _run([*pip, "check"])


def check_installed(environment: Path, version: str) -> None:
    """Raise ReleaseError unless both programs run from anywhere, with rules, runbooks and what is below share/."""
    for program in PROGRAMS:
        shown = _run([str(environment / "bin" / program), "--version"], cwd=environment)
        if not shown.startswith(f"{program} {version} "):
            raise ReleaseError(f"{program} --version: expected {version}, found {shown.strip()}")
    exporter = str(environment / "bin/pg-slot-exporter")
    if "PgSlotCreationStuck" not in _run([exporter, "rules"], cwd=environment):
        raise ReleaseError("pg-slot-exporter rules: expected PgSlotCreationStuck, found it missing")
    if not any(environment.glob("lib/python*/site-packages/exporter/runbooks/PgSlotCreationStuck.md")):
        raise ReleaseError("expected the runbooks to be installed, found none")
    missing = [file for file in SHARED if not (environment / "share" / file).is_file()]
    if missing:
        raise ReleaseError(f"expected these files below share/, found them missing: {missing}")


def _build_once(root: Path, folder: Path, epoch: int) -> None:
    _run(
        [sys.executable, "-m", "hatchling", "build", "--directory", str(folder)],
        cwd=root,
        environment={"SOURCE_DATE_EPOCH": str(epoch)},
    )


def _run(command: list[str], cwd: Path | None = None, environment: Mapping[str, str] | None = None) -> str:
    """Run a command and return its output. Raises ReleaseError with all that it printed if it fails."""
    done = subprocess.run(
        command, cwd=cwd, env={**os.environ, **(environment or {})}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise ReleaseError(f"{' '.join(command)} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout
