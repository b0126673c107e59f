"""Transactions of every kind on a real server, and the slots that they hold or seem to hold."""

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import Process, wait_for
from tests.support.servers.workload import write_wal

ALLOWED = ("billing", "importer", "postgres")
FOREIGN = ("somebody", "reports", "postgres")
OWNERS = (
    ALLOWED,
    ALLOWED,
    ("billing", "importer", "shop"),
    ("billing", "importer", "template1"),
    ("billing", "reports", "postgres"),
    ("somebody", "importer", "postgres"),
    ("chief", "importer", "postgres"),
)

WRITES: dict[str, tuple[str, ...]] = {
    "table": ("INSERT INTO public.held VALUES (1)",),
    "message": ("SELECT pg_catalog.pg_logical_emit_message(true, 'held', 'by this transaction')",),
    "subtransaction": ("SAVEPOINT s", "INSERT INTO public.held VALUES (1)", "RELEASE SAVEPOINT s"),
    "rolled back subtransaction": ("SAVEPOINT s", "INSERT INTO public.held VALUES (1)", "ROLLBACK TO SAVEPOINT s"),
    "xid only": ("SELECT pg_catalog.pg_current_xact_id()",),
    "unlogged": ("INSERT INTO public.scratch VALUES (1)",),
    "temporary": ("INSERT INTO pg_temp.scratch_of_session VALUES (1)",),
}
LOGGED = ("table", "message", "subtransaction", "rolled back subtransaction")
SILENT = ("xid only", "unlogged", "temporary")

FORCED_SINCE = 16
"""The first version with pg_log_standby_snapshot()."""

SET_UP = """
CREATE TABLE IF NOT EXISTS public.held (x int);
CREATE UNLOGGED TABLE IF NOT EXISTS public.scratch (x int);
GRANT ALL ON public.held, public.scratch TO PUBLIC;
"""


@dataclass(eq=False)
class OpenSession:
    """A session whose transaction the scenario holds open."""

    owner: tuple[str, str, str]
    kind: str
    connection: psycopg.Connection[Any]
    pid: int
    xid: int
    since: int
    """Where WAL stood when it had its xid."""
    idle_since: float | None
    """Monotonic; None: a statement runs, or it is prepared."""
    gid: str = ""
    ended_at: float | None = None
    """When it ended by itself; None: it has not."""


@dataclass
class Scene:
    """One scenario: its sessions, its slot and the consumer."""

    server: Postgres
    chance: random.Random
    slot_name: str
    sessions: list[OpenSession] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    events: list[asyncio.Task[None]] = field(default_factory=list)
    """What the scenario has planned; a task ends when its event has happened."""
    _consumer: Process | None = None

    def open(self, owner: tuple[str, str, str] = ALLOWED, kind: str = "table", *, busy: bool = False) -> OpenSession:
        """Begin a transaction; `busy`: a statement runs until the scenario ends it."""
        user, application, database = owner
        conninfo = f"{self.server.conninfo(user, database)} application_name={application}"
        connection = psycopg.connect(conninfo, autocommit=True)
        if database != "postgres" and kind != "xid only":
            # The tables are not there.
            kind = "message"
        if kind == "temporary":
            connection.execute("CREATE TEMPORARY TABLE scratch_of_session (x int)")
        connection.execute("BEGIN")
        for statement in WRITES[kind]:
            connection.execute(statement.encode())
        row = connection.execute("SELECT pg_catalog.pg_current_xact_id()::text::int8 % 4294967296").fetchone()
        assert row is not None
        idle_since: float | None = time.monotonic()
        if busy:
            connection.pgconn.send_query(b"SELECT pg_catalog.pg_sleep(3600)")
            idle_since = None
        pid = connection.info.backend_pid
        session = OpenSession(owner, kind, connection, pid, int(row[0]), self.server.lsn(), idle_since)
        self.sessions.append(session)
        return session

    def any_session(self) -> OpenSession:
        kind = self.chance.choice(tuple(WRITES))
        return self.open(self.chance.choice(OWNERS), kind, busy=self.chance.random() < 0.25)

    def prepare(self, session: OpenSession) -> None:
        session.gid = f"gid{session.pid}"
        with suppress(psycopg.Error):
            session.connection.execute(f"PREPARE TRANSACTION '{session.gid}'".encode())
            session.idle_since = None

    def end(self, session: OpenSession) -> None:
        """Let the transaction end by itself: roll back, or hang up if a statement runs."""
        if session.ended_at is not None:
            # The healer has ended it, or the scenario did before.
            session.connection.close()
            return
        session.ended_at = time.monotonic()
        if session.gid:
            with suppress(psycopg.Error), self._superuser(session.owner[2]) as superuser:
                superuser.execute(f"ROLLBACK PREPARED '{session.gid}'".encode())
        elif session.idle_since is None:
            self.server.sql("SELECT pg_catalog.pg_cancel_backend(%s)", [session.pid])
        session.connection.close()

    def later(self, seconds: float, event: Callable[[], object]) -> None:
        async def run() -> None:
            await asyncio.sleep(seconds)
            event()

        self.events.append(asyncio.create_task(run()))

    def start_slot(self, *, status_interval: int = 1) -> None:
        """Create the slot and stream from it."""
        server, name = self.server, self.slot_name
        server.sql("SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'test_decoding')", [name])
        program = server.binaries.tools / "pg_recvlogical"
        options = [f"--status-interval={status_interval}", f"--fsync-interval={status_interval}", "--no-loop"]
        arguments: list[str | Path] = [
            program,
            f"--dbname={server.conninfo()}",
            "--start",
            f"--slot={name}",
            "--file=/dev/null",
            *options,
        ]
        self._consumer = Process(arguments, server.data_folder.parent / f"{name}.log")
        self._consumer.start()
        active = "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = %s AND active"
        wait_for(lambda: server.sql(active, [name]), "the consumer streams", log=self._consumer.log)

    def hang_consumer(self, *, hung: bool) -> None:
        assert self._consumer is not None
        (self._consumer.pause if hung else self._consumer.resume)()

    async def write(self) -> None:
        """Write more than a segment of WAL, without keeping the healer waiting."""
        await asyncio.to_thread(write_wal, self.server)

    async def keep_writing(self) -> None:
        """
        Write a little WAL every few seconds, so that the background writer logs records.

        Before 16 no record can be forced, and checkpoints are the proof: there is one every few seconds, as on a server
        that writes much.
        """
        while True:
            await asyncio.sleep(3.0)
            await asyncio.to_thread(
                self.server.sql, "SELECT pg_catalog.pg_logical_emit_message(false, 'test', 'not idle')"
            )
            if self.server.binaries.major < FORCED_SINCE:
                await asyncio.to_thread(self.server.sql, "CHECKPOINT")

    async def close(self) -> None:
        """End everything. Raises what an event or a task has raised."""
        tasks = (*self.tasks, *self.events)
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        for session in self.sessions:
            self.end(session)
        if self._consumer is not None:
            self._consumer.resume()
            self._consumer.stop()
        for end in ends:
            if isinstance(end, Exception):
                raise end

    def _superuser(self, database: str) -> psycopg.Connection[Any]:
        return psycopg.connect(self.server.conninfo(dbname=database), autocommit=True)


def lone_holder(scene: Scene) -> None:
    scene.open(kind=scene.chance.choice(LOGGED))


def older_without_wal(scene: Scene) -> None:
    """The reproducers of the review (C1): an allowed older xid that wrote no WAL; another one holds the slot."""
    scene.open(kind=scene.chance.choice(SILENT))
    busy = scene.chance.random() < 0.4
    holder = scene.open(ALLOWED if busy else FOREIGN, scene.chance.choice(LOGGED), busy=busy)
    if scene.chance.random() < 0.5:
        scene.later(scene.chance.uniform(5, 45), lambda: scene.end(holder))


def just_committed(scene: Scene) -> None:
    """The reproducer of the review (C2): the holder ends by itself, and the next-oldest never held the slot."""
    busy = scene.chance.random() < 0.5
    holder = scene.open(ALLOWED if busy else FOREIGN, scene.chance.choice(LOGGED), busy=busy)
    scene.open(kind=scene.chance.choice((*LOGGED, *SILENT)))
    scene.later(scene.chance.uniform(5, 45), lambda: scene.end(holder))


def crowd(scene: Scene) -> None:
    for _ in range(scene.chance.randint(2, 6)):
        session = scene.any_session()
        if scene.chance.random() < 0.6:
            scene.later(scene.chance.uniform(5, 45), lambda session=session: scene.end(session))  # type: ignore[misc]


def prepared(scene: Scene) -> None:
    holder = scene.open(kind="table")
    if scene.chance.random() < 0.5:
        scene.prepare(holder)
    else:
        scene.later(scene.chance.uniform(5, 40), lambda: scene.prepare(holder))
    scene.open(kind=scene.chance.choice(SILENT))
    scene.later(scene.chance.uniform(20, 45), lambda: scene.end(holder))


def slow_consumer(scene: Scene) -> None:
    scene.open(kind=scene.chance.choice((*LOGGED, *SILENT)))
    scene.hang_consumer(hung=True)
    scene.later(scene.chance.uniform(10, 40), lambda: scene.hang_consumer(hung=False))


def holders_in_turn(scene: Scene) -> None:
    """A client that leaves its transaction open, and connects and does it again when its session is ended."""
    scene.open(kind=scene.chance.choice(LOGGED))

    async def come_back() -> None:
        for _ in range(3):
            while scene.sessions[-1].ended_at is None:  # noqa: ASYNC110 - the judge or the scenario ends it
                await asyncio.sleep(0.2)
            await asyncio.sleep(scene.chance.uniform(0.5, 5.0))
            scene.open(kind=scene.chance.choice(LOGGED))

    scene.tasks.append(asyncio.create_task(come_back()))


HELD: dict[Callable[[Scene], None], float] = {
    lone_holder: 6,
    holders_in_turn: 3,
    older_without_wal: 2,
    just_committed: 2,
    crowd: 2,
    prepared: 1,
    slow_consumer: 1,
}
"""Scenarios of an existing slot, by weight."""
