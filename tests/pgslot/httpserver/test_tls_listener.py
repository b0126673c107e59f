"""How many TLS handshakes may be in flight, and for how long."""

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
import requests

from pgslot.httpserver import deadlines
from pgslot.httpserver.tls_listener import MIN_HANDSHAKES, TlsListener
from tests.support.servers.processes import free_port, wait_for
from tests.support.servers.programs import Program
from tests.support.web_configs import Files, client, descriptors, folder, get, serving


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return folder(tmp_path)


@pytest.mark.servers
def test_connections_without_a_handshake_do_not_use_up_descriptors(files: Files) -> None:
    """600 silent connections, 256 descriptors: a real client is answered, and no error is logged."""
    config = files.folder / "pgslot.yml"
    config.write_text("clusters: {c: {nodes: {n: {conninfo: host=127.0.0.1 port=1}}}}\n")
    program = Program("pg-slot-exporter", config, files.folder)
    program.process.arguments[:0] = ["bash", "-c", 'ulimit -n 256; exec "$0" "$@"']
    program.process.arguments.append(f"--web.config.file={files.write(files.tls())}")
    ready = f"https://localhost:{program.port}/-/ready"

    def answers() -> bool:
        try:
            return requests.get(ready, verify=str(files.folder / "ca.crt"), timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    program.process.start()
    try:
        wait_for(answers, "it is ready", log=program.process.log)
        with ExitStack() as silent:
            for _ in range(600):
                silent.enter_context(socket.create_connection(("127.0.0.1", program.port), timeout=5))
            assert answers()
            assert descriptors(program.process.pid) < 128
    finally:
        program.stop()
    assert [line for line in program.log_events() if line["level"] == "error"] == []


@asynccontextmanager
async def listening(files: Files, port: int) -> AsyncIterator[TlsListener]:
    """Listen for TLS, with room for MIN_HANDSHAKES."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.folder / "server.crt", files.folder / "server.key")
    listener = TlsListener(asyncio.Protocol, context, max_handshakes=0)
    await listener.listen("127.0.0.1", port, 200)
    try:
        yield listener
    finally:
        await listener.close()


async def test_oldest_handshake_is_cancelled_at_the_limit_and_established_connections_stay(files: Files) -> None:
    port = free_port()
    async with listening(files, port) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client(files.ours))
        waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(MIN_HANDSHAKES + 1)]
        async with asyncio.timeout(5):
            assert await waiting[0][0].read() == b""
        for silent, _ in waiting[1:]:
            assert not silent.at_eof()
        assert not reader.at_eof()
        for _, opened in [*waiting, (reader, writer)]:
            opened.close()
        async with asyncio.timeout(5):
            while listener.handshakes:  # noqa: ASYNC110 - it is behind a socket
                await asyncio.sleep(0.01)


async def test_connections_waiting_in_the_backlog_do_not_exceed_the_limit(files: Files) -> None:
    """Accepting all of them without a break would take their descriptors before the first one is closed."""
    port = free_port()
    peak = 0
    async with listening(files, port):
        with ExitStack() as crowd:
            waiting = [crowd.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(150)]
            before = descriptors("self")
            for _ in range(3000):
                await asyncio.sleep(0)
                peak = max(peak, descriptors("self") - before)
            waiting[0].settimeout(5)
            assert waiting[0].recv(1) == b""
    assert MIN_HANDSHAKES <= peak < 2 * MIN_HANDSHAKES


async def test_missing_address_family_is_skipped_if_another_one_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """As without IPv6 in many containers."""
    create = socket.create_server
    missing = {socket.AF_INET6}

    def without(address: tuple[str, int], *, family: int, backlog: int) -> socket.socket:
        if family in missing:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return create(address, family=family, backlog=backlog)

    monkeypatch.setattr(socket, "create_server", without)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    listener = TlsListener(asyncio.Protocol, context, max_handshakes=0)
    port = free_port()
    try:
        assert await listener.listen(None, port, 1) == [("0.0.0.0", port)]
        with pytest.raises(OSError, match="in use"):
            await TlsListener(asyncio.Protocol, context, max_handshakes=0).listen("127.0.0.1", port, 1)
        missing.add(socket.AF_INET)
        with pytest.raises(OSError, match="not supported"):
            await TlsListener(asyncio.Protocol, context, max_handshakes=0).listen(None, port, 1)
    finally:
        await listener.close()


async def test_slow_handshake_and_plain_http_are_closed_without_an_error_in_the_log(
    files: Files, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(deadlines, "HANDSHAKE_SECONDS", 0.3)
    async with serving(files.write(files.tls())) as port:
        for sent in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(sent)
            async with asyncio.timeout(5):
                assert b"hello" not in await reader.read()
            writer.close()
        assert (await get(port, client(files.ours)))[1] == "hello"
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []
