"""
One bounded connection to one server.

Every wait has a deadline. At the deadline the socket is shut down rather than the coroutine cancelled: psycopg answers
a cancellation by asking the server to cancel the query, and a hung server lets that wait for another ten seconds.
"""

import asyncio
import os
import select
import socket
import traceback
from collections.abc import Sequence
from typing import Any, Self

from psycopg import AsyncConnection, AsyncCursor, ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import AsyncRowFactory, RowMaker

STATEMENT_SHARE = 0.8
"""Part of a look's time that one statement may take, so that the server's error arrives before our own deadline."""
LOCK_SHARE = 0.4

Query = tuple[str, type[Any]]


def _let_go(error: BaseException | None) -> None:
    """
    Forget the locals of the frames that an error passed through, and of those before it.

    A connection that was given up half-way is closed when nothing refers to it any more. The traceback does, and with
    it whoever keeps the error: a cancelled task, for as long as that is kept.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


class Session:
    """A connection whose statements cannot write and cannot outlive their deadline."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection
        self._limits: tuple[int, int] | None = None

    @classmethod
    async def connect(cls, conninfo: str, *, application_name: str, timeout: float) -> Self:
        """
        Connect within `timeout` seconds, several hosts sharing that time.

        Raises psycopg.Error, or TimeoutError.
        """
        given = conninfo_to_dict(conninfo)
        hosts = str(given.get("host") or given.get("hostaddr") or "").count(",") + 1
        extra: dict[str, Any] = {"fallback_application_name": application_name, "client_encoding": "UTF8"}
        if "connect_timeout" not in given:
            extra["connect_timeout"] = max(2, int(timeout / hosts))
        try:
            async with asyncio.timeout(timeout):
                return cls(await AsyncConnection.connect(conninfo, autocommit=True, **extra))
        except BaseException as error:
            _let_go(error)
            raise

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
        return self.closed or bool(select.select([self._connection.fileno()], [], [], 0)[0])

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
        # Rounded, so that the few microseconds between two looks do not send new limits to the server each time.
        tenths = max(1, int(timeout * 10))
        limits = (int(tenths * 100 * STATEMENT_SHARE), int(tenths * 100 * LOCK_SHARE))
        if limits == self._limits and len(queries) == 1:
            # A pipeline ends with a Flush message, after which the server's idle_session_timeout does not run.
            [(sql, row)] = queries
            cursor = self._connection.cursor(row_factory=_rows_of(row))
            await cursor.execute(sql.encode(), prepare=True)
            return [await cursor.fetchall()]
        async with self._connection.pipeline():
            if limits != self._limits:
                await self._connection.execute(
                    "SELECT pg_catalog.set_config('statement_timeout', %s, false),"
                    " pg_catalog.set_config('lock_timeout', %s, false),"
                    " pg_catalog.set_config('default_transaction_read_only', 'on', false)",
                    [str(limits[0]), str(limits[1])],
                )
            cursors = []
            for sql, row in queries:
                cursor = self._connection.cursor(row_factory=_rows_of(row))
                # Prepared at once: planning takes the server longer than answering does.
                cursors.append(await cursor.execute(sql.encode(), prepare=True))
        self._limits = limits
        return [await cursor.fetchall() for cursor in cursors]

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
        with socket.socket(fileno=os.dup(self._connection.fileno())) as copy:
            try:
                copy.shutdown(socket.SHUT_RDWR)
            except OSError:
                # ENOTCONN: the peer has reset it already, and the waiting side knows.
                return


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
