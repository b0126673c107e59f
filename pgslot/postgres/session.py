"""
One bounded connection to one server.

Every wait has a deadline, at which the socket is shut down: nobody waits for a hung server to end what it was asked.
"""

import asyncio
import codecs
import select
import socket
from collections.abc import Awaitable, Sequence
from typing import Any, NamedTuple, Self, TypeVar

from psycopg import AsyncConnection, pq
from psycopg.abc import Buffer
from psycopg.adapt import Loader

from pgslot.postgres.connect import connect
from pgslot.postgres.pipeline import Pipeline, Statement

STATEMENT_SHARE = 0.8
"""Part of a look's time that one statement may take, so that the server's error arrives before our own deadline."""
LOCK_SHARE = 0.4

_UTF8 = "UTF8"
# pg_temp by name, or it would come first.
_SETTINGS = """
SELECT
  pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', $1::pg_catalog.bool) AS search_path,
  pg_catalog.set_config('statement_timeout', $2, $1::pg_catalog.bool) AS statement_timeout,
  pg_catalog.set_config('lock_timeout', $3, $1::pg_catalog.bool) AS lock_timeout,
  pg_catalog.set_config('client_encoding', $4, $1::pg_catalog.bool) AS client_encoding,
  pg_catalog.set_config($5, 'on', $1::pg_catalog.bool) AS read_only
"""


class _Settings(NamedTuple):
    search_path: str
    statement_timeout: str
    lock_timeout: str
    client_encoding: str
    read_only: str


class _Backend(NamedTuple):
    pid: int


_BACKEND = Statement("SELECT pg_catalog.pg_backend_pid() AS pid", _Backend)

_T = TypeVar("_T")

SessionQuery = tuple[str, type[Any]] | Statement
"""A statement without parameters and the type of its rows, or one with."""


class Session:
    """A connection whose statements cannot write and cannot outlive their deadline."""

    def __init__(self, connection: AsyncConnection[Any]) -> None:
        self._connection = connection
        self._trips = Pipeline(connection)
        self._limits: tuple[int, int] | None = None
        self._pooled: bool | None = None
        self._encoding = connection.info.parameter_status("server_encoding") or _UTF8
        if self._encoding != _UTF8:
            self._replace_what_is_not(_codec(self._encoding))

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

    async def fetch(self, queries: Sequence[SessionQuery], timeout: float, *, bare: bool = False) -> list[list[Any]]:
        """
        Run the queries in one round trip and return the rows of each as its dataclass.

        With `bare` it sets and prepares nothing in the server's session, which a pooler may give to somebody else next.

        Raises psycopg.Error for the first query that fails (no rows are returned then), or TimeoutError, after which
        the session is closed. Cancelling it closes the session as well, and waits for nothing.
        """
        return await self._within(
            timeout, self._trips.execute(_statements(queries)) if bare else self._ask(queries, timeout)
        )

    async def _within(self, timeout: float, answer: Awaitable[_T]) -> _T:
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            self.abort()

        timer = asyncio.get_running_loop().call_later(timeout, expire)
        try:
            return await answer
        except asyncio.CancelledError:
            self.abort()
            await self.close()
            raise
        except Exception as error:
            if expired:
                raise TimeoutError(f"no answer in {timeout:.1f} s") from error
            raise
        finally:
            timer.cancel()

    async def detect_pooler(self, timeout: float) -> bool:
        """Ask for `pooled` alone, by which nothing is set in the server's session. Raises what ask() does."""
        await self._within(timeout, self._look_who_answers())
        return bool(self._pooled)

    async def _look_who_answers(self) -> None:
        [[backend]] = await self._trips.execute([_BACKEND])
        self._pooled = backend.pid != self.backend_pid

    async def _ask(self, queries: Sequence[SessionQuery], timeout: float) -> list[list[Any]]:
        if self._pooled is None:
            # A pooler makes up the process id that it tells its clients.
            await self._look_who_answers()
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
            format = pq.Format.BINARY

            def load(self, data: Buffer) -> str:
                return bytes(data).decode(codec, "replace")

        for kind in ("text", "varchar", "name", "bpchar"):
            self._connection.adapters.register_loader(kind, Replacing)

    async def _answers(self, queries: Sequence[SessionQuery], limits: tuple[int, int]) -> list[list[Any]]:
        statements = _statements(queries)
        if self._pooled:
            # The round trip is one transaction. BEGIN would leave one open where a query fails.
            _, *answers = await self._trips.execute([self._settings(limits, local=True), *statements])
            return answers
        if limits != self._limits:
            _, *answers = await self._trips.execute([self._settings(limits, local=False), *statements], prepare=True)
            self._limits = limits
            return answers
        # Prepared at once: planning takes the server longer than answering does.
        return await self._trips.execute(statements, prepare=True)

    def _settings(self, limits: tuple[int, int], *, local: bool) -> Statement:
        """`local`: for this transaction, and not for the session."""
        # From any other encoding than its own name for ASCII the server would convert, and fail where it cannot.
        encoding = _UTF8 if self._encoding == _UTF8 else "SQL_ASCII"
        read_only = "transaction_read_only" if local else "default_transaction_read_only"
        return Statement(
            _SETTINGS, _Settings, ("on" if local else "off", str(limits[0]), str(limits[1]), encoding, read_only)
        )

    async def close(self) -> None:
        await self._connection.close()

    def abort(self) -> None:
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


def _statements(queries: Sequence[SessionQuery]) -> list[Statement]:
    return [query if isinstance(query, Statement) else Statement(*query) for query in queries]
