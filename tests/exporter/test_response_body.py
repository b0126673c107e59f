"""The body of a page arrives unchanged, chunked or compressed."""

import zlib

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from exporter.response_body import CHUNK_BYTES, ChunkedBody, chunks, gzipped

SMALL = [b"# HELP a\n", 'a{b="andr\u00e9"} 1\n'.encode(), b""]
LARGE = [f'a{{b="andr\u00e9 {number}"}} {number}\n'.encode() * (number * 100) for number in range(200)]


@pytest.mark.parametrize("pieces", [SMALL, LARGE, [b"x" * CHUNK_BYTES * 3], []])
async def test_page_of_any_size_arrives_with_its_length(pieces: list[bytes]) -> None:
    async def page(_: web.Request) -> web.Response:
        return web.Response(body=ChunkedBody(pieces), headers={"Content-Type": "text/plain; version=0.0.4"})

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


def test_large_page_is_sent_in_several_chunks_and_small_page_in_one() -> None:
    assert list(chunks(SMALL)) == [b"".join(SMALL)]
    sent = list(chunks(LARGE))
    assert b"".join(sent) == b"".join(LARGE)
    assert len(sent) > 1
    assert all(len(chunk) >= CHUNK_BYTES for chunk in sent[:-1])


@pytest.mark.parametrize("pieces", [SMALL, LARGE, []])
def test_compressed_page_unpacks_to_the_same_page(pieces: list[bytes]) -> None:
    assert zlib.decompress(gzipped(pieces), zlib.MAX_WBITS | 16) == b"".join(pieces)
