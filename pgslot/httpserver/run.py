"""Runs an aiohttp application until SIGTERM or SIGINT."""

import asyncio
import signal
from collections.abc import Callable

from aiohttp import web

from pgslot import __version__
from pgslot.cli.errors import ConfigError
from pgslot.cli.flags import Address
from pgslot.cli.logging import get_logger
from pgslot.httpserver.connection_limit import ConnectionLimiter, protocol_factory
from pgslot.httpserver.middleware import WebConfigMiddleware
from pgslot.httpserver.tls_listener import TlsListener
from pgslot.httpserver.web_config import WebConfig

SHUTDOWN_SECONDS = 5.0
"""How long requests in flight may take to end after SIGTERM."""

BACKLOG = 128

log = get_logger(__name__)


async def serve(
    app: web.Application,
    address: Address,
    program: str,
    reload: Callable[[], object],
    web_config: WebConfig | None = None,
) -> None:
    """
    Serve until a signal asks to stop; SIGHUP calls `reload`. Without `web_config` everybody is served, in plain HTTP.

    Raises ConfigError if it cannot listen.
    """
    guard = None
    if web_config is not None:
        guard = WebConfigMiddleware(web_config)
        guard.install(app)
    door = ConnectionLimiter(app)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    assert runner.server is not None  # noqa: S101 - setup() has made it
    server: asyncio.Server | None = None
    handshakes: TlsListener | None = None
    watch = asyncio.create_task(door.sweep())
    try:
        try:
            tls = guard.ssl_context() if guard else None
            make = protocol_factory(door, runner.server)
            if tls is None:
                server = await loop.create_server(make, address.host, address.port, backlog=BACKLOG, reuse_address=True)
                listening = [each.getsockname() for each in server.sockets]
            else:
                handshakes = TlsListener(make, tls, door.limit // 4)
                listening = await handshakes.listen(address.host, address.port, BACKLOG)
        except OSError as error:
            raise ConfigError(
                f"--web.listen-address: expected an address to listen on, found: {error.strerror}"
            ) from None
        log.info(
            "listening",
            program=program,
            version=__version__,
            addresses=["{}:{}".format(*name[:2]) for name in listening],
            tls=tls is not None,
        )
        await stop.wait()
        log.info("stopping", program=program)
    finally:
        watch.cancel()
        if server is not None:
            server.close()
        if handshakes is not None:
            await handshakes.close()
        await runner.cleanup()
