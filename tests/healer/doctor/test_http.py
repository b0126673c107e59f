"""How the doctor uses HTTP: deadlines, errors in a few words, credentials, and certificate authorities."""

import contextlib
import re
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer

from healer.doctor import http
from healer.doctor.checks.healer import EMPTY_WEBHOOK
from healer.doctor.http import Client, check_url, describe
from pgslot.cli.errors import ConfigError
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, HealerConfig, HealerSettings, Node
from pgslot.httpclient import HttpError
from tests.support.running_healer import Healer, healing
from tests.support.servers.processes import free_port

NOWHERE = Conninfo("host=127.0.0.1 port=1 user=x")
CLUSTER = Cluster("c", (Node("c", "n", NOWHERE),), HealerConfig(NOWHERE, enabled=True, dry_run=False))


@contextmanager
def listening(answer: bytes = b"", pause: float = 0.0, *, hang_up: bool = False) -> Iterator[str]:
    """Answer a connection with these bytes, with a pause after each; then keep it open, or hang up for the next one."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while not over.is_set():
                    answer_one()

        def answer_one() -> None:
            connection, _ = listener.accept()
            with connection:
                if hang_up:
                    connection.recv(1000)
                for byte in answer:
                    if over.is_set():
                        return
                    connection.sendall(bytes([byte]))
                    over.wait(pause)
                if not hang_up:
                    over.wait()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        over.set()
        # This ends accept().
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


async def failure(url: str) -> str:
    """Return why a request to this URL failed."""
    async with Client(url) as client:
        with pytest.raises(HttpError) as caught:
            await client.request("GET", "/")
    assert "s3cr3t" not in f"{caught.value}"
    return describe(caught.value)


async def test_server_that_does_not_answer_is_given_up_after_the_read_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "READ_TIMEOUT_SECONDS", 0.6)
    with listening() as url:
        assert await failure(url) == "no answer within 1 s"


async def test_answer_that_trickles_in_is_given_up_after_the_total_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TOTAL_TIMEOUT_SECONDS", 0.6)
    drip = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + 1000 * b"x"
    with listening(drip, pause=0.02) as url:
        assert await failure(url) == "no whole answer within 1 s"


async def test_connection_that_does_not_stand_is_given_up_after_the_connect_timeout(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A TLS handshake that is never answered counts."""
    monkeypatch.setattr(http, "CONNECT_TIMEOUT_SECONDS", 0.6)
    with listening() as url:
        assert await failure(url.replace("http:", "https:")) == "no connection within 1 s"


async def test_name_server_that_hangs_is_given_up_after_the_total_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TOTAL_TIMEOUT_SECONDS", 0.6)
    monkeypatch.setattr(http, "CONNECT_TIMEOUT_SECONDS", 0.1)
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(10) and [])
    try:
        assert await failure("http://hangs.invalid") == "no whole answer within 1 s"
    finally:
        answered.set()


async def test_error_is_in_the_operating_systems_words(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    assert await failure(f"http://user:s3cr3t@127.0.0.1:{port}") == "Connection refused"

    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    with monkeypatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", fail)
        assert await failure("http://user:s3cr3t@unknown.invalid") == "Name or service not known"


async def test_one_of_several_addresses_errors_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last, if they differ: asyncio has all of them in one text."""
    addresses = [(socket.AF_INET, 1, 6, "", (address, 0)) for address in ("127.0.0.1", "127.0.0.2")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
    assert await failure(f"http://several.invalid:{free_port()}") == "Connection refused"
    texts = "[Errno 101] Connect call failed ('::1', 9, 0, 0), [Errno 111] Connect call failed ('127.0.0.1', 9)"
    error = HttpError("no connection")
    error.__cause__ = OSError(f"Multiple exceptions: {texts}")
    assert describe(error) == "Connection refused"


async def test_error_of_tls_begins_so() -> None:
    with listening(b"no TLS here\r\n") as url:
        assert (await failure(url.replace("http:", "https:"))).startswith("TLS: ")


@pytest.mark.parametrize(
    ("answer", "word"),
    [(b"", "ConnectionError"), (b"garbage\r\n\r\n", "ConnectionError")],
    ids=["nothing", "not HTTP"],
)
async def test_error_of_http_is_a_word(answer: bytes, word: str) -> None:
    with listening(answer, hang_up=True) as url:
        assert await failure(url) == word


async def test_answer_that_is_cut_off_is_not_used() -> None:
    with listening(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nx", hang_up=True) as url:
        assert await failure(url) == "ChunkedEncodingError"


async def echo(request: web.Request) -> web.StreamResponse:
    return web.json_response([request.method, request.path, request.headers.get("Authorization", "")])


@asynccontextmanager
async def served(tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    async def redirect(_: web.Request) -> web.StreamResponse:
        raise web.HTTPFound("/elsewhere")

    app = web.Application()
    app.router.add_route("*", "/redirect", redirect)
    app.router.add_route("*", "/{path:.*}", echo)
    server = TestServer(app, scheme="https" if tls else "http")
    await server.start_server(ssl=tls)
    try:
        yield f"{server.scheme}://127.0.0.1:{server.port}"
    finally:
        await server.close()


async def test_netrc_replaces_neither_a_token_nor_no_credentials(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login netrc password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with served() as url, Client(url) as client:
        assert (await client.request("POST", "/alerts", body="{}", token="right")).json()[2] == "Bearer right"
        assert (await client.request("POST", "/alerts", body="{}", anonymous=True)).json()[2] == ""
        assert (await client.get_json("/metrics"))[2].startswith("Basic ")


async def test_redirect_is_followed_by_get_only_if_allowed() -> None:
    async with served() as url, Client(url) as client:
        assert (await client.get_json("/redirect"))[:2] == ["GET", "/elsewhere"]
        answer = await client.request("POST", "/redirect", body="{}", allow_redirects=False)
        assert answer.status == 302


@pytest.mark.parametrize("no_proxy", ["127.0.0.1", "10.0.0.0/8, 127.0.0.0/8"])
async def test_no_proxy_may_be_an_address_or_a_network(monkeypatch: pytest.MonkeyPatch, no_proxy: str) -> None:
    for variable in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    async with served() as url:
        assert await failure(url) == "Connection refused"
        monkeypatch.setenv("no_proxy", no_proxy)
        async with Client(url) as client:
            assert (await client.get_json("/"))[0] == "GET"


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
async def test_certificate_authority_is_taken_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(variable, raising=False)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    async with served(server_side) as url:
        assert re.match("TLS: .*certificate verify failed", await failure(url))
        monkeypatch.setenv(name, str(tmp_path / "ca.pem"))
        async with Client(url) as client:
            assert (await client.get_json("/"))[0] == "GET"


def test_certificate_authority_that_cannot_be_read_is_bad_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match=r"^REQUESTS_CA_BUNDLE: cannot read .*none\.pem: No such file or directory$"):
        Client("https://h")
    assert Client("http://h").shown == "http://h"


async def test_token_beyond_latin_1_is_sent_as_alertmanager_sends_it(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("schlüssel-€", "utf-8")
    settings = HealerSettings(webhook_token_file=tmp_path / "token")
    async with healing(CLUSTER, settings=settings) as healer:
        assert await posted(healer, token="schlüssel-€") == 200
        assert await posted(healer, token="schlüssel-$") == 401


async def test_empty_webhook_does_not_count_as_alertmanagers() -> None:
    async with healing(CLUSTER) as healer:
        before = await healer.value("pgslot_heal_last_webhook_timestamp_seconds")
        assert await posted(healer) == 200
        assert await healer.value("pgslot_heal_last_webhook_timestamp_seconds") == before
        assert await healer.value("pgslot_heal_webhooks_total", code="200") == 1


async def posted(healer: Healer, token: str | None = None) -> int:
    async with Client(str(healer.client.make_url(""))) as client:
        return (await client.request("POST", "/alerts", body=EMPTY_WEBHOOK, token=token)).status


@pytest.mark.parametrize("url", ["", "h:1", "ftp://h", "http://", "http://h:x", "http://[", "http://u:s3cr3t@"])
def test_text_that_is_not_an_http_url_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"--healer\.url: expected an http or https URL") as refused:
        check_url("--healer.url", url)
    assert "s3cr3t" not in str(refused.value)
