"""How many connections may be open, and for how long they may be idle, over real sockets."""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import pytest
from aiohttp import ClientSession, web

from pgslot.httpserver import deadlines
from pgslot.httpserver.connection_limit import ConnectionLimiter, connection_limit, protocol_factory
from pgslot.task_supervisor import TaskSupervisor

REQUEST = b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass
class Server:
    """An application behind a connection limiter."""

    limiter: ConnectionLimiter
    port: int = 0
    slow_requests: int = 0
    """How many requests for /slow have begun."""

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    async def get(self, path: str) -> str:
        async with ClientSession() as client, client.get(self.url(path)) as answer:
            return await answer.text()

    @contextmanager
    def connection(self, sent: bytes = b"") -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port)) as opened:
            opened.sendall(sent)
            opened.setblocking(False)
            yield opened


@asynccontextmanager
async def serving(limit: int = 10) -> AsyncIterator[Server]:
    app = web.Application()
    server = Server(ConnectionLimiter(app, limit))

    async def quick(_: web.Request) -> web.Response:
        return web.Response(text="quick")

    async def slow(_: web.Request) -> web.Response:
        server.slow_requests += 1
        await asyncio.sleep(1.5)
        return web.Response(text="slow")

    async def echo(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    app.add_routes([web.get("/quick", quick), web.get("/slow", slow), web.post("/echo", echo)])
    runner = web.AppRunner(app)
    await runner.setup()
    assert runner.server is not None
    factory = protocol_factory(server.limiter, runner.server)
    listening = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    background = TaskSupervisor()
    background.start(server.limiter.sweep(), "sweep")
    try:
        yield server
    finally:
        await background.close()
        listening.close()
        await runner.cleanup()


async def received_until_closed(opened: socket.socket, seconds: float = 5.0) -> bytes:
    """Wait until the server closes the connection; return what it sent before."""
    received = b""
    async with asyncio.timeout(seconds):
        while True:
            try:
                chunk = await asyncio.get_running_loop().sock_recv(opened, 65536)
            except ConnectionResetError:
                return received
            if not chunk:
                return received
            received += chunk


@pytest.fixture
def short_deadlines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deadlines, "REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(deadlines, "SWEEP_SECONDS", 0.05)


async def test_idle_connections_are_evicted_when_limit_is_reached() -> None:
    async with serving(limit=10) as server:
        with ExitStack() as idle:
            for _ in range(300):
                idle.enter_context(server.connection())
                await asyncio.sleep(0)
            for _ in range(5):
                assert await server.get("quick") == "quick"
            assert len(server.limiter) <= 10


async def test_busy_connection_is_never_evicted() -> None:
    async with serving(limit=3) as server:
        answers = [asyncio.create_task(server.get("slow")) for _ in range(3)]
        while server.slow_requests < 3:  # noqa: ASYNC110 - it is behind a socket
            await asyncio.sleep(0.01)
        with server.connection() as newest:
            assert await received_until_closed(newest) == b""
        assert await asyncio.gather(*answers) == ["slow"] * 3
        # aiohttp's client would send the request of a connection that was closed again.
        assert server.slow_requests == 3


@pytest.mark.usefixtures("short_deadlines")
@pytest.mark.parametrize("sent", [b"", b"GET /quick HTTP/1.1\r\nHost: x\r\n"], ids=["nothing", "half a request"])
async def test_connection_without_a_request_in_time_is_closed(sent: bytes) -> None:
    async with serving() as server:
        with server.connection(sent) as opened:
            assert await received_until_closed(opened) == b""
        assert len(server.limiter) == 0


@pytest.mark.usefixtures("short_deadlines")
async def test_answer_may_take_longer_than_a_request() -> None:
    async with serving() as server:
        assert await server.get("slow") == "slow"


@pytest.mark.usefixtures("short_deadlines")
async def test_connection_stays_open_after_an_answer_for_the_next_request() -> None:
    async with serving() as server:
        with server.connection(REQUEST) as opened:
            loop = asyncio.get_running_loop()
            assert b"quick" in await loop.sock_recv(opened, 65536)
            await asyncio.sleep(1.0)
            await loop.sock_sendall(opened, REQUEST)
            assert b"quick" in await loop.sock_recv(opened, 65536)
            await loop.sock_sendall(opened, REQUEST[:20])
            assert await received_until_closed(opened) == b""


async def test_request_and_response_bodies_pass_unchanged() -> None:
    async with serving() as server, ClientSession() as client:
        body = bytes(range(256)) * 3000
        async with client.post(server.url("echo"), data=body) as answer:
            assert await answer.read() == body


@pytest.mark.parametrize(
    ("descriptors", "expected"), [(1024, 512), (256, 128), (20, 64), (1_000_000, 4096), (resource.RLIM_INFINITY, 4096)]
)
def test_half_of_the_descriptors_are_left_for_servers(
    monkeypatch: pytest.MonkeyPatch, descriptors: int, expected: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
    assert connection_limit() == expected
