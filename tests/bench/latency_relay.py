"""A relay that adds the latency of another region to a server on loopback: `python -m tests.bench.latency_relay`."""

import asyncio
import sys


class _End(asyncio.Protocol):
    """One end of a connection; data that arrive are written to the peer after the delay."""

    def __init__(self, delay: float, target_port: int | None = None) -> None:
        self._delay = delay
        self._target_port = target_port
        self._loop = asyncio.get_running_loop()
        self._dialling: asyncio.Task[None] | None = None
        self._pending = b""
        self.transport: asyncio.Transport | None = None
        self.peer: _End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self._target_port is not None:
            self._dialling = self._loop.create_task(self._dial(self._target_port))

    def data_received(self, data: bytes) -> None:
        self._loop.call_later(self._delay, self._pass_on, data)

    def connection_lost(self, _error: Exception | None) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.close()

    async def _dial(self, port: int) -> None:
        _, far = await self._loop.create_connection(lambda: _End(self._delay), "127.0.0.1", port)
        far.peer, self.peer = self, far
        self._pass_on(b"")

    def _pass_on(self, data: bytes) -> None:
        self._pending += data
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.write(self._pending)
            self._pending = b""


async def relay(port: int, target_port: int, round_trip: float) -> None:
    """Serve until cancelled; `round_trip`: the latency to add to a round trip, in seconds."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _End(round_trip / 2, target_port), "127.0.0.1", port, backlog=1000)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(relay(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
