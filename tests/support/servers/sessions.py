"""Sessions of clients: statements that may hang, and open transactions."""

import contextlib
import os
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import psycopg

from tests.support.servers.processes import wait_for


class Statement:
    """
    A statement that may hang, in a separate thread; the end of the context ends it.

    `begun`: the start of the context waits until it returns true, or the statement has ended.
    """

    def __init__(self, conninfo: str, statement: str, begun: Callable[[], bool] = lambda: True) -> None:
        self.error: str | None = None
        self._statement = statement
        self._begun = begun
        self._connection: psycopg.Connection[Any] = psycopg.connect(conninfo, autocommit=True)
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    @property
    def done(self) -> bool:
        return self._done.is_set()

    def wait(self, timeout: float) -> bool:
        """Wait for the statement; return whether it has ended, with or without `error`."""
        return self._done.wait(timeout)

    def close(self) -> None:
        """Close the connection, like a client that gives up; a waiting walsender reacts too late to a cancel."""
        if not self.done:
            # The server may close the connection at the same moment.
            with (
                contextlib.suppress(OSError, psycopg.Error),
                socket.socket(fileno=os.dup(self._connection.fileno())) as copy,
            ):
                copy.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._connection.close()

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            wait_for(lambda: self.done or self._begun(), "the statement has begun")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            self._connection.execute(self._statement.encode())
        except psycopg.Error as error:
            self.error = str(error).strip()
        finally:
            self._done.set()


class OpenTransaction:
    """A session with an idle open transaction that has an xid."""

    def __init__(self, conninfo: str) -> None:
        self.connection: psycopg.Connection[Any] = psycopg.connect(conninfo)
        self.pid = self.connection.info.backend_pid
        self.connection.execute("SELECT pg_catalog.pg_current_xact_id()")

    def commit(self) -> None:
        self.connection.commit()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.connection.close()
