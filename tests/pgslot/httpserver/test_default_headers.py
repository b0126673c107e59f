"""Headers that keep a browser from doing with a page what the page does not need."""

from pathlib import Path

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from pgslot.httpserver import default_headers
from pgslot.httpserver.middleware import WebConfigMiddleware
from pgslot.httpserver.web_config import load
from tests.support.web_configs import folder


async def page(_request: web.Request) -> web.Response:
    return web.Response(text="<!doctype html>", content_type="text/html")


async def text(_request: web.Request) -> web.Response:
    return web.Response(text="up 1", headers={"Cache-Control": "max-age=60"})


def application() -> web.Application:
    app = web.Application()
    app.router.add_get("/page", page)
    app.router.add_get("/text", text)
    default_headers.install(app, "program")
    return app


async def test_page_runs_nothing_and_is_framed_by_nobody() -> None:
    async with TestClient(TestServer(application())) as client:
        headers = (await client.get("/page")).headers
    policy = headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'unsafe-inline';")
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Frame-Options"] == "deny"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Server"] == "program"


async def test_application_and_web_configuration_override_the_defaults(tmp_path: Path) -> None:
    path = folder(tmp_path).write({"http_server_config": {"headers": {"X-Frame-Options": "sameorigin"}}})
    app = application()
    WebConfigMiddleware(load(path)).install(app)
    async with TestClient(TestServer(app)) as client:
        assert (await client.get("/page")).headers["X-Frame-Options"] == "sameorigin"
        answer = await client.get("/text")
    assert answer.headers["Cache-Control"] == "max-age=60"
    assert "Content-Security-Policy" not in answer.headers


async def test_unknown_path_is_answered_with_the_headers_too() -> None:
    async with TestClient(TestServer(application())) as client:
        answer = await client.get("/nowhere")
    assert (answer.status, answer.headers["X-Content-Type-Options"]) == (404, "nosniff")
