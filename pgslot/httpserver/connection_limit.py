"""
Limits how many connections are open, and how long each may be idle.

aiohttp waits indefinitely for the first request of a connection. Clients that connect and send nothing could use up all
file descriptors, which are then missing for connections to PostgreSQL.
"""

import asyncio
import resource
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from pgslot.httpserver import deadlines

MIN_CONNECTIONS, MAX_CONNECTIONS = 64, 4096


def connection_limit() -> int:
    """Return half of the descriptors that this process may open, within bounds: the other half is for servers."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, soft // 2))


class ConnectionLimiter:
    """The open connections. When the limit is reached, a new one closes the one that has been idle for longest."""

    def __init__(self, app: web.Application, limit: int | None = None) -> None:
        """Track the requests of this application, which must not have started; limit None: `connection_limit()`."""
        self.limit = limit if limit is not None else connection_limit()
        self._connections: dict[asyncio.BaseTransport, LimitedConnection] = {}
        app.middlewares.insert(0, self._track)

    def __len__(self) -> int:
        """Return how many connections are open."""
        return len(self._connections)

    def wrap(self, protocol: asyncio.Protocol) -> "LimitedConnection":
        """Return the protocol of one connection, around the application's own."""
        return LimitedConnection(protocol, self)

    async def sweep(self) -> None:
        """Close overdue connections, until cancelled."""
        while True:
            await asyncio.sleep(deadlines.SWEEP_SECONDS)
            now = asyncio.get_running_loop().time()
            for connection in list(self._connections.values()):
                if connection.overdue(now):
                    connection.close()

    def opened(self, connection: "LimitedConnection", transport: asyncio.Transport) -> None:
        self._connections[transport] = connection
        if len(self._connections) > self.limit:
            # The newest is the last choice: its request may be on the way.
            idle = [c for c in self._connections.values() if not c.busy and c is not connection]
            min(idle, key=lambda c: c.idle_since, default=connection).close()

    def closed(self, transport: asyncio.BaseTransport) -> None:
        self._connections.pop(transport, None)

    @web.middleware
    async def _track(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        connection = self._connections.get(request.transport) if request.transport is not None else None
        if connection is None:
            return await handler(request)
        connection.request_started()
        try:
            return await handler(request)
        finally:
            connection.request_ended()


class LimitedConnection(asyncio.Protocol):
    """One connection: passes everything to the application's own protocol, and knows how long it has been idle."""

    def __init__(self, protocol: asyncio.Protocol, limiter: ConnectionLimiter) -> None:
        self._protocol = protocol
        self._limiter = limiter
        self._transport: asyncio.Transport | None = None
        self._requests = 0
        self._writing_paused = False
        self._max_idle = deadlines.REQUEST_SECONDS
        self.idle_since = 0.0
        """By the loop's clock."""

    @property
    def busy(self) -> bool:
        """Whether a handler is at work on one of its requests."""
        return self._requests > 0

    def overdue(self, now: float) -> bool:
        # A client that does not read its answer has as long as one that sends no further request.
        max_idle = deadlines.KEEP_ALIVE_SECONDS if self._writing_paused else self._max_idle
        return not self.busy and now - self.idle_since > max_idle

    def request_started(self) -> None:
        self._requests += 1

    def request_ended(self) -> None:
        self._requests -= 1
        self._allow_idle(deadlines.KEEP_ALIVE_SECONDS)

    def close(self) -> None:
        """Close the connection without an answer: there is no request."""
        if self._transport is not None:
            self._transport.abort()
            self._limiter.closed(self._transport)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._allow_idle(deadlines.REQUEST_SECONDS)
        self._protocol.connection_made(transport)
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            self._limiter.opened(self, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._limiter.closed(self._transport)
        self._protocol.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._max_idle != deadlines.REQUEST_SECONDS and not self.busy:
            # The first bytes of a later request.
            self._allow_idle(deadlines.REQUEST_SECONDS)
        self._protocol.data_received(data)

    def eof_received(self) -> bool | None:
        return self._protocol.eof_received()

    def pause_writing(self) -> None:
        self._writing_paused = True
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        self._writing_paused = False
        self._protocol.resume_writing()

    def _allow_idle(self, seconds: float) -> None:
        self._max_idle = seconds
        self.idle_since = asyncio.get_running_loop().time()


def protocol_factory(limiter: ConnectionLimiter, server: Callable[[], Any]) -> Callable[[], LimitedConnection]:
    """Return the factory that asyncio calls for each connection; `server` makes the application's own protocol."""
    return lambda: limiter.wrap(server())
