"""A relay that puts a server on loopback as far away as another region: `python -m tests.bench.latency_relay`."""

import asyncio
import sys


class _End(asyncio.Protocol):
    """One end of a connection; what arrives is written to the other end after the delay."""

    def __init__(self, delay: float, target_port: int | None = None) -> None:
        self._delay = delay
        self._target_port = target_port
        self._loop = asyncio.get_running_loop()
        self._dialled: asyncio.Task[None] | None = None
        self._waiting = b""
        self.transport: asyncio.Transport | None = None
        self.other: _End | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        if self._target_port is not None:
            self._dialled = self._loop.create_task(self._dial(self._target_port))

    def data_received(self, data: bytes) -> None:
        self._loop.call_later(self._delay, self._pass_on, data)

    def connection_lost(self, _error: Exception | None) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.close()

    async def _dial(self, port: int) -> None:
        _, far = await self._loop.create_connection(lambda: _End(self._delay), "127.0.0.1", port)
        far.other, self.other = self, far
        self._pass_on(b"")

    def _pass_on(self, data: bytes) -> None:
        self._waiting += data
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(self._waiting)
            self._waiting = b""


async def relay(port: int, target_port: int, round_trip: float) -> None:
    """Serve until ended; `round_trip` is what is added to one, in seconds."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _End(round_trip / 2, target_port), "127.0.0.1", port, backlog=1000)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(relay(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
