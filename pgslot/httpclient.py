"""
The HTTP client for Patroni, Alertmanager, Prometheus and the healer.

Every request has a deadline that covers name resolution, and a limit on the size of the answer. User and password of a
base URL are sent as basic authentication; no error shows them.
"""

import json
import netrc
import os
import socket
import ssl
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from pgslot.postgres.resolver import RESOLVER

CHUNK_BYTES = 65536


class HttpError(Exception):
    """There was no usable answer. The text says why, without credentials; `__cause__` is the original exception."""


class UnexpectedResponseError(HttpError):
    """There was an answer, but with another status than 200, too large, or not JSON."""

    def __init__(self, text: str, response: "Response | None" = None) -> None:
        super().__init__(text)
        self.response = response
        """The answer; None if it was too large."""


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer."""

    path: str
    """As given to `request`."""
    status: int
    headers: Mapping[str, str]
    """Names in any case."""
    body: bytes
    """Decompressed; cut off at the limit if the status is not 200."""

    @property
    def text(self) -> str:
        """The body as UTF-8, with U+FFFD for everything else."""
        return self.body.decode("utf-8", "replace")

    def json(self) -> Any:
        """Return the body's JSON. Raises UnexpectedResponseError."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError) as error:
            raise UnexpectedResponseError(str(error), self) from error

    def expect_ok(self) -> Self:
        """Return this answer if its status is 200. Raises UnexpectedResponseError."""
        if self.status != 200:
            raise UnexpectedResponseError(f"expected 200, found {self.status}", self)
        return self


class HttpClient:
    """
    Requests to one server; connections are kept for as long as the context lasts.

        async with HttpClient("http://localhost:8008", timeout=3.0, max_body_bytes=2**20) as client:
            cluster = await client.get_json("/cluster")
    """

    def __init__(
        self,
        base_url: str,
        *,
        timeout: float,
        max_body_bytes: int,
        connect_timeout: float | None = None,
        read_timeout: float | None = None,
        tls: ssl.SSLContext | bool = True,
        trust_env: bool = False,
    ) -> None:
        """
        Send requests to `base_url`, whose user and password, if any, become basic authentication.

        `timeout`: seconds for a whole request, name resolution included. `connect_timeout`: seconds until the
        connection stands, TLS included and name resolution excluded. `read_timeout`: seconds between two pieces of the
        answer. None: no limit of its own. `tls`: True for the system's certificate authorities. `trust_env`: use the
        proxies of the environment (http_proxy, https_proxy, no_proxy) and the credentials of ~/.netrc.
        """
        self._url, self._auth = _split_credentials(base_url.rstrip("/"))
        self._timeout = aiohttp.ClientTimeout(total=timeout, sock_connect=connect_timeout, sock_read=read_timeout)
        self._max_body_bytes = max_body_bytes
        self._tls = tls
        self._proxy: str | None = None
        self._proxy_auth: str | None = None
        if trust_env:
            self._auth = self._auth or _netrc_credentials(self.host)
            proxy = _environment_proxy(self._url)
            if proxy is not None:
                self._proxy, self._proxy_auth = _split_credentials(proxy)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(resolver=ThreadedResolver(), ssl=self._tls)
        self._session = aiohttp.ClientSession(timeout=self._timeout, connector=connector)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def base_url(self) -> str:
        """The base URL, without user and password."""
        return self._url

    @property
    def host(self) -> str:
        """The server's host, as in the URL."""
        return urlsplit(self._url).hostname or ""

    @property
    def has_credentials(self) -> bool:
        """Whether requests carry a user and a password, from the URL or ~/.netrc."""
        return self._auth is not None

    async def get_json(
        self, path: str, params: Mapping[str, str] | None = None, *, allow_redirects: bool = True
    ) -> Any:
        """Return the JSON of an answer with status 200. Raises HttpError."""
        response = await self.request("GET", path, params=params, allow_redirects=allow_redirects)
        return response.expect_ok().json()

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: str | bytes | None = None,
        token: str | None = None,
        anonymous: bool = False,
        allow_redirects: bool = True,
    ) -> Response:
        """
        Send one request and return its whole answer, whatever its status.

        `body`: JSON. `token`: a bearer token, sent instead of user and password. `anonymous`: send no credentials.
        Raises HttpError.
        """
        sent = dict(headers or {})
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        authorization = f"Bearer {token}" if token is not None else None if anonymous else self._auth
        if authorization is not None:
            sent["Authorization"] = authorization
        return await self.exchange(
            method, path, headers=sent, params=params, body=body, allow_redirects=allow_redirects
        )

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str],
        params: Mapping[str, str] | None,
        body: str | bytes | None,
        allow_redirects: bool,
    ) -> Response:
        """Send a request with exactly these headers; a fake server overrides this. Raises HttpError."""
        if self._session is None:
            raise RuntimeError("HttpClient is used outside of its context")
        to_proxy = {} if self._proxy_auth is None else {"Proxy-Authorization": self._proxy_auth}
        # A proxy reads the request itself, but of https only CONNECT, which is all that may carry its password then.
        tunnelled = self._url.startswith("https:")
        with self._errors():
            async with self._session.request(
                method,
                f"{self._url}{path}",
                params=params,
                headers=dict(headers) if tunnelled else {**headers, **to_proxy},
                data=body,
                proxy=self._proxy,
                proxy_headers=to_proxy if tunnelled else None,
                allow_redirects=allow_redirects,
            ) as answer:
                return Response(path, answer.status, answer.headers, await self._read(answer))

    async def _read(self, answer: aiohttp.ClientResponse) -> bytes:
        body = bytearray()
        async for chunk in answer.content.iter_chunked(CHUNK_BYTES):
            body += chunk
            if len(body) > self._max_body_bytes:
                if answer.status == 200:
                    raise UnexpectedResponseError(f"expected at most {self._max_body_bytes} bytes, found more")
                return bytes(body[: self._max_body_bytes])
        return bytes(body)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except aiohttp.ConnectionTimeoutError as error:
            raise HttpError(f"no connection in {self._timeout.sock_connect or self._timeout.total:.0f} s") from error
        except aiohttp.SocketTimeoutError as error:
            raise HttpError(f"no answer in {self._timeout.sock_read or self._timeout.total:.0f} s") from error
        except TimeoutError as error:
            raise HttpError(f"no answer in {self._timeout.total:.0f} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise HttpError(" ".join(str(error).split()) or type(error).__name__) from error


class ThreadedResolver(AbstractResolver):
    """Resolves names in the threads of `postgres.resolver`, so that a name server that hangs blocks nothing else."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        del family
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in await RESOLVER.addresses(host)
        ]

    async def close(self) -> None:
        """Nothing is kept."""


def _split_credentials(url: str) -> tuple[str, str | None]:
    """Return the URL without user and password, and the value of Authorization that they make; None: it has none."""
    parts = urlsplit(url)
    credentials, at, host = parts.netloc.rpartition("@")
    if not at:
        return url, None
    user, _, password = credentials.partition(":")
    return parts._replace(netloc=host).geturl(), _basic(unquote(user), unquote(password))


def _basic(user: str, password: str) -> str:
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def _netrc_credentials(host: str) -> str | None:
    """Return the value of Authorization by $NETRC or ~/.netrc; None without an entry, or if the file is unreadable."""
    with suppress(OSError, netrc.NetrcParseError, RuntimeError):
        file = netrc.netrc(os.environ.get("NETRC") or Path.home() / ".netrc")
        entry = file.authenticators(host)
        if entry is not None:
            login, account, password = entry
            return _basic(login or account, password or "")
    return None


def _environment_proxy(url: str) -> str | None:
    parts = urlsplit(url)
    if proxy_bypass(parts.netloc) or _is_in_no_proxy_network(parts.hostname or ""):
        return None
    proxies = getproxies()
    return proxies.get(parts.scheme) or proxies.get("all")


def _is_in_no_proxy_network(host: str) -> bool:
    """Return whether no_proxy has a network of this address (10.0.0.0/8), which urllib does not know."""
    no_proxy = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    with suppress(ValueError):
        address = ip_address(host)
        for entry in no_proxy.split(","):
            with suppress(ValueError):
                if "/" in entry and address in ip_network(entry.strip(), strict=False):
                    return True
    return False
