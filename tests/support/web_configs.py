"""Web configurations with real certificates, and the exporter's server run on them."""

import asyncio
import base64
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import bcrypt
import trustme
import yaml
from aiohttp import web

from pgslot.cli.flags import Address
from pgslot.httpserver import web_config
from pgslot.httpserver.run import serve
from tests.support.servers.processes import free_port


def hashed(password: str) -> str:
    # Always with the same salt: a test's name may have the hash in it, and is the same in each worker then.
    return bcrypt.hashpw(password.encode(), b"$2b$04$abcdefghijklmnopqrstuu").decode()


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@dataclass
class Files:
    """A folder with a web configuration, and the authorities its certificates are from."""

    folder: Path
    ours: trustme.CA
    other: trustme.CA

    def issue(self, authority: trustme.CA, name: str, *identities: str) -> Path:
        leaf = authority.issue_cert(*identities)
        leaf.private_key_pem.write_to_path(str(self.folder / f"{name}.key"))
        path = self.folder / f"{name}.crt"
        path.write_bytes(b"".join(pem.bytes() for pem in leaf.cert_chain_pems))
        return path

    def write(self, config: dict[str, Any]) -> Path:
        path = self.folder / "web.yml"
        path.write_text(yaml.safe_dump(config, allow_unicode=True))
        return path

    def tls(self, **more: Any) -> dict[str, Any]:
        return {"tls_server_config": {"cert_file": "server.crt", "key_file": "server.key", **more}}


def folder(path: Path) -> Files:
    """Fill a folder with a server's certificate and its authority's."""
    result = Files(path, trustme.CA(), trustme.CA())
    result.issue(result.ours, "server", "localhost", "127.0.0.1")
    result.ours.cert_pem.write_to_path(str(path / "ca.crt"))
    return result


async def hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


@asynccontextmanager
async def serving(path: Path) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_get("/", hello)
    port = free_port()
    task = asyncio.create_task(serve(app, Address("127.0.0.1", port), "test", lambda: None, web_config.load(path)))
    try:
        async with asyncio.timeout(10):
            while not task.done():
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                await asyncio.sleep(0.01)
        assert not task.done()
        yield port
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await goodbyes()


async def goodbyes() -> None:
    """TLS connections say goodbye after their owner has closed them; the loop must not end before."""
    loop: Any = asyncio.get_running_loop()
    async with asyncio.timeout(10):
        while any(transport._sock is not None for transport in list(loop._transports.values())):  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def get(
    port: int, tls: ssl.SSLContext | None = None, *, path: str = "/", headers: dict[str, str] | None = None
) -> tuple[int, str, dict[str, str]]:
    """Ask over a connection of its own."""
    scheme = "https" if tls else "http"
    async with aiohttp.ClientSession() as session:
        url = f"{scheme}://127.0.0.1:{port}{path}"
        async with session.get(url, ssl=tls or True, headers=headers) as answer:
            return answer.status, await answer.text(), dict(answer.headers)


def client(authority: trustme.CA, certificate: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if certificate:
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
    return context
