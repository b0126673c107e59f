"""A consumer of a logical slot that confirms only the ends of transactions, as many hand-written ones do."""

import select
import struct
import threading
import time
from types import TracebackType
from typing import Any, Self

import psycopg

_DATA, _KEEPALIVE = b"wk"
_HEADER = 25
"""'w' and three 64-bit numbers: the start of the data, the end of the server's WAL, the time."""
_STATUS = struct.Struct(">cQQQQb")


class ChangeByChange:
    """
    The constructor creates the slot; within the context the consumer streams. Every second it reports the end of the
    last transaction that it received.

    It does not confirm the positions of keepalives: while no change concerns the slot, nothing is confirmed. With
    `tells_receipt` it reports them as received, as pgjdbc does.

    Without a publication the slot uses test_decoding, which decodes every transaction.
    """

    def __init__(
        self, conninfo: str, slot: str, *, publication: str | None = None, tells_receipt: bool = False
    ) -> None:
        self.confirmed = 0
        """Bytes since 0/0."""
        self.confirms = True
        """Whether it confirms the transactions that it receives."""
        self._received = 0
        self._tells_receipt = tells_receipt
        self._stop = threading.Event()
        plugin = "test_decoding" if publication is None else "pgoutput"
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("SELECT pg_catalog.pg_create_logical_replication_slot(%s, %s)", [slot, plugin])
        self._conninfo = conninfo
        options = "" if publication is None else f" (proto_version '1', publication_names '\"{publication}\"')"
        self._start = f'START_REPLICATION SLOT "{slot}" LOGICAL 0/0{options}'
        self._connection: psycopg.Connection[Any]
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._connection = psycopg.connect(f"{self._conninfo} replication=database", autocommit=True)
        self._pgconn = self._connection.pgconn
        self._pgconn.exec_(self._start.encode())
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._connection.close()

    def _run(self) -> None:
        last_report = 0.0
        while not self._stop.is_set():
            select.select([self._pgconn.socket], [], [], 0.1)
            try:
                self._pgconn.consume_input()
            except psycopg.OperationalError:
                # The server has ended.
                return
            self._take()
            if time.monotonic() - last_report >= 1:
                last_report = time.monotonic()
                received = max(self.confirmed, self._received if self._tells_receipt else 0)
                self._pgconn.put_copy_data(_STATUS.pack(b"r", received, self.confirmed, self.confirmed, 0, 0))
                self._pgconn.flush()

    def _take(self) -> None:
        while True:
            size, data = self._pgconn.get_copy_data(1)
            if size <= 0:
                return
            message = bytes(data)
            (position,) = struct.unpack_from(">Q", message, 1)
            if message[0] == _KEEPALIVE:
                self._received = max(self._received, position)
            elif message[0] == _DATA and message[_HEADER:].startswith(b"C") and self.confirms:
                # pgoutput's message C, or test_decoding's line COMMIT.
                self.confirmed = position
