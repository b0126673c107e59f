"""A page in pieces arrives as the same page in one."""

import zlib

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from exporter import response_body

SMALL = [b"# HELP a\n", 'a{b="andr\u00e9"} 1\n'.encode(), b""]
LARGE = [f'a{{b="andr\u00e9 {number}"}} {number}\n'.encode() * (number * 100) for number in range(200)]


@pytest.mark.parametrize("pieces", [SMALL, LARGE, [b"x" * response_body.CHUNK_BYTES * 3]])
async def test_the_page_arrives_whatever_its_size(pieces: list[bytes]) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(
            body=response_body.response_body(pieces), headers={"Content-Type": "text/plain; version=0.0.4"}
        )

    app = web.Application()
    app.router.add_get("/", page)
    async with TestClient(TestServer(app)) as client:
        for _ in range(2):
            answer = await client.get("/")
            body = await answer.read()
            assert body == b"".join(pieces)
            assert answer.headers["Content-Length"] == str(len(body))
            assert answer.headers["Content-Type"] == "text/plain; version=0.0.4"
        head = await client.head("/")
        assert (head.headers["Content-Length"], await head.read()) == (str(len(body)), b"")


def test_a_large_page_is_sent_in_pieces_and_a_small_one_at_once() -> None:
    assert response_body.response_body(SMALL) == b"".join(SMALL)
    assert not isinstance(response_body.response_body(LARGE), bytes)


@pytest.mark.parametrize("pieces", [SMALL, LARGE, []])
def test_packed_it_is_the_same_page(pieces: list[bytes]) -> None:
    assert zlib.decompress(response_body.gzipped(pieces), zlib.MAX_WBITS | 16) == b"".join(pieces)
