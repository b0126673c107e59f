"""One situation: what the preflight says of a creation, what the real creation does, and whether these agree."""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest

from exporter.commands import preflight
from tests.support import in_process
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for
from tests.support.servers.sessions import Statement
from tests.support.servers.stack import EXPORTER_ROLE

USER = "cdc"
DATABASE = "shop"
SLOT = "wanted"
STILL_WAITS_SECONDS = 0.7
"""A creation that takes so long waits for something."""
APART_SECONDS = 0.25
"""Between the two snapshots of a preflight."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    situation: str
    said: str
    happened: str
    agrees: bool


@dataclass
class Comparison:
    """The situations of the servers of one version."""

    servers: tuple[Postgres, ...]
    """The primary first."""
    rows: list[Row] = field(default_factory=list)

    @property
    def primary(self) -> Postgres:
        return self.servers[0]

    @property
    def standby(self) -> Postgres:
        return self.servers[1]

    def works(self, situation: str, server: Postgres | None = None, **request: str) -> None:
        """Compare where the creation is meant to work at once."""
        said = self.say(server, **request)
        with self._creating(server, **request) as creator:
            done = isinstance(creator, Statement) and creator.wait(30) and creator.error is None
        happened = "the creation works at once" if done else f"the creation does not work: {_error(creator)}"
        self._add(situation, said, happened, agrees=done and said["outcome"] == "at_once")

    def fails(self, situation: str, because: str, server: Postgres | None = None, **request: str) -> None:
        """Compare where the creation is meant to fail because of this check."""
        said = self.say(server, **request)
        with self._creating(server, **request) as creator:
            failed = not isinstance(creator, Statement) or (creator.wait(30) and creator.error is not None)
        error = _error(creator)
        happened = f"the creation fails: {error}" if failed else "the creation does not fail"
        agrees = failed and said["outcome"] == "fails" and _checks(said, "fail") == [because]
        self._add(situation, said, happened, agrees=agrees)

    def waits(
        self,
        situation: str,
        because: tuple[str, ...],
        ends: Callable[[], object],
        by: str,
        server: Postgres | None = None,
        *,
        bounded: bool = False,
        **request: str,
    ) -> None:
        """
        Compare where the creation is meant to wait for these, until `ends` is done, perhaps more than once.

        `by`: what it does, in words. `bounded`: whether the wait ends by itself, within a time that is named.
        """
        said = self.say(server, **request)
        with self._creating(server, **request) as creator:
            assert isinstance(creator, Statement), creator
            waited = not creator.wait(STILL_WAITS_SECONDS)
            wait_for(lambda: ends() or creator.wait(0.3), f"{situation}: the creation ends", 60)
        done = waited and creator.error is None
        happened = f"the creation waits, and ends {by}" if done else f"waited: {waited}, {_error(creator)}"
        named = tuple(wait["for"] for wait in said["waits"])
        agrees = done and said["outcome"] == "waits" and named == because and bounded == _bounded(said)
        self._add(situation, said, happened, agrees=agrees)

    def add(self, situation: str, said: dict[str, Any], happened: str, *, agrees: bool) -> None:
        self._add(situation, said, happened, agrees=agrees)

    def say(self, server: Postgres | None = None, **request: str) -> dict[str, Any]:
        """Return what the command says of a slot on this server, None: on the primary; it names it itself then."""
        observer = request.pop("observer", EXPORTER_ROLE)
        ports = ",".join(str(server.port) for server in self.servers)
        hosts = ",".join("127.0.0.1" for _ in self.servers)
        arguments = {"conninfo": f"host={hosts} port={ports} dbname=postgres user={observer}"}
        arguments |= {"user": USER, "database": DATABASE} | request
        if server is not None:
            arguments["on"] = f"127.0.0.1:{server.port}"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(preflight, "APART_SECONDS", APART_SECONDS)
            flags = [f"--{name}={value}" for name, value in arguments.items()]
            done = in_process.run("pg-slot-exporter", "preflight", "--json", *flags)
        assert done.stderr == "", done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        expected = 1 if said["fails"] or said["outcome"] == "waits" else 0 if said["everything_known"] else 3
        assert done.returncode == expected
        return said

    @contextmanager
    def _creating(self, server: Postgres | None, **request: str) -> Iterator[Statement | str]:
        """Create the slot as its consumer does; yield the error in place of a statement if it cannot connect."""
        server = self.primary if server is None else server
        slot = request.get("slot", SLOT)
        conninfo = server.conninfo(request.get("user", USER), request.get("database", DATABASE))
        existed = bool(server.sql("SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = %s", [slot]))
        command = f'CREATE_REPLICATION_SLOT "{slot}" LOGICAL {request.get("plugin", "pgoutput")}'
        try:
            statement = Statement(f"{conninfo} replication=database", command)
        except psycopg.Error as error:
            yield str(error)
            return
        try:
            with statement:
                yield statement
        finally:
            if not existed:
                server.drop_slot(slot)

    def _add(self, situation: str, said: dict[str, Any], happened: str, *, agrees: bool) -> None:
        self.rows.append(Row(situation, words(said), happened, agrees))


def words(said: dict[str, Any]) -> str:
    """Return the verdict as the table has it."""
    reasons = _checks(said, "fail") or [wait["for"] for wait in said["waits"]]
    bounded = ", for a time at most" if _bounded(said) else ""
    return f"`{said['outcome']}`" + (f": {', '.join(reasons)}" if reasons else "") + bounded


def _bounded(said: dict[str, Any]) -> bool:
    return any(wait["at_most_seconds"] is not None for wait in said["waits"])


def line(said: dict[str, Any], check: str) -> dict[str, Any]:
    """Return the line of a check."""
    [found] = [found for found in said["lines"] if found["check"] == check]
    return dict(found)


def _checks(said: dict[str, Any], status: str) -> list[str]:
    return [found["check"] for found in said["lines"] if found["status"] == status]


def _error(creator: Statement | str) -> str:
    """Return the server's message alone, without what differs from run to run."""
    text = creator if isinstance(creator, str) else creator.error or "no error"
    return text.rpartition("FATAL:")[2].strip().splitlines()[0].replace(str(os.getpid()), "PID")


@contextmanager
def pg_hba_line(server: Postgres, text: str) -> Iterator[None]:
    """Put a line at the top of pg_hba.conf within the context."""
    [(path,)] = server.sql("SHOW hba_file")
    file = Path(path)
    before = file.read_text("utf-8")
    try:
        _rewrite(server, file, f"{text}\n{before}")
        yield
    finally:
        _rewrite(server, file, before)


def _rewrite(server: Postgres, file: Path, text: str) -> None:
    with contextlib.suppress(psycopg.Error):
        loaded = server.sql("SELECT pg_catalog.pg_conf_load_time()")
        file.write_text(text, "utf-8")
        server.sql("SELECT pg_catalog.pg_reload_conf()")
        wait_for(lambda: server.sql("SELECT pg_catalog.pg_conf_load_time()") != loaded, "pg_hba.conf has been reloaded")
