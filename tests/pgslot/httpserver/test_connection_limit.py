"""How many connections are let in, and how long they may do nothing, over real sockets."""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import pytest
from aiohttp import ClientSession, web

from pgslot.httpserver import connection_limit as module
from pgslot.httpserver.connection_limit import ConnectionLimiter, connection_limit, protocol_factory

REQUEST = b"GET /quick HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass
class House:
    port: int
    door: ConnectionLimiter

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    @contextmanager
    def stranger(self, says: bytes = b"") -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port)) as opened:
            opened.sendall(says)
            opened.setblocking(False)
            yield opened


@asynccontextmanager
async def house(most: int = 10) -> AsyncIterator[House]:
    app = web.Application()
    app.add_routes([web.get("/quick", quick), web.get("/slow", slow), web.post("/echo", echo)])
    door = ConnectionLimiter(app, most)
    runner = web.AppRunner(app)
    await runner.setup()
    assert runner.server is not None
    server = await asyncio.get_running_loop().create_server(protocol_factory(door, runner.server), "127.0.0.1", 0)
    watch = asyncio.create_task(door.sweep())
    try:
        yield House(server.sockets[0].getsockname()[1], door)
    finally:
        watch.cancel()
        server.close()
        await runner.cleanup()


async def quick(_: web.Request) -> web.Response:
    return web.Response(text="quick")


async def slow(_: web.Request) -> web.Response:
    await asyncio.sleep(1.5)
    return web.Response(text="slow")


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read())


async def get(there: House, path: str) -> str:
    async with ClientSession() as client, client.get(there.url(path)) as answer:
        return await answer.text()


async def closed(opened: socket.socket, seconds: float = 5.0) -> bytes:
    """Wait until the other side has closed it; return what it said before."""
    said = b""
    async with asyncio.timeout(seconds):
        while True:
            try:
                chunk = await asyncio.get_running_loop().sock_recv(opened, 65536)
            except ConnectionResetError:
                return said
            if not chunk:
                return said
            said += chunk


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REQUEST_SECONDS", 0.5)
    monkeypatch.setattr(module, "SWEEP_INTERVAL", 0.05)


async def test_strangers_who_say_nothing_make_room_for_whoever_asks() -> None:
    async with house(most=10) as there:
        with ExitStack() as held:
            for _ in range(300):
                held.enter_context(there.stranger())
                await asyncio.sleep(0)
            for _ in range(5):
                assert await get(there, "quick") == "quick"
            assert len(there.door._guests) <= 10


async def test_whoever_is_being_answered_makes_room_for_nobody() -> None:
    async with house(most=3) as there:
        answers = [asyncio.create_task(get(there, "slow")) for _ in range(3)]
        while sum(guest.busy for guest in there.door._guests.values()) < 3:  # noqa: ASYNC110 - it is behind a socket
            await asyncio.sleep(0.01)
        with there.stranger() as late:
            assert await closed(late) == b""
        assert await asyncio.gather(*answers) == ["slow"] * 3


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("says", [b"", b"GET /quick HTTP/1.1\r\nHost: x\r\n"], ids=["nothing", "half a request"])
async def test_whoever_does_not_ask_in_time_is_shown_out(says: bytes) -> None:
    async with house() as there:
        with there.stranger(says) as opened:
            assert await closed(opened) == b""
        assert there.door._guests == {}


@pytest.mark.usefixtures("hurried")
async def test_an_answer_may_take_longer_than_a_question() -> None:
    async with house() as there:
        assert await get(there, "slow") == "slow"


@pytest.mark.usefixtures("hurried")
async def test_a_connection_that_has_been_of_use_stays_open_for_the_next_request() -> None:
    async with house() as there:
        with there.stranger(REQUEST) as opened:
            loop = asyncio.get_running_loop()
            assert b"quick" in await loop.sock_recv(opened, 65536)
            await asyncio.sleep(1.0)
            await loop.sock_sendall(opened, REQUEST)
            assert b"quick" in await loop.sock_recv(opened, 65536)
            await loop.sock_sendall(opened, REQUEST[:20])
            assert await closed(opened) == b""


async def test_bodies_go_through_whole() -> None:
    async with house() as there, ClientSession() as client:
        body = bytes(range(256)) * 3000
        async with client.post(there.url("echo"), data=body) as answer:
            assert await answer.read() == body


@pytest.mark.parametrize(
    ("limit", "most"), [(1024, 512), (256, 128), (20, 64), (1_000_000, 4096), (resource.RLIM_INFINITY, 4096)]
)
def test_half_of_the_descriptors_are_left_for_servers(monkeypatch: pytest.MonkeyPatch, limit: int, most: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (limit, limit))
    assert connection_limit() == most
