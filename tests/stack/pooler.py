"""PgBouncer, Debian's, in front of a server."""

from pathlib import Path
from types import TracebackType
from typing import Self

import psycopg

from tests.stack.postgres import Postgres
from tests.stack.processes import Process, free_port, wait_for

PROGRAM = Path("/usr/sbin/pgbouncer")


class Pooler:
    """A context: a pool of one connection to each database and user, in session or transaction mode."""

    def __init__(self, server: Postgres, folder: Path, mode: str, *users: str) -> None:
        self.port = free_port()
        self._user = users[0]
        accounts = folder / f"{mode}-users"
        accounts.write_text("".join(f'"{user}" ""\n' for user in users), "utf-8")
        config = folder / f"{mode}.ini"
        config.write_text(
            f"[databases]\n* = host=127.0.0.1 port={server.port}\n"
            f"[pgbouncer]\nlisten_addr=127.0.0.1\nlisten_port={self.port}\nunix_socket_dir=\n"
            f"auth_type=trust\nauth_file={accounts}\npool_mode={mode}\n"
            f"default_pool_size={1 if mode == 'transaction' else 5}\n",
            "utf-8",
        )
        for file in (accounts, config):
            file.chmod(0o644)
        # It refuses to run as root, as the server does.
        self._process = Process([PROGRAM, config], folder / f"{mode}.log", user=server.user)

    def conninfo(self, user: str) -> str:
        return f"host=127.0.0.1 port={self.port} dbname=postgres user={user}"

    def __enter__(self) -> Self:
        self._process.start()
        wait_for(self._answers, "the pooler takes connections", log=self._process.log)
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._process.stop()

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.conninfo(self._user)).close()
        except psycopg.OperationalError:
            return False
        return True
