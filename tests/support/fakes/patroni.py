"""Patroni's REST API with canned answers, over real sockets, and a configuration that names it."""

import json
import ssl
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiohttp import web
from aiohttp.test_utils import TestServer

from pgslot.patroni.answer import Member
from tests.support.servers.postgres import Postgres
from tests.support.servers.stack import Stack

A, B = Member("a", "10.0.0.1", 5432), Member("b", "10.0.0.2", 5433)
TWO = {"members": [{"name": "b", "host": "10.0.0.2", "port": 5433}, {"name": "a", "host": "10.0.0.1", "port": 5432}]}
SELF = {"database_system_identifier": "7712224370954780933", "patroni": {"scope": "orders"}}

SECTION = "clusters: {orders: {patroni: %s, conninfo: '%s', healer: {conninfo: '%s'}}}"


def written(folder: Path, patroni: str, conninfo: str = "user=eyes", healer: str = "user=hands") -> Path:
    file = folder / "pgslot.yml"
    file.write_text(SECTION % (patroni, conninfo, healer))
    return file


@dataclass
class Api:
    """A Patroni as a web server with canned answers."""

    cluster: Any = field(default_factory=lambda: TWO)
    itself: Any = field(default_factory=lambda: SELF)
    config: Any = field(default_factory=dict)
    """The dynamic configuration, the answer to /config."""
    answer: Callable[[], Awaitable[web.StreamResponse]] | None = None
    """Returns the answer to /cluster instead of `cluster`; None: it is not replaced."""
    asked: int = 0
    url: str = ""

    async def on_cluster(self, _request: web.Request) -> web.StreamResponse:
        self.asked += 1
        return web.json_response(self.cluster) if self.answer is None else await self.answer()

    async def on_config(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response(self.config)

    async def on_self(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response(self.itself)


@asynccontextmanager
async def apis(*which: Api, tls: ssl.SSLContext | None = None) -> AsyncIterator[list[str]]:
    async with AsyncExitStack() as stack:
        for api in which:
            app = web.Application()
            app.add_routes(
                [
                    web.get("/cluster", api.on_cluster),
                    web.get("/patroni", api.on_self),
                    web.get("/config", api.on_config),
                ]
            )
            server = TestServer(app, scheme="https" if tls else "http")
            await server.start_server(ssl=tls)
            stack.push_async_callback(server.close)
            api.url = str(server.make_url("")).rstrip("/")
        yield [api.url for api in which]


def real(databases: Stack) -> list[dict[str, Any]]:
    return [
        {"name": server.name, "host": "127.0.0.1", "port": server.port}
        for server in (databases.primary, databases.standby)
    ]


@contextmanager
def a_patroni(servers: Mapping[str, Postgres]) -> Iterator[str]:
    """Serve the API of a cluster with these members, by name, in a thread, within the context; yield its URL."""
    members = [{"name": name, "host": "127.0.0.1", "port": server.port} for name, server in servers.items()]

    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"members": members}).encode())

        def log_message(self, *_: object) -> None:
            """Suppress the request log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Api) as api:
        thread = threading.Thread(target=api.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{api.server_port}"
        finally:
            api.shutdown()
            thread.join()
