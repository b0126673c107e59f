"""Finds secrets that every user of this machine can read, and passfiles that libpq ignores because of their mode."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from psycopg.conninfo import conninfo_to_dict

from pgslot.cli.errors import ConfigError
from pgslot.cli.logging import get_logger
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Config

log = get_logger(__name__)

_PASSWORDS = ("password", "sslpassword")
_CONTAINER_SECRETS = Path("/run/secrets")
"""Here the container runtime chooses the modes, and the container has one user."""


@dataclass(frozen=True, slots=True)
class ExposedSecret:
    """A file whose mode is wrong for the secret in it."""

    path: Path
    problem: str
    advice: str

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}: {self.advice}"


def exposed_secrets(config: Config, *, healer: bool) -> list[ExposedSecret]:
    """
    Return the files whose modes are wrong for the secrets in them.

    `healer`: include the secrets that only the healer reads. A file that cannot be read is left to `check_secrets`.
    """
    conninfos = list(_conninfos(config, healer=healer))
    secrets = {path: "a password" for conninfo in conninfos for path in _files_with_password(conninfo)}
    keys = [cluster.patroni.key_file for cluster in config.clusters if cluster.patroni is not None]
    secrets |= {path: "a private key" for path in keys if path is not None}
    if healer and config.healer.webhook_token_file is not None:
        secrets[config.healer.webhook_token_file] = "the webhook token"
    exposed = [
        ExposedSecret(
            path,
            f"every user of this machine can read {secret} in it (mode {_mode(path):04o})",
            "chmod 0640, with a group that only the programs' user is in",
        )
        for path, secret in secrets.items()
        if readable_by_everybody(path)
    ]
    passfiles = dict.fromkeys(path for conninfo in conninfos for path in _passfiles(conninfo))
    exposed += [
        ExposedSecret(
            path,
            f"libpq ignores this passfile, because group or others have access to it (mode {_mode(path):04o})",
            "chmod 0600, owned by the programs' user",
        )
        for path in passfiles
        if libpq_ignores(path)
    ]
    return exposed


def log_exposed_secrets(config: Config, *, healer: bool) -> None:
    """Log a warning for each of these files, when a configuration comes into force."""
    for secret in exposed_secrets(config, healer=healer):
        log.warning("a secret file has the wrong mode", path=secret.path, problem=secret.problem, remedy=secret.advice)


def readable_by_everybody(path: Path) -> bool:
    """Return whether users without a role in the file's owner and group can read it; False if it does not exist."""
    try:
        real = path.resolve(strict=True)
        if _CONTAINER_SECRETS.resolve() in real.parents:
            return False
        reachable = all(parent.stat().st_mode & stat.S_IXOTH for parent in real.parents)
        return reachable and bool(real.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def libpq_ignores(passfile: Path) -> bool:
    """Return whether the file's mode is not 0600 or less (libpq's passwordFromFile); False if it does not exist."""
    try:
        return bool(passfile.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO))
    except OSError:
        return False


def _conninfos(config: Config, *, healer: bool) -> Iterator[Conninfo]:
    for cluster in config.clusters:
        yield from (node.conninfo for node in cluster.nodes)
        if cluster.member is not None:
            yield cluster.member
        if healer and cluster.healer is not None:
            yield cluster.healer.conninfo
            if cluster.healer.termination is not None:
                yield cluster.healer.termination.conninfo


def _files_with_password(conninfo: Conninfo) -> Iterator[Path]:
    path = conninfo.file or conninfo.source
    if path is not None and any(_options(conninfo).get(name) for name in _PASSWORDS):
        yield path


def _passfiles(conninfo: Conninfo) -> Iterator[Path]:
    options = _options(conninfo)
    # libpq asks for a passfile only if it has no password.
    passfile = options.get("passfile") or os.environ.get("PGPASSFILE")
    if passfile and not options.get("password"):
        yield Path(passfile)


def _options(conninfo: Conninfo) -> dict[str, str]:
    try:
        return {name: str(value) for name, value in conninfo_to_dict(conninfo.configured_text()).items()}
    except ConfigError:
        return {}


def _mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)
