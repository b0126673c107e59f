"""Runs an aiohttp application until SIGTERM or SIGINT."""

import asyncio
import contextlib
import signal
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

from aiohttp import web

from pgslot.cli.errors import ConfigError
from pgslot.cli.flags import Address
from pgslot.cli.logging import get_logger
from pgslot.httpserver import deadlines, default_headers, malformed_requests
from pgslot.httpserver.connection_limit import ConnectionLimiter, LimitedConnection, protocol_factory
from pgslot.httpserver.middleware import WebConfigMiddleware
from pgslot.httpserver.tls_listener import TlsListener
from pgslot.httpserver.web_config import WebConfig
from pgslot.task_supervisor import TaskSupervisor

BACKLOG = 128
"""Connections that the kernel holds until they are accepted."""
HANDSHAKE_SHARE = 4
"""One in so many of the allowed connections may be in its TLS handshake."""

log = get_logger(__name__)


async def serve(
    app: web.Application,
    address: Address,
    *,
    program: str,
    version: str,
    reload: Callable[[], object],
    web_config: WebConfig | None = None,
) -> None:
    """
    Serve until a signal asks to stop; SIGHUP calls `reload`. `web_config` None: plain HTTP, open to all clients.

    Raises ConfigError if it cannot listen.
    """
    malformed_requests.install()
    default_headers.install(app, program)
    tls = None
    if web_config is not None:
        middleware = WebConfigMiddleware(web_config)
        middleware.install(app)
        tls = middleware.ssl_context()
    limiter = ConnectionLimiter(app)
    stop = _stop_on_signal(reload)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=deadlines.SHUTDOWN_SECONDS)
    await runner.setup()
    assert runner.server is not None  # noqa: S101 - setup() has made it
    background = TaskSupervisor()
    background.start(limiter.sweep(), "closing idle connections")
    try:
        factory = protocol_factory(limiter, runner.server)
        listening = _listen(address, factory) if tls is None else _listen_tls(address, factory, tls, limiter.limit)
        async with listening as names:
            addresses = ["{}:{}".format(*name[:2]) for name in names]
            log.info("listening", program=program, version=version, addresses=addresses, tls=tls is not None)
            await stop.wait()
            _ignore_further_signals()
            log.info("stopping", program=program)
    finally:
        await background.close()
        await runner.cleanup()


def _stop_on_signal(reload: Callable[[], object]) -> asyncio.Event:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    return stop


def _ignore_further_signals() -> None:
    """Ignore SIGTERM, SIGINT and SIGHUP until the end: once the loop has closed, they would kill the process."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.remove_signal_handler(number)
        signal.signal(number, signal.SIG_IGN)


@contextlib.asynccontextmanager
async def _listen(address: Address, factory: Callable[[], LimitedConnection]) -> AsyncIterator[list[Any]]:
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(factory, address.host, address.port, backlog=BACKLOG, reuse_address=True)
    except OSError as error:
        raise _cannot_listen(error) from None
    try:
        yield [opened.getsockname() for opened in server.sockets]
    finally:
        server.close()


@contextlib.asynccontextmanager
async def _listen_tls(
    address: Address, factory: Callable[[], LimitedConnection], context: ssl.SSLContext, max_connections: int
) -> AsyncIterator[list[Any]]:
    listener = TlsListener(factory, context, max_connections // HANDSHAKE_SHARE)
    try:
        try:
            names = await listener.listen(address.host, address.port, BACKLOG)
        except OSError as error:
            raise _cannot_listen(error) from None
        yield names
    finally:
        await listener.close()


def _cannot_listen(error: OSError) -> ConfigError:
    return ConfigError(f"--web.listen-address: expected an address to listen on, found: {error.strerror}")
