"""
One bounded connection to one server.

Every wait has a deadline. When it passes, the socket is shut down: no caller waits for a server that hangs.
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
from pgslot.postgres.deadlines import LOCK_SHARE, STATEMENT_SHARE
from pgslot.postgres.pipeline import Pipeline, Statement

_UTF8 = "UTF8"
# If pg_temp were not named, PostgreSQL would search it first.
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
        self._pipeline = Pipeline(connection)
        self._timeouts: tuple[int, int] | None = None
        self._pooled: bool | None = None
        self.renew_at: float | None = None
        """Monotonic time at which its password is about to end. None: that is not known."""
        self._encoding = connection.info.parameter_status("server_encoding") or _UTF8
        if self._encoding != _UTF8:
            self._decode_with_replacement(_python_codec(self._encoding))

    @classmethod
    async def connect(cls, conninfo: str, *, application_name: str, timeout: float) -> Self:
        """
        Connect within `timeout` seconds, which all hosts share.

        Raises psycopg.Error (LoginFailedError: the server refused the login), or TimeoutError.
        """
        return cls(await connect(conninfo, timeout, fallback_application_name=application_name, client_encoding="UTF8"))

    @property
    def major(self) -> int:
        """PostgreSQL's major version."""
        return self._connection.info.server_version // 10000

    @property
    def backend_pid(self) -> int:
        """Process id that the peer sent at the start of the connection; a pooler sends one that it made up."""
        return self._connection.info.backend_pid

    @property
    def closed(self) -> bool:
        return self._connection.closed

    @property
    def stale(self) -> bool:
        """Whether unrequested bytes have arrived, which nearly always means that the server closed the connection."""
        if self.closed:
            return True
        # poll(), as select() cannot watch a descriptor above 1023.
        poll = select.poll()
        poll.register(self._connection.fileno(), select.POLLIN)
        return bool(poll.poll(0))

    @property
    def pooled(self) -> bool | None:
        """
        Whether a pooler such as PgBouncer is in between; None before the first fetch.

        With a pooler the next statement may run in another session of the server, and settings and locks of a session
        stay behind for other clients. Therefore every fetch is one transaction, and nothing outlives it.
        """
        return self._pooled

    async def fetch(self, queries: Sequence[SessionQuery], timeout: float, *, bare: bool = False) -> list[list[Any]]:
        """
        Run the queries in one round trip, and return the rows of each.

        With `bare` nothing is set or prepared in the server's session, which a pooler may hand to another client next.

        Raises psycopg.Error for the first query that fails, or TimeoutError, which closes the session. Cancelling
        closes the session as well, without waiting.
        """
        return await self._with_deadline(
            timeout, self._pipeline.execute(_statements(queries)) if bare else self._fetch(queries, timeout)
        )

    async def _with_deadline(self, timeout: float, awaitable: Awaitable[_T]) -> _T:
        expired = False

        def expire() -> None:
            nonlocal expired
            expired = True
            self.abort()

        timer = asyncio.get_running_loop().call_later(timeout, expire)
        try:
            return await awaitable
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
        """Return `pooled`, without setting anything in the server's session. Raises what fetch() does."""
        await self._with_deadline(timeout, self._detect_pooler())
        return bool(self._pooled)

    async def _detect_pooler(self) -> None:
        [[backend]] = await self._pipeline.execute([_BACKEND])
        # A pooler makes up the process id that it sends to its clients.
        self._pooled = backend.pid != self.backend_pid

    async def _fetch(self, queries: Sequence[SessionQuery], timeout: float) -> list[list[Any]]:
        if self._pooled is None:
            await self._detect_pooler()
        # Rounded, so that timeouts that differ by microseconds are not sent to the server again.
        tenths = max(1, int(timeout * 10))
        timeouts = (int(tenths * 100 * STATEMENT_SHARE), int(tenths * 100 * LOCK_SHARE))
        try:
            return await self._execute(queries, timeouts)
        except UnicodeDecodeError:
            # PostgreSQL does not check the encoding of names of roles and databases. A label with U+FFFD is better than
            # a node without data. Only now, because this takes longer.
            self._decode_with_replacement("utf-8")
            return await self._execute(queries, timeouts)

    def _decode_with_replacement(self, codec: str) -> None:
        """Decode text with this codec from now on, with U+FFFD for what it cannot decode."""

        class Replacing(Loader):
            format = pq.Format.BINARY

            def load(self, data: Buffer) -> str:
                return bytes(data).decode(codec, "replace")

        for type_name in ("text", "varchar", "name", "bpchar"):
            self._connection.adapters.register_loader(type_name, Replacing)

    async def _execute(self, queries: Sequence[SessionQuery], timeouts: tuple[int, int]) -> list[list[Any]]:
        statements = _statements(queries)
        if self._pooled:
            # The round trip is one transaction. BEGIN would leave it open if a query fails.
            _, *results = await self._pipeline.execute([self._settings(timeouts, local=True), *statements])
            return results
        if timeouts != self._timeouts:
            settings = self._settings(timeouts, local=False)
            _, *results = await self._pipeline.execute([settings, *statements], prepare=True)
            self._timeouts = timeouts
            return results
        # Prepared at the first use: planning takes the server longer than running them.
        return await self._pipeline.execute(statements, prepare=True)

    def _settings(self, timeouts: tuple[int, int], *, local: bool) -> Statement:
        """Return the statement that makes the session safe; with `local` only for the transaction."""
        # SQL_ASCII: no conversion by the server, which fails for text that is invalid in the server's encoding.
        encoding = _UTF8 if self._encoding == _UTF8 else "SQL_ASCII"
        read_only = "transaction_read_only" if local else "default_transaction_read_only"
        return Statement(
            _SETTINGS, _Settings, ("on" if local else "off", str(timeouts[0]), str(timeouts[1]), encoding, read_only)
        )

    async def cancel(self, timeout: float) -> None:
        """
        Ask the server to cancel what fetch() waits for; fetch() then raises or returns what the server answers.

        Raises psycopg.Error if the server cannot be asked within `timeout` seconds.
        """
        await self._connection.cancel_safe(timeout=timeout)

    async def close(self) -> None:
        await self._connection.close()

    def abort(self) -> None:
        """Shut the socket down; a pending fetch() raises psycopg.OperationalError at once."""
        if self._connection.closed:
            return
        # The descriptor itself, not a copy: the deadline has to hold even if there are no descriptors left.
        own = socket.socket(fileno=self._connection.fileno())
        try:
            own.shutdown(socket.SHUT_RDWR)
        except OSError:
            # ENOTCONN: the peer has already reset the connection, which the pending fetch() notices.
            return
        finally:
            own.detach()


def _python_codec(encoding: str) -> str:
    """Return Python's name of a PostgreSQL encoding; UTF-8 for SQL_ASCII, which may be any, and unknown ones."""
    try:
        return codecs.lookup(encoding.replace("WIN", "cp").replace("KOI8", "koi8-")).name
    except LookupError:
        return "utf-8"


def _statements(queries: Sequence[SessionQuery]) -> list[Statement]:
    return [query if isinstance(query, Statement) else Statement(*query) for query in queries]
