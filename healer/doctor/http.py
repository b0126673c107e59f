"""
HTTP as the doctor uses it: deadlines, proxies, ~/.netrc, certificate authorities, and errors in a few words.

REQUESTS_CA_BUNDLE or CURL_CA_BUNDLE, a file or a folder, replaces the system's certificate authorities (SSL_CERT_FILE).
"""

import os
import re
import socket
import ssl
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp

from pgslot.cli.errors import ConfigError
from pgslot.httpclient import HttpClient, HttpError, UnexpectedResponseError

CONNECT_TIMEOUT_SECONDS = 3.0
"""Until the connection stands, TLS included and name resolution excluded."""
READ_TIMEOUT_SECONDS = 5.0
"""Between two pieces of an answer."""
TOTAL_TIMEOUT_SECONDS = 10.0
"""For a whole request: name resolution, redirects, and an answer that trickles in."""
MAX_ANSWER_BYTES = 256 * 1024 * 1024
"""Prometheus lists all its targets and rules in one answer."""


class Client(HttpClient):
    """A server by its base URL. User and password, from the URL or ~/.netrc, are sent and never shown."""

    def __init__(self, base_url: str) -> None:
        """Raises ConfigError if the certificate authorities that an https URL needs cannot be read."""
        super().__init__(
            base_url,
            timeout=TOTAL_TIMEOUT_SECONDS,
            connect_timeout=CONNECT_TIMEOUT_SECONDS,
            read_timeout=READ_TIMEOUT_SECONDS,
            max_body_bytes=MAX_ANSWER_BYTES,
            tls=_certificate_authorities(base_url),
            trust_env=True,
        )
        self.shown = without_secrets(self.base_url)
        """The URL without anything that may be secret, as findings show it."""


def describe(error: HttpError) -> str:
    """Say in a few words why there was no usable answer, without the URL."""
    cause = error.__cause__
    if isinstance(error, UnexpectedResponseError) and error.response is not None:
        answer = error.response
        if answer.status != 200:
            return f"{answer.path}: expected status 200, found {answer.status}: {answer.text.strip()[:200]}"
        return f"{answer.path}: expected JSON, found {answer.text.strip()[:80]!r}"
    if isinstance(cause, aiohttp.ConnectionTimeoutError):
        return f"no connection within {CONNECT_TIMEOUT_SECONDS:.0f} s"
    if isinstance(cause, aiohttp.SocketTimeoutError):
        return f"no answer within {READ_TIMEOUT_SECONDS:.0f} s"
    if isinstance(cause, TimeoutError):
        return f"no whole answer within {TOTAL_TIMEOUT_SECONDS:.0f} s"
    reason = _operating_system_error(error)
    if isinstance(cause, aiohttp.ClientSSLError):
        return f"TLS: {reason or 'the handshake failed'}"
    if reason or cause is None:
        return reason or str(error)
    return next((word for kind, word in _WORDS if isinstance(cause, kind)), type(cause).__name__)


_WORDS: tuple[tuple[type[Exception], str], ...] = (
    (aiohttp.TooManyRedirects, "TooManyRedirects"),
    (aiohttp.ClientPayloadError, "ChunkedEncodingError"),
    (aiohttp.ServerDisconnectedError, "ConnectionError"),
    (aiohttp.ClientResponseError, "ConnectionError"),
)
"""Words for errors that are not the operating system's. The first that matches counts."""


def _operating_system_error(error: BaseException) -> str:
    """Return the operating system's words for the deepest cause that has a number; empty if none has."""
    cause: BaseException | None = error
    words = ""
    while cause is not None:
        if isinstance(cause, OSError) and not isinstance(cause, aiohttp.ClientError):
            words = _words_of(cause) or words
        cause = cause.__cause__ or cause.__context__
    return words


def _words_of(error: OSError) -> str:
    if isinstance(error, ssl.SSLError | socket.gaierror):
        return error.strerror or ""
    # asyncio writes the address in place of the words: "[Errno 111] Connect call failed ('127.0.0.1', 9093)". A host
    # with several addresses has an error for each in one text, if they differ.
    numbers = re.findall(r"\[Errno (\d+)\]", str(error))
    return os.strerror(int(numbers[-1])) if numbers else error.strerror or ""


def check_url(flag: str, url: str) -> str:
    """Return the URL if it can be a base URL. Raises ConfigError, which does not show it: it may hold a password."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"{flag}: expected an http or https URL, found something else")
    return url


def without_secrets(url: str) -> str:
    """Return only scheme, host, port and path: the rest may hold passwords and tokens."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _certificate_authorities(url: str) -> ssl.SSLContext | bool:
    """Return what verifies certificates; True, which costs nothing, for a URL that needs none. Raises ConfigError."""
    needed = url.startswith("https:")
    name = next((name for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if os.environ.get(name)), None)
    if name is None:
        return ssl.create_default_context() if needed else True
    bundle = os.environ[name]
    try:
        return _verifier(bundle)
    except OSError as error:
        if needed:
            raise ConfigError(f"{name}: cannot read {bundle}: {error.strerror or error}") from error
        return True


@cache
def _verifier(bundle: str) -> ssl.SSLContext:
    """Raises OSError."""
    if Path(bundle).is_dir():
        return ssl.create_default_context(capath=bundle)
    return ssl.create_default_context(cafile=bundle)
