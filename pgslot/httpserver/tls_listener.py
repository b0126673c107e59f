"""
Accepts TLS connections, with a limit on how many may be in their handshake at once.

asyncio's own server passes a connection on only after its handshake, and does not count it before. Clients that connect
and send nothing could use up all file descriptors until the handshakes time out, and would fill the log.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable
from typing import Any

from pgslot.cli.logging import get_logger
from pgslot.httpserver import deadlines
from pgslot.task_supervisor import TaskSupervisor

MIN_HANDSHAKES = 16

_NO_SUCH_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""No IPv6, as in many containers: its address is skipped where there is another one."""

log = get_logger(__name__)


class TlsListener:
    """Listening sockets and the handshakes in flight. When these are too many, the oldest is cancelled."""

    def __init__(
        self, protocol_factory: Callable[[], asyncio.Protocol], context: ssl.SSLContext, max_handshakes: int
    ) -> None:
        self._protocol_factory = protocol_factory
        self._context = context
        self._max_handshakes = max(MIN_HANDSHAKES, max_handshakes)
        self._sockets: list[socket.socket] = []
        self._accepting = TaskSupervisor()
        self._handshakes = TaskSupervisor()

    @property
    def handshakes(self) -> int:
        """How many handshakes are in flight."""
        return len(self._handshakes)

    async def listen(self, host: str | None, port: int, backlog: int) -> list[tuple[Any, ...]]:
        """Listen on each address of this host, or on all interfaces; return the sockets' names. Raises OSError."""
        loop = asyncio.get_running_loop()
        infos = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        failure: OSError | None = None
        for family, _, _, _, address in dict.fromkeys(infos):
            try:
                listening = socket.create_server(address, family=family, backlog=backlog)
            except OSError as error:
                if error.errno not in _NO_SUCH_FAMILY:
                    raise
                failure = error
                continue
            listening.setblocking(False)
            self._sockets.append(listening)
        if not self._sockets and failure is not None:
            raise failure
        for listening in self._sockets:
            self._accepting.start(self._accept_all(listening), "accepting TLS connections")
        return [listening.getsockname() for listening in self._sockets]

    async def close(self) -> None:
        """Accept no more connections and cancel the handshakes in flight; established connections stay open."""
        await self._accepting.close()
        await self._handshakes.close()
        for listening in self._sockets:
            listening.close()

    async def _accept_all(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listening)
            except ConnectionAbortedError:
                continue
            except OSError as error:
                log.error("cannot accept a connection", error=error.strerror)
                await asyncio.sleep(deadlines.ACCEPT_RETRY_SECONDS)
                continue
            self._start_handshake(accepted)
            # Waiting for the end of the oldest bounds a crowd, too, whose connections are all accepted without a break.
            while len(self._handshakes) > self._max_handshakes and (oldest := self._handshakes.oldest):
                oldest.cancel()
                await asyncio.wait([oldest])

    def _start_handshake(self, accepted: socket.socket) -> None:
        def close_if_cancelled(task: asyncio.Task[None]) -> None:
            # A task that was cancelled before it began has not closed the socket.
            if task.cancelled():
                accepted.close()

        self._handshakes.start(self._handshake(accepted), "TLS handshake", close_if_cancelled)

    async def _handshake(self, accepted: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        # A client that does not speak TLS or is too slow is not worth a log line.
        with contextlib.suppress(OSError):
            await loop.connect_accepted_socket(
                self._protocol_factory,
                accepted,
                ssl=self._context,
                ssl_handshake_timeout=deadlines.HANDSHAKE_SECONDS,
            )
