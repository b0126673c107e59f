"""
Puts a web configuration into force around any aiohttp application: TLS, basic authentication, headers, rate limit.

As in exporter-toolkit, a change of the file, or of a certificate it names, counts from the next connection (TLS) and
the next request (the rest) on: the files' times are looked at there. A file that has become bad is logged once, and
what was good last stays in force. Two things need a restart: TLS on or off, and to do without authentication, so that
no edit in passing opens a server that was started closed.
"""

import asyncio
import base64
import binascii
import hashlib
import hmac
import secrets
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bcrypt
from aiohttp import web
from aiohttp.typedefs import Handler

from pgslot.cli.errors import ConfigError
from pgslot.cli.logging import get_logger
from pgslot.httpserver.web_config import RateLimit, WebConfig, load

CHALLENGE = 'Basic realm="pg-slot", charset="UTF-8"'
MAX_PASSWORD_BYTES = 72
"""Bytes that bcrypt looks at; htpasswd and Go leave out the rest as well."""
MAX_CACHED_PASSWORDS = 100
"""Passwords that were right; a scrape each second must not cost a bcrypt each second."""

log = get_logger(__name__)

_Stamp = tuple[tuple[int, ...] | None, ...]


class WebConfigMiddleware:
    """The web configuration in force."""

    def __init__(self, config: WebConfig) -> None:
        self._started = self._config = config
        self._context = config.ssl_context()
        self._stamp: _Stamp | None = None
        """Of the files before they were read; None: read them at the next occasion, whatever their times."""
        self._error: str | None = None
        self._passwords = _Passwords()
        self._bucket = _Bucket()

    def install(self, app: web.Application) -> None:
        """Guard every path of the application, unknown ones too; before it starts."""
        app.middlewares.insert(0, self._admit)
        app.on_response_prepare.append(self._add_headers)

    def ssl_context(self) -> ssl.SSLContext | None:
        """Return a context that hands each connection to the one that is right by then; None: plain HTTP."""
        if self._context is None:
            return None
        context = _Delegating(ssl.PROTOCOL_TLS_SERVER)
        context.current = self._current_context
        return context

    @web.middleware
    async def _admit(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._refresh()
        if not self._bucket.take(self._config.rate_limit):
            return web.Response(status=429, text="Too many requests.\n")
        users = self._config.users
        if users and not await self._passwords.right(users, request.headers.get("Authorization", "")):
            return web.Response(status=401, text="Unauthorized.\n", headers={"WWW-Authenticate": CHALLENGE})
        return await handler(request)

    async def _add_headers(self, _request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(self._config.headers)

    def _current_context(self) -> ssl.SSLContext:
        self._refresh()
        if self._context is None:
            raise AssertionError("a server with TLS lost it")
        return self._context

    def _refresh(self) -> None:
        stamp = _stamp(self._config.files)
        if stamp == self._stamp and self._error is None:
            return
        try:
            config = self._successor()
        except ConfigError as error:
            if str(error) != self._error:
                self._error = str(error)
                log.error("web configuration is bad, the old one stays in force", error=self._error)
            return
        self._stamp = stamp if config.files == self._config.files else None
        self._error = None
        if config != self._config:
            self._config, self._context = config, config.ssl_context()
            log.info("web configuration read anew")

    def _successor(self) -> WebConfig:
        config = load(self._started.path)
        if (config.tls is None) != (self._started.tls is None):
            raise ConfigError(f"{config.path}: expected tls_server_config to come or go by a restart, found a change")
        if self._started.authenticates and not config.authenticates:
            raise ConfigError(
                f"{config.path}: expected basic_auth_users or RequireAndVerifyClientCert as at the start, found neither"
            )
        return config


class _Delegating(ssl.SSLContext):
    """asyncio keeps one context for a server's life, and calls `wrap_bio` for each connection."""

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


class _Passwords:
    """Compares with bcrypt, in a thread and one at a time, so that a flood of guesses takes one core at most."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._thread = ThreadPoolExecutor(1, "bcrypt")
        """Its own: a password must not wait for what others do in asyncio's threads."""
        self._right: OrderedDict[bytes, None] = OrderedDict()

    async def right(self, users: dict[bytes, bytes], header: str) -> bool:
        """Is this the Authorization header of one of the users?"""
        credentials = _credentials(header)
        if credentials is None:
            return False
        user, _, password = credentials.partition(b":")
        known = users.get(user)
        if known is None:
            # It costs what some known name costs, always the same one, but is never right.
            hashes = list(users.values())
            await self._compare(password, hashes[int.from_bytes(self._digest(user)[:8], "big") % len(hashes)])
            return False
        # The hash is part of it: a password that was changed must not be remembered.
        digest = self._digest(known + b"\0" + credentials)
        if digest not in self._right and not await self._compare(password, known):
            return False
        self._right[digest] = None
        self._right.move_to_end(digest)
        if len(self._right) > MAX_CACHED_PASSWORDS:
            self._right.popitem(last=False)
        return True

    async def _compare(self, password: bytes, expected: bytes) -> bool:
        return await asyncio.get_running_loop().run_in_executor(self._thread, _matches, password, expected)

    def _digest(self, data: bytes) -> bytes:
        return hmac.digest(self._secret, data, hashlib.sha256)


class _Bucket:
    """The token bucket of the rate limit; a changed limit starts with a full one."""

    def __init__(self) -> None:
        self._limit: RateLimit | None = None
        self._tokens = 0.0
        self._at = 0.0

    def take(self, limit: RateLimit | None) -> bool:
        if limit is None:
            self._limit = None
            return True
        now = time.monotonic()
        if limit != self._limit:
            self._limit, self._tokens = limit, float(limit.burst)
        else:
            self._tokens = min(limit.burst, self._tokens + (now - self._at) / limit.interval)
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def _credentials(header: str) -> bytes | None:
    """Return user:password as the client's bytes; both programs and Go take them for UTF-8."""
    scheme, _, rest = header.partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        credentials = base64.b64decode(rest.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return credentials if b":" in credentials else None


def _matches(password: bytes, expected: bytes) -> bool:
    try:
        return bcrypt.checkpw(password[:MAX_PASSWORD_BYTES], expected)
    except ValueError:  # a NUL byte, in some versions of bcrypt
        return False


def _stamp(files: tuple[Path, ...]) -> _Stamp:
    """Tell one state of the files from another; links are followed, as Kubernetes rotates secrets by them."""
    return tuple(_stamp_of(file) for file in files)


def _stamp_of(file: Path) -> tuple[int, ...] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
