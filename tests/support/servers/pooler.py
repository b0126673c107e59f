"""A real pgbouncer (Debian's package) in front of a server."""

import os
import pwd
import shutil
import signal
from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import Process, free_port, wait_for


class Pooler:
    """A context: `port` leads to the server through a pool of this mode (session, transaction)."""

    def __init__(self, server: Postgres, folder: Path, mode: str, size: int = 5) -> None:
        program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        self.port = free_port()
        self.folder = folder / f"pgbouncer-{self.port}"
        self.folder.mkdir()
        file = self.folder / "pgbouncer.ini"
        file.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {self.port}\nunix_socket_dir =\nauth_type = trust\npool_mode = {mode}\n"
            f"default_pool_size = {size}\nauth_file = {self.folder / 'users'}\n"
            "ignore_startup_parameters = extra_float_digits,options\n"
        )
        (self.folder / "users").write_text("".join(f'"{user}" ""\n' for user in ("postgres", *ROLES)))
        # Like PostgreSQL, it refuses to run as root.
        as_nobody = ["-u", "nobody"] if os.getuid() == 0 else []
        if as_nobody:
            for path in (self.folder, file, self.folder / "users"):
                os.chown(path, pwd.getpwnam("nobody").pw_uid, -1)
        self.process = Process([program, *as_nobody, file], self.folder / "log")

    def __enter__(self) -> Self:
        self.process.start()
        try:
            wait_for(self._answers, "pgbouncer takes connections", log=self.process.log)
        except BaseException:
            self.process.stop(signal.SIGINT)
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.process.stop(signal.SIGINT)

    def _answers(self) -> bool:
        try:
            with psycopg.connect(f"host=127.0.0.1 port={self.port} user=postgres dbname=postgres connect_timeout=2"):
                return True
        except psycopg.OperationalError:
            return False


ROLES = ("pgslot_exporter", "pgslot_healer", "pgslot_ender")
