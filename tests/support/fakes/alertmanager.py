"""Alertmanager's API with canned answers, over a real socket."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from aiohttp.test_utils import TestServer


@asynccontextmanager
async def fake_alertmanager(alerts: str, uptime: str, date: str | None = None) -> AsyncIterator[str]:
    """Serve Alertmanager's API with these answers; yield its URL. `alerts`: JSON; `date`: a header, None: without."""
    headers = {} if date is None else {"Date": date}

    async def status(_: web.Request) -> web.Response:
        return web.json_response({"uptime": uptime, "cluster": {"status": "ready"}}, headers=headers)

    async def listed(_: web.Request) -> web.Response:
        return web.Response(text=alerts, content_type="application/json", headers=headers)

    app = web.Application()
    app.add_routes([web.get("/api/v2/status", status), web.get("/api/v2/alerts", listed)])
    async with TestServer(app) as server:
        yield f"http://127.0.0.1:{server.port}"
