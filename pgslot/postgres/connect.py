"""
Connects to a server by a connection string: one host after another, all within one deadline.

libpq resolves names inside the call, which blocks the event loop; psycopg does in asyncio's shared pool of threads, and
knows no service files. Here libpq says which hosts the string means, `resolver` resolves their names, and every address
gets its share of the remaining time, so that a host that accepts connections and never answers takes only its share.
"""

import asyncio
import ipaddress
import os
import random
import re
import time
import traceback
from collections.abc import Awaitable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from pgslot.config.secret_permissions import libpq_ignores
from pgslot.postgres.deadlines import MIN_CONNECT_SECONDS
from pgslot.postgres.resolver import RESOLVER

_NO_PASSFILE = "/dev/null/ignored"
"""A path that cannot exist. libpq would warn on standard error of a passfile that it ignores, at every connection."""
_INVALID_CHANNEL_BINDING = "none-of-them"
_DEFAULT_PORT = "5432"

_SERVER_MESSAGE = re.compile(r" failed: \S+:  ")
"""Before the server's own message libpq puts its severity, in the server's language, and two spaces."""
_LOGIN_FAILED = re.compile(
    r"authentication failed|auth failed|pg_hba\.conf|not permitted to log in|permission denied for database"
    r"|(role|user|database) \S+ does not exist|no such (user|database)|password"
)
_SERVER_ANSWERED = re.compile(r" failed: \S+: ")
"""As above, once runs of spaces are one."""
_PASSWORD_REFUSED = re.compile(r"no password supplied|(password|SASL) authentication failed")
_NOT_AVAILABLE = re.compile(r"too many|remaining connection slots|starting up|shutting down|recovery")

_T = TypeVar("_T")


class LoginFailedError(psycopg.OperationalError):
    """The server answered and refused the login: password, role, database or pg_hba.conf is wrong."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One host to try. An empty part is libpq's default; without a port, the connection string is used as it is."""

    host: str = ""
    address: str = ""
    port: str = ""
    session_attrs: str = ""
    """target_session_attrs; empty: that of the connection string."""

    def __str__(self) -> str:
        return f"{self.host or self.address or 'the default host'}:{self.port or _DEFAULT_PORT}"

    async def addresses(self) -> list[str]:
        """Return the addresses to try: an empty one for a socket directory, and for what only libpq can find."""
        if self.address or not self.host or self.host.startswith(("/", "@")):
            return [self.address]
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return await RESOLVER.addresses(self.host)
        return [self.host]

    def conninfo(self, base: str, address: str, parameters: dict[str, str]) -> str:
        """Return the connection string `base` for this endpoint alone."""
        if not self.port:
            return make_conninfo(base, **parameters)
        # Empty values as well, which replace the lists of all hosts.
        endpoint = {"host": self.host, "hostaddr": address, "port": self.port}
        session = {"target_session_attrs": self.session_attrs} if self.session_attrs else {}
        return make_conninfo(base, **parameters, **endpoint, **session)


def parse_endpoints(conninfo: str) -> tuple[list[Endpoint], float | None]:
    """
    Return the hosts that a connection string means to libpq, in order, and the seconds for each, None: no limit.

    Only libpq reads service files and environment variables. An invalid setting makes its connection fail before it
    touches the network; its options then say what libpq made of the string.
    """
    options = _libpq_options(conninfo)
    columns = [options.get(name, "").split(",") for name in ("host", "hostaddr", "port")]
    count = max(len(column) for column in columns[:2])
    if "port" not in options or any(len(column) not in (1, count) for column in columns):
        # An unknown service, or a contradiction: libpq's own connection will describe it best.
        return [Endpoint()], None
    hosts, addresses, ports = (column * count if len(column) == 1 else column for column in columns)
    endpoints = [
        Endpoint(host, address, port or _DEFAULT_PORT)
        for host, address, port in zip(hosts, addresses, ports, strict=True)
    ]
    if options.get("load_balance_hosts") == "random":
        random.shuffle(endpoints)
    if options.get("target_session_attrs") == "prefer-standby":
        # libpq tries all hosts twice as well, but each of its connections here is to a single host.
        endpoints = [
            Endpoint(endpoint.host, endpoint.address, endpoint.port, session_attrs)
            for session_attrs in ("standby", "any")
            for endpoint in endpoints
        ]
    limit = int(options["connect_timeout"]) if options.get("connect_timeout", "").isdecimal() else 0
    return endpoints, max(MIN_CONNECT_SECONDS, limit) if limit else None


def parse_hosts(conninfo: str) -> tuple[list[str], str]:
    """Return the hosts that a connection string names, as HOST:PORT, and target_session_attrs: `any` by default."""
    endpoints, _ = parse_endpoints(conninfo)
    hosts = list(dict.fromkeys(str(endpoint) for endpoint in endpoints))
    return hosts, _libpq_options(conninfo).get("target_session_attrs", "any")


def _libpq_options(conninfo: str) -> dict[str, str]:
    """Return what libpq makes of a connection string, service files and environment included. Raises psycopg.Error."""
    invalid = make_conninfo(conninfo, channel_binding=_INVALID_CHANNEL_BINDING, passfile=_NO_PASSFILE)
    failed = pq.PGconn.connect_start(invalid.encode())
    return {option.keyword.decode(): option.val.decode("utf-8", "replace") for option in failed.info if option.val}


async def connect(conninfo: str, timeout: float, **parameters: str) -> AsyncConnection[Any]:
    """
    Connect to the first host that answers and has the target_session_attrs; all hosts share `timeout` seconds.

    Raises LoginFailedError if a server answered and none accepted the login, another psycopg.Error, or TimeoutError if
    no host answered at all. The text, never empty, has the failure of every host.
    """
    deadline = time.monotonic() + timeout
    endpoints, limit = parse_endpoints(conninfo)
    if _ignores_passfile(conninfo):
        parameters["passfile"] = _NO_PASSFILE
    failures: list[Exception] = []
    for index, endpoint in enumerate(endpoints):
        endpoint_deadline = time.monotonic() + (deadline - time.monotonic()) / (len(endpoints) - index)
        addresses = await _addresses(endpoint, endpoint_deadline - time.monotonic(), failures)
        for number, address in enumerate(addresses):
            share = (endpoint_deadline - time.monotonic()) / (len(addresses) - number)
            try:
                return await _with_deadline(
                    share if limit is None else min(share, limit),
                    f"{endpoint}: no connection",
                    AsyncConnection.connect(endpoint.conninfo(conninfo, address, parameters), autocommit=True),
                )
            except (psycopg.Error, TimeoutError) as error:
                _drop_frames(error)
                failures.append(_classify(error))
    raise _summarize(failures)


def _ignores_passfile(conninfo: str) -> bool:
    """Return whether libpq ignores the passfile because of its mode; that of a service file is not found."""
    options = conninfo_to_dict(conninfo)
    if "passfile" not in options and ("service" in options or "PGSERVICE" in os.environ):
        return False
    passfile = options.get("passfile") or os.environ.get("PGPASSFILE") or "~/.pgpass"
    return libpq_ignores(Path(str(passfile)).expanduser())


async def _addresses(endpoint: Endpoint, seconds: float, failures: list[Exception]) -> list[str]:
    try:
        return await _with_deadline(seconds, f"{endpoint}: its name was not found", endpoint.addresses())
    except OSError as error:
        failures.append(error)
        return []


async def _with_deadline(seconds: float, failure: str, awaitable: Awaitable[_T]) -> _T:
    """Await it for at most this time. Raises TimeoutError with the text `failure` and the time."""
    try:
        async with asyncio.timeout(seconds):
            return await awaitable
    except TimeoutError as error:
        _drop_frames(error)
        raise TimeoutError(f"{failure} in {seconds:.1f} s") from None
    except asyncio.CancelledError as error:
        _drop_frames(error)
        raise


def _classify(error: Exception) -> Exception:
    """Return the error as TimeoutError, LoginFailedError or OperationalError, without its reference to a connection."""
    text = str(error) or type(error).__name__
    if isinstance(error, TimeoutError | psycopg.errors.ConnectionTimeout):
        return TimeoutError(text)
    used_password = getattr(getattr(error, "pgconn", None), "used_password", False)
    needs_password = getattr(getattr(error, "pgconn", None), "needs_password", False)
    if needs_password or login_failed(text, used_password=used_password):
        return LoginFailedError(text)
    return psycopg.OperationalError(text)


def login_failed(text: str, *, used_password: bool) -> bool:
    """
    Return whether the text of a failed connection means that the server refused the login.

    libpq has no SQLSTATE for it. In other languages than English only a login with a password is recognized.
    """
    if _SERVER_MESSAGE.search(text) is None or _NOT_AVAILABLE.search(text):
        return False
    return used_password or _LOGIN_FAILED.search(text) is not None


def password_refused(text: str) -> bool:
    """Return whether the text of a failed connection means that a password was missing or wrong."""
    return _PASSWORD_REFUSED.search(text) is not None


def server_answered(text: str) -> bool:
    """Return whether the text of a failed connection has a message of the server itself."""
    return _SERVER_ANSWERED.search(text) is not None


def _summarize(failures: list[Exception]) -> Exception:
    """Return one exception for all failures, of the type that says most: a server's answer before a timeout."""
    by_precedence = (LoginFailedError, psycopg.Error, OSError)
    chosen = next(error for kind in by_precedence for error in reversed(failures) if isinstance(error, kind))
    text = "; ".join(dict.fromkeys(" ".join(str(error).split()) for error in failures))
    if isinstance(chosen, TimeoutError):
        return TimeoutError(text)
    return LoginFailedError(text) if isinstance(chosen, LoginFailedError) else psycopg.OperationalError(text)


def _drop_frames(error: BaseException | None) -> None:
    """
    Clear the frames of an error's traceback, and of those of its causes.

    An abandoned connection closes when its last reference goes. Frames of the traceback refer to it, for as long as
    anything keeps the error, such as a cancelled task.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
