"""
TLS connections on their way in: how many may be at their handshake at once.

asyncio's own server hands a connection over when its handshake is done, and counts none before: whoever connects and
says nothing would take all descriptors that there are, for as long as a handshake may last, and fill the log with it.
"""

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from pgslot.cli.logging import get_logger

HANDSHAKE_TIMEOUT = 10.0
"""How long a handshake may take."""
MIN_HANDSHAKES = 16
RETRY_SECONDS = 1.0
"""After a connection that could not be accepted, for want of descriptors."""

_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""IPv6 is not there, as in many containers: its address is left out where there is another."""

log = get_logger(__name__)


class TlsListener:
    """When there are too many, the oldest makes room for the next."""

    def __init__(self, make: Callable[[], asyncio.Protocol], context: ssl.SSLContext, most: int) -> None:
        self._make = make
        self._context = context
        self._most = max(MIN_HANDSHAKES, most)
        self._listening: list[socket.socket] = []
        self._accepting: list[asyncio.Task[None]] = []
        self._under_way: dict[asyncio.Task[None], None] = {}
        """The oldest first."""

    async def listen(self, host: str | None, port: int, backlog: int) -> list[tuple[Any, ...]]:
        """Listen on each address of this host, or on all there are; return the sockets' names. Raises OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        failure: OSError | None = None
        for family, _, _, _, address in dict.fromkeys(found):
            try:
                opened = socket.create_server(address, family=family, backlog=backlog)
            except OSError as error:
                if error.errno not in _NO_FAMILY:
                    raise
                failure = error
                continue
            opened.setblocking(False)
            self._listening.append(opened)
        if not self._listening and failure is not None:
            raise failure
        self._accepting = [asyncio.create_task(self._accept(each)) for each in self._listening]
        return [each.getsockname() for each in self._listening]

    async def close(self) -> None:
        """Let nobody in any more; connections that are in stay."""
        ending = [*self._accepting, *self._under_way]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)
        for each in self._listening:
            each.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                opened, _ = await loop.sock_accept(listening)
            except ConnectionAbortedError:
                continue
            except OSError as error:
                log.error("cannot accept a connection", error=error.strerror)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            if len(self._under_way) >= self._most:
                oldest = next(iter(self._under_way))
                del self._under_way[oldest]
                oldest.cancel()
            task = asyncio.create_task(self._shake(opened))
            self._under_way[task] = None
            task.add_done_callback(partial(self._done, opened))
            # Else a crowd that is there already is let in without a break, and none of it is shown out meanwhile.
            await asyncio.sleep(0)

    async def _shake(self, opened: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        # Whoever is no client of TLS, or too slow, is no news.
        with contextlib.suppress(OSError):
            await loop.connect_accepted_socket(
                self._make, opened, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_TIMEOUT
            )

    def _done(self, opened: socket.socket, task: asyncio.Task[None]) -> None:
        self._under_way.pop(task, None)
        if task.cancelled():
            # It may not even have begun.
            opened.close()
        elif task.exception() is not None:
            log.critical("a connection was not let in: a defect", exc=task.exception())
