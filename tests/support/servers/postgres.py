"""PostgreSQL servers, primary and standby, as ordinary processes on loopback."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg.conninfo import make_conninfo

from tests.support.servers.binaries import Binaries
from tests.support.servers.processes import Process, free_port, wait_for
from tests.support.servers.sessions import OpenTransaction, Statement
from tests.support.servers.wal import RUNNING_XACTS, Kind, kinds_between

SETTINGS = {
    "listen_addresses": "'127.0.0.1'",
    "unix_socket_directories": "''",
    "wal_level": "logical",
    "hot_standby_feedback": "on",
    "max_prepared_transactions": "10",
    "max_replication_slots": "50",
    "max_wal_senders": "50",
    "max_slot_wal_keep_size": "'1GB'",
    "checkpoint_timeout": "'1h'",
    "autovacuum": "off",
    "fsync": "off",
    # The background writer sleeps 50 times this when there is nothing to do; its record then comes 15.5 s after the
    # last WAL at the latest, not 25 s.
    "bgwriter_delay": "'10ms'",
    "log_replication_commands": "on",
}


class Postgres:
    """A server with the superuser `postgres` and no passwords, as it listens on loopback only."""

    def __init__(self, binaries: Binaries, folder: Path, name: str, *, outlive_us: bool = False) -> None:
        self.name = name
        self.port = free_port()
        self.binaries = binaries
        self._folder = folder
        self._outlive_us = outlive_us
        self.data_folder = folder / name
        self._idle_at: int | None = None
        self.process = Process(
            [binaries.server / "postgres", "-D", self.data_folder],
            folder / f"{name}.log",
            user=binaries.user,
            outlive_us=outlive_us,
            # A stopped server reacts only to SIGKILL; its children end when they notice its end.
            death_signal=signal.SIGKILL,
        )

    @classmethod
    def primary(cls, binaries: Binaries, folder: Path, name: str, *, outlive_us: bool = False, **settings: str) -> Self:
        """Create and start a primary. `wal_segment_size`, in megabytes, is an option of initdb, unlike the others."""
        segment = settings.pop("wal_segment_size", "16")
        server = cls(binaries, folder, name, outlive_us=outlive_us)
        server.make_data_folder()
        binaries.run(
            binaries.server / "initdb",
            *("-D", server.data_folder, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"),
            f"--wal-segsize={segment}",
        )
        server.configure(SETTINGS | settings)
        server.start()
        return server

    def standby(self, name: str, **settings: str) -> "Postgres":
        """Create and start a standby that streams from this server through a physical slot."""
        server = Postgres(self.binaries, self._folder, name, outlive_us=self._outlive_us)
        server.make_data_folder()
        source = f"host=127.0.0.1 port={self.port} user=postgres application_name={name}"
        self.binaries.run(
            self.binaries.tools / "pg_basebackup",
            *("-d", source, "-D", server.data_folder, "-C", "-S", name, "-c", "fast", "--no-sync"),
        )
        # pg_basebackup -R would write options that an older libpq rejects, so the standby would never stream.
        (server.data_folder / "standby.signal").touch()
        server.configure({"primary_conninfo": f"'{source}'", "primary_slot_name": f"'{name}'"} | settings)
        server.start()
        wait_for(
            lambda: server.sql("SELECT 1 FROM pg_catalog.pg_stat_wal_receiver WHERE status = 'streaming'"),
            f"{name} streams",
            log=server.process.log,
        )
        return server

    def start(self) -> None:
        self.process.start()
        try:
            wait_for(self._answers, f"{self.name} takes connections", log=self.process.log)
        except BaseException:
            # The caller does not have the server yet, and could not end it.
            self.kill()
            raise

    def stop(self) -> None:
        """Stop cleanly and end all sessions (fast mode)."""
        self.process.stop(signal.SIGINT)

    def kill(self) -> None:
        """End the server at once, like a crash: the next start recovers from WAL."""
        self.process.stop(signal.SIGQUIT)

    def restart(self) -> None:
        self.stop()
        self.start()

    @contextmanager
    def lock(self, table: str, mode: str = "ACCESS EXCLUSIVE") -> Iterator[psycopg.Connection[Any]]:
        """Lock a table, by default so that nobody else can even read it; yield the session that holds the lock."""
        with psycopg.connect(self.conninfo()) as connection:
            connection.execute(f"LOCK TABLE {table} IN {mode} MODE".encode())
            yield connection

    def pause_all(self) -> None:
        """Hang the server with all its sessions: sockets stay open and nothing answers."""
        self._signal_all(signal.SIGSTOP)

    def resume_all(self) -> None:
        self._signal_all(signal.SIGCONT)

    @contextmanager
    def no_records_by_itself(self) -> Iterator[None]:
        """Stop the background writer, which logs running-xacts records: creations on a standby then hang at once."""
        [(pid,)] = self.sql("SELECT pid FROM pg_catalog.pg_stat_activity WHERE backend_type = 'background writer'")
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            # After a restart of the server this child no longer exists.
            if self.process.running and pid in self._pids():
                os.kill(pid, signal.SIGCONT)

    def promote(self) -> None:
        """Make a primary of this standby."""
        self.sql("SELECT pg_catalog.pg_promote(true, 60)")

    def demote(self, upstream: "Postgres") -> None:
        """Start a cleanly stopped primary as a standby of the promoted server, through its slot there."""
        (self.data_folder / "standby.signal").touch()
        self.configure({"primary_conninfo": f"'{upstream.conninfo()}'", "primary_slot_name": f"'{self.name}'"})
        self.start()

    def conninfo(self, user: str = "postgres", dbname: str = "postgres") -> str:
        return f"host=127.0.0.1 port={self.port} dbname={dbname} user={user}"

    def sql(self, statement: str, parameters: Sequence[Any] | None = None) -> list[tuple[Any, ...]]:
        """Run a statement as superuser in a new session; return its rows, an empty list if it has none."""
        with psycopg.connect(self.conninfo(), autocommit=True) as connection:
            cursor = connection.execute(statement.encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def sql_in_one_transaction(self, *statements: str) -> None:
        """Run statements in a transaction, which one of them may end."""
        with psycopg.connect(self.conninfo()) as connection:
            for statement in statements:
                connection.execute(statement.encode())

    def create_slot(self, name: str) -> Statement:
        """Return a context that creates a logical slot through a walsender, as consumers do; it may hang."""
        exists = "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = %s"
        return Statement(
            f"{self.conninfo()} replication=database",
            f'CREATE_REPLICATION_SLOT "{name}" LOGICAL pgoutput',
            begun=lambda: bool(self.sql(exists, [name])),
        )

    def create_slot_by_function(self, name: str) -> Statement:
        return Statement(self.conninfo(), f"SELECT pg_catalog.pg_create_logical_replication_slot('{name}', 'pgoutput')")

    def hold_transaction(
        self, application_name: str = "holder", user: str = "postgres", dbname: str = "postgres"
    ) -> OpenTransaction:
        """Begin a transaction with an xid, and leave it open within the context."""
        return OpenTransaction(
            make_conninfo(self.conninfo(), application_name=application_name, user=user, dbname=dbname)
        )

    def drop_slot(self, name: str) -> None:
        """Drop a slot in any state, after its creator or consumer was ended."""
        wait_for(lambda: self._dropped(name), f"slot {name} is dropped")

    def reset(self) -> None:
        """Undo leftovers of a failed test: a stopped or hung server, transactions, paused replay, logical slots."""
        if not self.process.running:
            self.start()
        self.resume_all()
        self.sql(
            "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
            " WHERE backend_type = 'client backend' AND state <> 'idle' AND pid <> pg_catalog.pg_backend_pid()"
        )
        [(standby,)] = self.sql("SELECT pg_catalog.pg_is_in_recovery()")
        if standby:
            self.sql("SELECT pg_catalog.pg_wal_replay_resume()")
        else:
            for (gid,) in self.sql("SELECT gid FROM pg_catalog.pg_prepared_xacts"):
                self.sql(f"ROLLBACK PREPARED '{gid}'")
        for (slot,) in self.sql("SELECT slot_name FROM pg_catalog.pg_replication_slots WHERE slot_type = 'logical'"):
            self.drop_slot(slot)

    def wait_until_idle(self, standby: "Postgres | None" = None, timeout: float = 60.0) -> None:
        """
        Wait until no more running-xacts records will be written, except by force.

        The background writer logs one, at most every 15 s, if there was other WAL since the previous one. So this
        writes other WAL and waits for its record, which is the last one; no other session may force one.
        """
        if not self._still_idle():
            # The function returns the end of its message; a later query could return a position after the record.
            message = self.lsn("pg_catalog.pg_logical_emit_message(false, 'stack', 'not idle')")
            self._idle_at = wait_for(lambda: self._settled_since(message), f"{self.name} is idle", timeout)
        if standby is not None:
            self.wait_until_replayed(standby)

    def wait_until_replayed(self, standby: "Postgres", end: str = "pg_catalog.pg_current_wal_insert_lsn()") -> None:
        position = self.lsn(end)
        wait_for(
            lambda: standby.lsn("pg_catalog.pg_last_wal_replay_lsn()") >= position, f"{standby.name} has replayed all"
        )

    def _signal_all(self, number: signal.Signals) -> None:
        for pid in self._pids():
            # A session may have ended.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _pids(self) -> list[int]:
        """Return the pids of the postmaster and its children; the postmaster is first, so that it starts no more."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text("ascii")
        return [self.process.pid, *map(int, children.split())]

    def make_data_folder(self) -> None:
        """Create the folder that initdb or pg_basebackup fills."""
        self.data_folder.mkdir(mode=0o700)
        if self.binaries.user is not None:
            os.chown(self.data_folder, self.binaries.user, self.binaries.user)

    def configure(self, settings: dict[str, str]) -> None:
        """Append settings to postgresql.conf, where the last value of a name counts."""
        lines = [f"{name} = {value}\n" for name, value in {"port": str(self.port), **settings}.items()]
        with (self.data_folder / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.writelines(lines)

    def _answers(self) -> bool:
        if not self.process.running:
            raise RuntimeError(f"{self.name} ended: {self.process.log.read_text('utf-8', 'replace')[-3000:]}")
        try:
            self.sql("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _dropped(self, name: str) -> bool:
        rows = self.sql("SELECT active_pid FROM pg_catalog.pg_replication_slots WHERE slot_name = %s", [name])
        if not rows:
            return True
        [(pid,)] = rows
        if pid is not None:
            self.sql("SELECT pg_catalog.pg_terminate_backend(%s)", [pid])
        else:
            self.sql("SELECT pg_catalog.pg_drop_replication_slot(%s)", [name])
        return False

    def lsn(self, expression: str = "pg_catalog.pg_current_wal_insert_lsn()") -> int:
        """Return an LSN as a number of bytes: by default, where the next record will be inserted."""
        [(lsn,)] = self.sql(f"SELECT pg_catalog.pg_wal_lsn_diff({expression}, '0/0')::int8")
        return int(lsn)

    def _still_idle(self) -> bool:
        if self._idle_at is None:
            return False
        try:
            kinds = self.kinds_since(self._idle_at)
        except FileNotFoundError:
            # A checkpoint has removed this WAL.
            return False
        return self._idle_at == self.lsn() or set(kinds) == {RUNNING_XACTS}

    def _settled_since(self, lsn: int) -> int | None:
        """Return the end of the WAL if a running-xacts record is the last and nothing follows it for a second."""
        if self.kinds_since(lsn)[-1:] != [RUNNING_XACTS]:
            return None
        end = self.lsn()
        time.sleep(1)
        # Checked again, because by now the WAL writer has written WAL that was only in memory.
        settled = self.kinds_since(lsn)[-1:] == [RUNNING_XACTS] and self.lsn() == end
        return end if settled else None

    def kinds_since(self, lsn: int) -> list[Kind]:
        """Return the kinds of the records that were written after this LSN."""
        [(file,)] = self.sql("SELECT pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_lsn())")
        written = self.lsn("pg_catalog.pg_current_wal_lsn()")
        return list(kinds_between(lsn, written, self.data_folder / "pg_wal", timeline=int(file[:8], 16)))


def run_psql(server: Postgres, sql: str) -> str:
    """Run a script with psql, as an administrator does; return its output."""
    done = subprocess.run(
        [server.binaries.tools / "psql", "-X", "-v", "ON_ERROR_STOP=1", "-d", server.conninfo()],
        input=sql,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr
