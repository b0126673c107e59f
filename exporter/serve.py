"""Runs an aiohttp application until SIGTERM or SIGINT."""

import asyncio
import logging
import signal
from collections.abc import Callable

from aiohttp import web

from exporter import __version__
from exporter.flags import Address
from exporter.guard import Guard
from exporter.log import event
from exporter.webconfig import WebConfig
from exporter.yamlfile import ConfigError

SHUTDOWN_SECONDS = 5.0
"""How long requests in flight may take to end after SIGTERM."""

_log = logging.getLogger(__name__)


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
        guard = Guard(web_config)
        guard.protect(app)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        try:
            tls = guard.ssl_context() if guard else None
            await web.TCPSite(runner, address.host, address.port, ssl_context=tls).start()
        except OSError as error:
            raise ConfigError(
                f"--web.listen-address: expected an address to listen on, found: {error.strerror}"
            ) from None
        event(
            _log,
            logging.INFO,
            "listening",
            program=program,
            version=__version__,
            addresses=[f"{host}:{port}" for host, port, *_ in runner.addresses],
            tls=tls is not None,
        )
        await stop.wait()
        event(_log, logging.INFO, "stopping", program=program)
    finally:
        await runner.cleanup()
