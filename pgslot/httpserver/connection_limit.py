"""
The door of an HTTP server: how many connections are let in, and how long they may do nothing.

aiohttp waits for ever for the first request of a connection. Whoever opens connections and says nothing would take all
descriptors that there are, which then lack for servers.
"""

import asyncio
import resource
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

REQUEST_SECONDS = 30.0
"""How long a connection may take until its first request is there, headers complete, and until each that follows."""
KEEP_ALIVE_SECONDS = 120.0
"""How long it may stay open after an answer. Prometheus asks again within a minute; aiohttp closes it after 75 s."""
SWEEP_INTERVAL = 1.0
"""Seconds between two rounds in which those that have had their time are shown out."""
MIN_CONNECTIONS, MAX_CONNECTIONS = 64, 4096


def connection_limit() -> int:
    """Return how many are let in: half of what may be open, so that the other half is there for servers."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MAX_CONNECTIONS if soft == resource.RLIM_INFINITY else max(MIN_CONNECTIONS, min(MAX_CONNECTIONS, soft // 2))


class ConnectionLimiter:
    """Who is in. When it is full, whoever has been idle for the longest makes room for the next."""

    def __init__(self, app: web.Application, most: int | None = None) -> None:
        """Watch requests of this application, which must not have started."""
        self.limit = most if most is not None else connection_limit()
        self._guests: dict[asyncio.BaseTransport, LimitedConnection] = {}
        app.middlewares.insert(0, self._count)

    def wrap(self, inner: asyncio.Protocol) -> "LimitedConnection":
        """Return the protocol of one connection, around that of the application."""
        return LimitedConnection(inner, self)

    async def sweep(self) -> None:
        """Show out, for ever, whoever has had his time."""
        while True:
            await asyncio.sleep(SWEEP_INTERVAL)
            now = asyncio.get_running_loop().time()
            for guest in [guest for guest in self._guests.values() if guest.overdue(now)]:
                guest.close()

    def opened(self, guest: "LimitedConnection", transport: asyncio.Transport) -> None:
        self._guests[transport] = guest
        if len(self._guests) > self.limit:
            # The newest is the last choice: it may be the one that has something to say.
            idle = [each for each in self._guests.values() if not each.busy and each is not guest]
            min(idle, key=lambda each: each.idle_since, default=guest).close()

    def closed(self, transport: asyncio.BaseTransport) -> None:
        self._guests.pop(transport, None)

    @web.middleware
    async def _count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        guest = self._guests.get(request.transport) if request.transport is not None else None
        if guest is None:
            return await handler(request)
        guest.request_started()
        try:
            return await handler(request)
        finally:
            guest.request_ended()


class LimitedConnection(asyncio.Protocol):
    """One connection: it hands everything on to the application's own protocol."""

    def __init__(self, inner: asyncio.Protocol, door: ConnectionLimiter) -> None:
        self._inner = inner
        self._door = door
        self._transport: asyncio.Transport | None = None
        self._requests = 0
        self._paused = False
        self._limit = REQUEST_SECONDS
        self.idle_since = 0.0
        """Since when it is idle, by the loop's clock."""

    @property
    def busy(self) -> bool:
        """A request of it is being answered, or the answer is on its way."""
        return self._requests > 0

    def overdue(self, now: float) -> bool:
        # Whoever does not read his answer has as long as whoever does not ask.
        return not self.busy and now - self.idle_since > (KEEP_ALIVE_SECONDS if self._paused else self._limit)

    def request_started(self) -> None:
        self._requests += 1

    def request_ended(self) -> None:
        self._requests -= 1
        self._limit = KEEP_ALIVE_SECONDS
        self._now()

    def close(self) -> None:
        """Close it without a word, as there is no request to answer."""
        if self._transport is not None:
            self._transport.abort()
            self._door.closed(self._transport)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._now()
        self._inner.connection_made(transport)
        if isinstance(transport, asyncio.Transport):
            self._transport = transport
            self._door.opened(self, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:
            self._door.closed(self._transport)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._limit != REQUEST_SECONDS and not self.busy:
            # The next request has begun: from here on it has as long as the first one had.
            self._limit = REQUEST_SECONDS
            self._now()
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._paused = True
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._paused = False
        self._inner.resume_writing()

    def _now(self) -> None:
        self.idle_since = asyncio.get_running_loop().time()


def protocol_factory(door: ConnectionLimiter, server: Callable[[], Any]) -> Callable[[], LimitedConnection]:
    """Return what asyncio makes a protocol with for each connection."""
    return lambda: door.wrap(server())
