"""The HTTP client: its deadline and size limit, the credentials that it sends, and that errors show none of them."""

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer

from pgslot.httpclient import HttpClient, HttpError, UnexpectedResponseError
from tests.support.servers.processes import free_port

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
LIMITS: dict[str, Any] = {"timeout": 5.0, "max_body_bytes": 1000}


@asynccontextmanager
async def served(handler: Handler) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


async def echo(request: web.Request) -> web.StreamResponse:
    return web.json_response(
        {
            "method": request.method,
            "path": request.path_qs,
            "authorization": request.headers.get("Authorization"),
            "type": request.headers.get("Content-Type"),
            "body": (await request.read()).decode(),
        }
    )


def with_user(url: str) -> str:
    return url.replace("http://", "http://ann%40x:p%3Aw@")


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


async def test_get_json_sends_parameters_to_a_path_below_the_base_url() -> None:
    async with served(echo) as url, HttpClient(f"{url}/base/", **LIMITS) as client:
        answer = await client.get_json("/api", {"query": "a b&c"})
    assert (answer["method"], answer["path"], answer["authorization"]) == ("GET", "/base/api?query=a+b%26c", None)


async def test_user_and_password_of_the_url_are_sent_as_basic_authentication() -> None:
    async with served(echo) as url, HttpClient(with_user(url), **LIMITS) as client:
        assert client.has_credentials
        assert (await client.get_json("/"))["authorization"] == basic("ann@x", "p:w")


async def test_user_and_password_are_sent_as_utf_8() -> None:
    """As Prometheus and curl send them."""
    async with served(echo) as url, HttpClient(url.replace("//", "//j%C3%B6rg:%E2%82%AC@"), **LIMITS) as client:
        assert (await client.get_json("/"))["authorization"] == basic("j\u00f6rg", "\u20ac")


async def test_a_token_or_no_credentials_are_sent_instead_of_user_and_password() -> None:
    async with served(echo) as url, HttpClient(with_user(url), **LIMITS) as client:
        posted = (await client.request("POST", "/alerts", body='{"a": 1}', token="Äß")).json()
        assert posted["authorization"].encode("utf-8", "surrogateescape") == "Bearer Äß".encode()
        assert (posted["type"], posted["body"]) == ("application/json", '{"a": 1}')
        assert (await client.request("POST", "/", body="", anonymous=True)).json()["authorization"] is None


async def test_netrc_and_proxies_are_used_only_if_the_environment_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login bob password secret\nmachine far login eve password x\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with served(echo) as url:
        async with HttpClient(url, **LIMITS) as client:
            assert (await client.get_json("/"))["authorization"] is None
        async with HttpClient(url, **LIMITS, trust_env=True) as client:
            assert (await client.get_json("/"))["authorization"] == basic("bob", "secret")
            assert (await client.request("GET", "/", anonymous=True)).json()["authorization"] is None
            assert (await client.request("GET", "/", token="t")).json()["authorization"] == "Bearer t"
        async with HttpClient(with_user(url), **LIMITS, trust_env=True) as client:
            assert (await client.get_json("/"))["authorization"] == basic("ann@x", "p:w")


async def test_a_proxy_of_the_environment_receives_the_request_and_its_own_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def proxy(request: web.Request) -> web.StreamResponse:
        credentials = request.headers.get("Proxy-Authorization")
        return web.json_response([request.headers["Host"], credentials, request.headers.get("Authorization")])

    async with served(proxy) as url:
        monkeypatch.setenv("http_proxy", with_user(url))
        async with HttpClient("http://a:b@prometheus.invalid:9090", **LIMITS, trust_env=True) as client:
            assert await client.get_json("/") == ["prometheus.invalid:9090", basic("ann@x", "p:w"), basic("a", "b")]
        monkeypatch.setenv("no_proxy", "prometheus.invalid")
        async with HttpClient("http://prometheus.invalid:9090", **LIMITS, trust_env=True) as client:
            with pytest.raises(HttpError, match=r"prometheus\.invalid"):
                await client.get_json("/")


async def test_redirects_are_followed_if_allowed_and_carry_credentials_to_no_other_server() -> None:
    async with served(echo) as other:

        async def redirect(_: web.Request) -> web.StreamResponse:
            raise web.HTTPFound(f"{other}/there")

        async with served(redirect) as url, HttpClient(with_user(url), **LIMITS) as client:
            answer = await client.get_json("/")
            assert (answer["path"], answer["authorization"]) == ("/there", None)
            assert (await client.request("GET", "/", allow_redirects=False)).status == 302
            with pytest.raises(UnexpectedResponseError, match="expected 200, found 302"):
                await client.get_json("/", allow_redirects=False)


async def test_a_deadline_covers_an_answer_that_trickles_in() -> None:
    async def trickle(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(100):
            await response.write(b" ")
            await asyncio.sleep(0.1)
        return response

    async with served(trickle) as url, HttpClient(url, timeout=1.0, max_body_bytes=1000) as client:
        with pytest.raises(HttpError, match=r"^no answer in 1 s$"):
            await client.get_json("/")


async def test_an_answer_over_the_limit_is_refused_and_an_error_page_is_cut_off() -> None:
    async def large(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b" " * 1001, status=int(request.path.strip("/")))

    async with served(large) as url, HttpClient(url, **LIMITS) as client:
        with pytest.raises(UnexpectedResponseError, match="expected at most 1000 bytes, found more"):
            await client.request("GET", "/200")
        assert len((await client.request("GET", "/503")).body) == 1000


@pytest.mark.parametrize("body", ["<html>", "[" * 900], ids=["html", "cut off"])
async def test_an_answer_that_is_not_json_is_unexpected(body: str) -> None:
    async def answer(_: web.Request) -> web.StreamResponse:
        return web.Response(text=body)

    async with served(answer) as url, HttpClient(url, **LIMITS) as client:
        with pytest.raises(UnexpectedResponseError):
            await client.get_json("/")


async def test_no_error_shows_the_password() -> None:
    async with HttpClient(f"http://ann:hidden@127.0.0.1:{free_port()}", **LIMITS) as client:
        with pytest.raises(HttpError, match="Cannot connect") as caught:
            await client.get_json("/")
    assert "hidden" not in str(caught.value) + repr(caught.value.__cause__)


async def test_a_certificate_is_verified_against_the_given_authorities() -> None:
    authority = trustme.CA()
    server_side = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server_side)
    client_side = ssl.create_default_context()
    authority.configure_trust(client_side)
    app = web.Application()
    app.router.add_get("/", echo)
    server = TestServer(app, scheme="https")
    await server.start_server(ssl=server_side)
    try:
        url = f"https://127.0.0.1:{server.port}"
        async with HttpClient(url, **LIMITS, tls=client_side) as client:
            assert (await client.get_json("/"))["method"] == "GET"
        async with HttpClient(url, **LIMITS) as client:
            with pytest.raises(HttpError, match="certificate verify failed"):
                await client.get_json("/")
    finally:
        await server.close()
