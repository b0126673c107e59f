"""The minimum cost of a scrape: pgbench runs the same queries, prepared and in one round trip."""

import subprocess
import tempfile
from pathlib import Path

from pgslot.snapshot.queries import QUERIES
from tests.support.servers import binaries
from tests.support.servers.postgres import Postgres
from tests.support.servers.stack import EXPORTER_ROLE, Stack

WARM_UP = 5
"""Transactions of each pgbench run that do not count: the first one prepares the statements."""


class BareSql:
    """pgbench with a script of the exporter's queries."""

    def __init__(self, stack: Stack, server: Postgres) -> None:
        self._script = stack.folder / "floor.sql"
        queries = "".join(f"{query.sql(stack.major)};\n" for query in QUERIES)
        self._script.write_text(f"\\startpipeline\n{queries}\\endpipeline\n", "utf-8")
        self._program = binaries.find(stack.folder).tools / "pgbench"
        self._server = server

    def run(self, count: int) -> list[float]:
        """Run the queries `count` times on one connection; return the seconds of each run."""
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(
                [
                    self._program,
                    *("--no-vacuum", "--protocol=prepared", f"--file={self._script}"),
                    *("--log", f"--log-prefix={folder}/log", f"--transactions={count + WARM_UP}"),
                    self._server.conninfo(EXPORTER_ROLE),
                ],
                check=True,
                capture_output=True,
                timeout=120,
            )
            [log] = Path(folder).iterdir()
            # client, transaction, microseconds, script, time
            durations = [int(line.split()[2]) / 1e6 for line in log.read_text("ascii").splitlines()]
        return durations[WARM_UP:]
