"""Web configurations with real certificates, and a server that runs with them."""

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
    # A constant salt: parametrized tests have the hash in their names, which must be the same in all workers.
    return bcrypt.hashpw(password.encode(), b"$2b$04$abcdefghijklmnopqrstuu").decode()


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


@dataclass
class Files:
    """A folder with a web configuration, the CA of its certificates, and another CA."""

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
    """Fill a folder with a server's certificate and that of its CA."""
    result = Files(path, trustme.CA(), trustme.CA())
    result.issue(result.ours, "server", "localhost", "127.0.0.1")
    result.ours.cert_pem.write_to_path(str(path / "ca.crt"))
    return result


async def hello(_request: web.Request) -> web.Response:
    return web.Response(text="hello")


@asynccontextmanager
async def serving(path: Path, app: web.Application | None = None) -> AsyncIterator[int]:
    """Serve the application, or "hello" at /, under this web configuration; return the port."""
    descriptors_before = descriptors("self")
    if app is None:
        app = web.Application()
        app.router.add_get("/", hello)
    port = free_port()
    address, config = Address("127.0.0.1", port), web_config.load(path)
    server = serve(app, address, program="test", version="0", reload=lambda: None, web_config=config)
    task = asyncio.create_task(server)
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
        # TLS connections close only after their owner has closed them; the loop must not end before that.
        async with asyncio.timeout(10):
            while descriptors("self") > descriptors_before:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


def descriptors(pid: int | str) -> int:
    """Return how many file descriptors a process has open."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


async def get(
    port: int, tls: ssl.SSLContext | None = None, *, path: str = "/", headers: dict[str, str] | None = None
) -> tuple[int, str, dict[str, str]]:
    """Send a request over a new connection; return status, text and headers of the answer."""
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
