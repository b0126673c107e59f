"""What anybody can send without a password writes no traceback into the log, and learns no versions."""

import asyncio
import logging
from pathlib import Path

import pytest

from pgslot.httpserver import malformed_requests
from tests.support.web_configs import folder, get, serving

MALFORMED = {
    "two lengths": b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "no HTTP": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\nHost: x\r\nX: \0\r\n\r\n",
    "long URL": b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "malformed second request": b"GET / HTTP/1.1\r\nHost: x\r\n\r\nBAD REQUEST\r\n\r\n",
}


async def send(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("level", [logging.INFO, logging.DEBUG])
async def test_malformed_request_writes_at_most_one_short_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, request_bytes: bytes, level: int
) -> None:
    path = folder(tmp_path).write({})
    async with serving(path) as port:
        caplog.set_level(level)
        caplog.clear()
        answer = await send(port, request_bytes)
        records = [record for record in caplog.records if record.name == "aiohttp.server"]
    assert b"HTTP/1.1 400 Bad Request" in answer or b"HTTP/1.0 400 Bad Request" in answer
    assert len(records) <= (level == logging.DEBUG)
    for record in records:
        assert record.exc_info is None
        assert len(record.getMessage()) + len(str(getattr(record, "fields", ""))) < 200
    assert b"aiohttp" not in answer


async def test_internal_error_keeps_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    malformed_requests.install()
    try:
        int("not a number")
    except ValueError:
        logging.getLogger("aiohttp.server").exception("Error handling request")
    assert [record.exc_info is not None for record in caplog.records] == [True]


async def test_server_header_names_no_versions(tmp_path: Path) -> None:
    path = folder(tmp_path).write({})
    async with serving(path) as port:
        headers = (await get(port))[2]
    assert headers["Server"] == "test"
