"""Connections that want TLS, or only seem to: they are bounded from their first moment on."""

import asyncio
import errno
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import pytest
import requests

from pgslot.httpserver import tls_listener
from tests.healer.episodes.test_lifecycle import write
from tests.support.servers.processes import free_port, wait_for
from tests.support.servers.programs import Program
from tests.support.web_configs import Files, client, folder, get, serving


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return folder(tmp_path)


def test_strangers_who_begin_no_handshake_do_not_use_up_its_descriptors(files: Files) -> None:
    """Six hundred of them, and 256 descriptors: whoever means it is answered, and the log is quiet."""
    write(files.folder / "pgslot.yml", enabled=True)
    program = Program("pg-slot-healer", files.folder / "pgslot.yml", files.folder)
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
        with ExitStack() as held:
            for _ in range(600):
                held.enter_context(socket.create_connection(("127.0.0.1", program.port), timeout=5))
            assert answers()
            assert descriptors(program.process.pid) < 128
    finally:
        program.stop()
    assert [line for line in program.log_events() if line["level"] == "error"] == []


@asynccontextmanager
async def narrow(files: Files, port: int) -> AsyncIterator[tls_listener.TlsListener]:
    """Listen for TLS, with room for the fewest."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.folder / "server.crt", files.folder / "server.key")
    entrance = tls_listener.TlsListener(asyncio.Protocol, context, most=0)
    await entrance.listen("127.0.0.1", port, 200)
    try:
        yield entrance
    finally:
        await entrance.close()


def descriptors(pid: int | str) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def test_the_oldest_makes_room_and_whoever_is_in_stays(files: Files) -> None:
    port = free_port()
    async with narrow(files, port) as entrance:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client(files.ours))
        waiting = [await asyncio.open_connection("127.0.0.1", port) for _ in range(tls_listener.MIN_HANDSHAKES + 1)]
        async with asyncio.timeout(5):
            assert await waiting[0][0].read() == b""
        for silent, _ in waiting[1:]:
            assert not silent.at_eof()
        assert not reader.at_eof()
        for _, each in [*waiting, (reader, writer)]:
            each.close()
        # Theirs end with them.
        while entrance._under_way:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_a_crowd_that_is_there_already_makes_room_as_it_comes(files: Files) -> None:
    """All of them wait in the backlog: letting them in without a break took all descriptors before any was closed."""
    port = free_port()
    most = 0
    async with narrow(files, port):
        with ExitStack() as crowd:
            waiting = [crowd.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(150)]
            before = descriptors("self")
            for _ in range(3000):
                await asyncio.sleep(0)
                most = max(most, descriptors("self") - before)
            waiting[0].settimeout(5)
            assert waiting[0].recv(1) == b""
    assert tls_listener.MIN_HANDSHAKES <= most < 2 * tls_listener.MIN_HANDSHAKES


async def test_a_family_that_is_not_there_is_left_out_where_there_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """IPv6 in many containers."""
    create = socket.create_server
    missing = {socket.AF_INET6}

    def without(address: tuple[str, int], *, family: int, backlog: int) -> socket.socket:
        if family in missing:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return create(address, family=family, backlog=backlog)

    monkeypatch.setattr(socket, "create_server", without)
    entrance = tls_listener.TlsListener(asyncio.Protocol, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), most=0)
    port = free_port()
    try:
        assert await entrance.listen(None, port, 1) == [("0.0.0.0", port)]
        with pytest.raises(OSError, match="in use"):
            await tls_listener.TlsListener(asyncio.Protocol, entrance._context, most=0).listen("127.0.0.1", port, 1)
        missing.add(socket.AF_INET)
        with pytest.raises(OSError, match="not supported"):
            await tls_listener.TlsListener(asyncio.Protocol, entrance._context, most=0).listen(None, port, 1)
    finally:
        await entrance.close()


async def test_whoever_takes_too_long_or_speaks_no_tls_is_shown_out(
    files: Files, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tls_listener, "HANDSHAKE_TIMEOUT", 0.3)
    async with serving(files.write(files.tls())) as port:
        for said in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(said)
            async with asyncio.timeout(5):
                assert b"hello" not in await reader.read()
            writer.close()
        assert (await get(port, client(files.ours)))[1] == "hello"
    assert [record for record in caplog.records if record.levelname in ("ERROR", "CRITICAL")] == []
