"""
One bounded connection to one server.

Every wait has a deadline. At the deadline the socket is shut down rather than the coroutine cancelled: psycopg answers
a cancellation by asking the server to cancel the query, and a hung server lets that wait for another ten seconds.
"""

import asyncio
import codecs
import select
import socket
from collections.abc import Sequence
from typing import Any, Self

from psycopg import AsyncConnection, AsyncCursor, ProgrammingError
from psycopg.abc import Buffer
from psycopg.adapt import Loader
from psycopg.rows import AsyncRowFactory, RowMaker

from exporter.connecting import connect

STATEMENT_SHARE = 0.8
"""Part of a look's time that one statement may take, so that the server's error arrives before our own deadline."""
LOCK_SHARE = 0.4

_UTF8 = "UTF8"
_SETTINGS = (
    # pg_temp by name, or it would come first.
    "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', %(local)s),"
    " pg_catalog.set_config('statement_timeout', %(statement)s, %(local)s),"
    " pg_catalog.set_config('lock_timeout', %(lock)s, %(local)s),"
    " pg_catalog.set_config('client_encoding', %(encoding)s, %(local)s),"
    " pg_catalog.set_config(%(read_only)s, 'on', %(local)s)"
)

Query = tuple[str, type[Any]]


class Session:
    """A connection whose statements cannot write and cannot outlive their deadline."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection
        self._limits: tuple[int, int] | None = None
        self._pooled: bool | None = None
        self._encoding = connection.info.parameter_status("server_encoding") or _UTF8

    @classmethod
    async def connect(cls, conninfo: str, *, application_name: str, timeout: float) -> Self:
        """
        Connect within `timeout` seconds, several hosts sharing that time.

        Raises psycopg.Error (LoginFailedError: the server does not let this user in), or TimeoutError.
        """
        return cls(await connect(conninfo, timeout, fallback_application_name=application_name, client_encoding="UTF8"))

    @property
    def major(self) -> int:
        """PostgreSQL's major version, known from the connection's start."""
        return self._connection.info.server_version // 10000

    @property
    def backend_pid(self) -> int:
        """The server process as the other side named it at the start; a pooler names none of the server's."""
        return self._connection.info.backend_pid

    @property
    def closed(self) -> bool:
        return self._connection.closed

    @property
    def stale(self) -> bool:
        """Something waits to be read although nothing was asked: nearly always the server's good-bye."""
        if self.closed:
            return True
        # Not select(), which cannot look at a descriptor above 1023.
        waiting = select.poll()
        waiting.register(self._connection.fileno(), select.POLLIN)
        return bool(waiting.poll(0))

    @property
    def pooled(self) -> bool | None:
        """
        Whether a pooler such as PgBouncer stands in between; None before the first question.

        Then the next statement may run in another session of the server, and what is set or locked for a session stays
        behind in one that others use: each question is a transaction of its own, and nothing outlives it.
        """
        return self._pooled

    async def ask(self, queries: Sequence[Query], timeout: float, *, bare: bool = False) -> list[list[Any]]:
        """
        Run the queries in one round trip and return the rows of each as its dataclass.

        With `bare` it sets and prepares nothing in the server's session, which a pooler may give to somebody else next.

        Raises psycopg.Error for the first query that fails (no rows are returned then), or TimeoutError, after which
        the session is closed. Cancelling it closes the session as well, and waits for nothing.
        """
        loop = asyncio.get_running_loop()
        expired = loop.create_future()

        def expire() -> None:
            expired.set_result(None)
            self.hang_up()

        answer = asyncio.create_task(self._ask_bare(queries) if bare else self._ask(queries, timeout))
        timer = loop.call_later(timeout, expire)
        try:
            await asyncio.wait({answer})
        except asyncio.CancelledError:
            self.hang_up()
            await asyncio.wait({answer})
            answer.exception()
            raise
        finally:
            timer.cancel()
        if expired.done() and answer.exception() is not None:
            raise TimeoutError(f"no answer in {timeout:.1f} s") from answer.exception()
        return answer.result()

    async def _ask(self, queries: Sequence[Query], timeout: float) -> list[list[Any]]:
        if self._pooled is None:
            # A pooler makes up the process id that it tells its clients.
            cursor = await self._connection.execute("SELECT pg_catalog.pg_backend_pid()", prepare=False)
            self._pooled = await cursor.fetchone() != (self.backend_pid,)
            if self._encoding != _UTF8:
                self._replace_what_is_not(_codec(self._encoding))
        # Rounded, so that the few microseconds between two looks do not send new limits to the server each time.
        tenths = max(1, int(timeout * 10))
        limits = (int(tenths * 100 * STATEMENT_SHARE), int(tenths * 100 * LOCK_SHARE))
        try:
            return await self._answers(queries, limits)
        except UnicodeDecodeError:
            # The name of a role or database that was made in a database of another encoding: nobody checks it. One
            # character less in a label, and not a node less. Only then, as it takes longer.
            self._replace_what_is_not("utf-8")
            return await self._answers(queries, limits)

    def _replace_what_is_not(self, codec: str) -> None:
        """Read text in this encoding, with U+FFFD in place of what is none."""

        class Replacing(Loader):
            def load(self, data: Buffer) -> str:
                return bytes(data).decode(codec, "replace")

        for kind in ("text", "varchar", "name", "bpchar"):
            self._connection.adapters.register_loader(kind, Replacing)

    async def _answers(self, queries: Sequence[Query], limits: tuple[int, int]) -> list[list[Any]]:
        if self._pooled:
            return await self._in_one_transaction(queries, limits)
        if limits == self._limits and len(queries) == 1:
            # A pipeline ends with a Flush message, after which the server's idle_session_timeout does not run.
            cursors = [await self._send(*queries[0], prepare=True)]
        else:
            async with self._connection.pipeline():
                if limits != self._limits:
                    await self._set(limits, "default_transaction_read_only", local=False)
                # Prepared at once: planning takes the server longer than answering does.
                cursors = [await self._send(sql, row, prepare=True) for sql, row in queries]
            self._limits = limits
        return [await cursor.fetchall() for cursor in cursors]

    async def _in_one_transaction(self, queries: Sequence[Query], limits: tuple[int, int]) -> list[list[Any]]:
        # Up to its end a pipeline is a transaction already. BEGIN would leave one open where a query fails.
        async with self._connection.pipeline():
            await self._set(limits, "transaction_read_only", local=True)
            cursors = [await self._send(sql, row, prepare=False) for sql, row in queries]
        return [await cursor.fetchall() for cursor in cursors]

    async def _set(self, limits: tuple[int, int], read_only: str, *, local: bool) -> None:
        values = {
            "statement": str(limits[0]),
            "lock": str(limits[1]),
            "read_only": read_only,
            # From any other encoding than its own name for ASCII the server would convert, and fail where it cannot.
            "encoding": _UTF8 if self._encoding == _UTF8 else "SQL_ASCII",
            "local": local,
        }
        await self._connection.execute(_SETTINGS, values, prepare=False)

    async def _send(self, sql: str, row: type[Any], *, prepare: bool) -> AsyncCursor[Any]:
        cursor = self._connection.cursor(row_factory=_rows_of(row))
        return await cursor.execute(sql.encode(), prepare=prepare)

    async def _ask_bare(self, queries: Sequence[Query]) -> list[list[Any]]:
        answers = []
        for sql, row in queries:
            cursor = self._connection.cursor(row_factory=_rows_of(row))
            await cursor.execute(sql.encode(), prepare=False)
            answers.append(await cursor.fetchall())
        return answers

    async def close(self) -> None:
        await self._connection.close()

    def hang_up(self) -> None:
        """Shut the socket down; whoever waits on it gets psycopg.OperationalError at once."""
        if self._connection.closed:
            return
        # Not a copy of the descriptor: there may be none left, and the deadline has to hold then as well.
        ours = socket.socket(fileno=self._connection.fileno())
        try:
            ours.shutdown(socket.SHUT_RDWR)
        except OSError:
            # ENOTCONN: the peer has reset it already, and the waiting side knows.
            return
        finally:
            ours.detach()


def _codec(encoding: str) -> str:
    """Return Python's name of one of PostgreSQL's encodings; for SQL_ASCII, which is any, UTF-8."""
    try:
        return codecs.lookup(encoding.replace("WIN", "cp").replace("KOI8", "koi8-")).name
    except LookupError:
        return "utf-8"


def _rows_of(row: type[Any]) -> AsyncRowFactory[Any]:
    """
    Make rows of a dataclass or NamedTuple from columns in the order of its fields.

    psycopg's class_row goes by name and takes twice as long for each row; here the names are compared once an answer.
    """
    names = [name.encode() for name in row.__match_args__]

    def factory(cursor: AsyncCursor[Any]) -> RowMaker[Any]:
        result = cursor.pgresult
        found = [] if result is None else [result.fname(column) for column in range(result.nfields)]
        if result is not None and found != names:
            raise ProgrammingError(f"{row.__name__}: expected the columns {names}, found {found}")
        return lambda values: row(*values)

    return factory
