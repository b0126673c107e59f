"""A TCP proxy on loopback with faults of networks: it refuses connections, swallows bytes, or resets."""

import contextlib
import socket
import struct
import threading
from enum import StrEnum
from types import TracebackType
from typing import Self

from tests.support.servers.processes import free_port


class Fault(StrEnum):
    """A fault, for open and new connections."""

    NONE = "none"
    REFUSED = "refused"
    HUNG = "hung"
    """Bytes are accepted and not forwarded."""
    RESET = "reset"
    """Connections are accepted and reset at the first byte."""


class Proxy:
    """A context: `port` leads to the target as long as the fault is NONE."""

    def __init__(self, target_port: int) -> None:
        self.port = free_port()
        self._target = target_port
        self._fault = Fault.NONE
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    def set(self, fault: Fault) -> None:
        """Set the fault from now on."""
        self._fault = fault
        if fault is Fault.REFUSED:
            self._close_listener()
        elif self._listener is None:
            self._listen()
        if fault in (Fault.REFUSED, Fault.RESET):
            self._reset_all()

    def cut(self) -> None:
        """Reset the open connections, as a firewall does with idle ones; new connections are accepted."""
        self._reset_all()

    def __enter__(self) -> Self:
        self._listen()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.set(Fault.REFUSED)

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _close_listener(self) -> None:
        if self._listener is not None:
            # Closing alone would leave the thread in accept() on the old descriptor.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target))
            except OSError:
                # The target is down, so the client's connection fails as well.
                client.close()
                continue
            with self._lock:
                self._open |= {client, server}
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=(source, sink), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self._fault is Fault.RESET:
                    self._reset_all()
                    return
                if self._fault is not Fault.HUNG:
                    sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _reset_all(self) -> None:
        with self._lock:
            connections, self._open = self._open, set()
        for connection in connections:
            with contextlib.suppress(OSError):
                # Linger for no time: the peer gets RST, not FIN.
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                connection.shutdown(socket.SHUT_RD)
            connection.close()
