"""A page in pieces arrives as the same page in one."""

import zlib

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from exporter import sending

SMALL = ["# HELP a\n", 'a{b="andr\u00e9"} 1\n', ""]
LARGE = [f'a{{b="andr\u00e9 {number}"}} {number}\n' * (number * 100) for number in range(200)]


@pytest.mark.parametrize("pieces", [SMALL, LARGE, ["x" * sending.PIECE * 3]])
async def test_the_page_arrives_whatever_its_size(pieces: list[str]) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(body=sending.body(pieces), headers={"Content-Type": "text/plain; version=0.0.4"})

    app = web.Application()
    app.router.add_get("/", page)
    async with TestClient(TestServer(app)) as client:
        for _ in range(2):
            answer = await client.get("/")
            body = await answer.read()
            assert body == "".join(pieces).encode()
            assert answer.headers["Content-Length"] == str(len(body))
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4"
        head = await client.head("/")
        assert (head.headers["Content-Length"], await head.read()) == (str(len(body)), b"")


def test_a_large_page_is_sent_in_pieces_and_a_small_one_at_once() -> None:
    assert sending.body(SMALL) == "".join(SMALL).encode()
    assert not isinstance(sending.body(LARGE), bytes)


@pytest.mark.parametrize("pieces", [SMALL, LARGE, []])
def test_packed_it_is_the_same_page(pieces: list[str]) -> None:
    assert zlib.decompress(sending.gzipped(pieces), zlib.MAX_WBITS | 16) == "".join(pieces).encode()
