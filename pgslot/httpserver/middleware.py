"""
Puts a web configuration into force around any aiohttp application: TLS, basic authentication, headers, rate limit.

As in exporter-toolkit, a change of the file, or of a certificate that it names, takes effect with the next connection
(TLS) or the next request (everything else), which checks the files' times. The error of a bad file is logged once, and
the last good configuration stays in force. Two changes need a restart: switching TLS on or off, and removing
authentication, so that a slip in an editor cannot open a server that was started closed.
"""

import ssl
from collections.abc import Callable
from pathlib import Path

from aiohttp import web
from aiohttp.typedefs import Handler

from pgslot.cli.errors import ConfigError
from pgslot.cli.logging import get_logger
from pgslot.httpserver.basic_auth import CHALLENGE, PasswordVerifier
from pgslot.httpserver.comparison_queue import QueueFullError
from pgslot.httpserver.rate_limit import TokenBucket
from pgslot.httpserver.web_config import WebConfig, load

RETRY_AFTER_SECONDS = "1"

log = get_logger(__name__)

_FileVersions = tuple[tuple[int, ...] | None, ...]


class WebConfigMiddleware:
    """The web configuration in force."""

    def __init__(self, config: WebConfig) -> None:
        self._initial = self._config = config
        self._context = config.ssl_context()
        self._versions: _FileVersions | None = None
        """The files' versions before they were read; None: read them at the next opportunity, changed or not."""
        self._error: str | None = None
        """Why the files, as they are now, are not in force; None: they are."""
        self._passwords = PasswordVerifier()
        self._bucket = TokenBucket()

    def install(self, app: web.Application) -> None:
        """Protect all paths of the application, unknown ones included; it must not have started."""
        app.middlewares.insert(0, self._admit)
        app.on_response_prepare.append(self._add_headers)

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return a context that uses, for each connection, the certificates in force by then; None: plain HTTP."""
        if self._context is None:
            return None
        context = _ReloadingContext(ssl.PROTOCOL_TLS_SERVER)
        context.current = self._current_context
        return context

    @web.middleware
    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._reload_if_changed()
        if not self._bucket.take(self._config.rate_limit):
            return web.Response(status=429, text="Too many requests.\n")
        users = self._config.users
        try:
            if users and not await self._passwords.verify(users, request):
                return web.Response(status=401, text="Unauthorized.\n", headers={"WWW-Authenticate": CHALLENGE})
        except QueueFullError:
            # Senders of webhooks try again after a 5xx, and not after a 429.
            status = 429 if request.method in ("GET", "HEAD") else 503
            text = "Too many passwords to check.\n"
            return web.Response(status=status, text=text, headers={"Retry-After": RETRY_AFTER_SECONDS})
        return await handler(request)

    async def _add_headers(self, _request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(self._config.headers)

    def _current_context(self) -> ssl.SSLContext:
        self._reload_if_changed()
        if self._context is None:
            raise AssertionError("a server with TLS lost it")
        return self._context

    def _reload_if_changed(self) -> None:
        versions = tuple(_file_version(file) for file in self._config.files)
        if versions == self._versions and self._error is None:
            return
        try:
            config = self._load()
        except ConfigError as error:
            if str(error) != self._error:
                self._error = str(error)
                log.error("web configuration is bad, the old one stays in force", error=self._error)
            return
        self._versions = versions if config.files == self._config.files else None
        self._error = None
        if config != self._config:
            self._config, self._context = config, config.ssl_context()
            log.info("web configuration reloaded")

    def _load(self) -> WebConfig:
        config = load(self._initial.path)
        if (config.tls is None) != (self._initial.tls is None):
            raise ConfigError(f"{config.path}: expected tls_server_config to come or go by a restart, found a change")
        if self._initial.authenticates and not config.authenticates:
            raise ConfigError(
                f"{config.path}: expected basic_auth_users or RequireAndVerifyClientCert as at the start, found neither"
            )
        return config


class _ReloadingContext(ssl.SSLContext):
    """asyncio keeps one context for a server's life, and calls its `wrap_bio` for each connection."""

    current: Callable[[], ssl.SSLContext]

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> ssl.SSLObject:
        return self.current().wrap_bio(incoming, outgoing, server_side, server_hostname, session)


def _file_version(file: Path) -> tuple[int, ...] | None:
    """Return what differs whenever the file does; None: no such file. Follows links: Kubernetes rotates secrets so."""
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
