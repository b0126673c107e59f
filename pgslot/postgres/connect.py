"""
From a connection string to a connection: one host after the other, within one deadline that they share.

libpq looks names up where it is called, in the event loop; psycopg does in asyncio's one pool of threads, and knows no
service files. Here libpq is asked which hosts it means, `resolver` finds their addresses, and each address gets its
share of the time that is left: a host that takes connections and says nothing costs the others nothing but that share.
"""

import asyncio
import ipaddress
import random
import re
import time
import traceback
from collections.abc import Awaitable
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, pq
from psycopg.conninfo import make_conninfo

from pgslot.postgres.resolver import RESOLVER

_IMPOSSIBLE = "none-of-them"
_DEFAULT_PORT = "5432"

_SAID_BY_SERVER = re.compile(r" failed: \S+:  ")
"""libpq puts the severity, in the server's language, and two spaces before what the server said."""
_REFUSED = re.compile(
    r"authentication failed|auth failed|pg_hba\.conf|not permitted to log in|permission denied for database"
    r"|(role|user|database) \S+ does not exist|no such (user|database)|password"
)
_BUSY = re.compile(r"too many|remaining connection slots|starting up|shutting down|recovery")

_T = TypeVar("_T")


class LoginFailedError(psycopg.OperationalError):
    """The server answered, and does not let this user in: password, role, database or pg_hba.conf are wrong."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One host to try, as libpq's defaults have it where a part is empty; without a port as the string says."""

    host: str = ""
    address: str = ""
    port: str = ""
    session: str = ""
    """target_session_attrs, where it is not that of the connection string."""

    def __str__(self) -> str:
        return f"{self.host or self.address or 'the default host'}:{self.port or _DEFAULT_PORT}"

    async def addresses(self) -> list[str]:
        """Return the addresses to try; one empty one for a socket's directory and for what libpq finds by itself."""
        if self.address or not self.host or self.host.startswith(("/", "@")):
            return [self.address]
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return await RESOLVER.addresses(self.host)
        return [self.host]

    def conninfo(self, base: str, address: str, parameters: dict[str, str]) -> str:
        """Return the connection string for this host alone."""
        if not self.port:
            return make_conninfo(base, **parameters)
        # Also the empty ones, in place of the lists of all hosts.
        one = {"host": self.host, "hostaddr": address, "port": self.port}
        session = {"target_session_attrs": self.session} if self.session else {}
        return make_conninfo(base, **parameters, **one, **session)


def parse_endpoints(conninfo: str) -> tuple[list[Endpoint], float | None]:
    """
    Return the hosts that libpq means, in order, and `connect_timeout`: seconds for each, None without a limit.

    Service file and environment are libpq's to read. It tells what it made of them by a connection that an impossible
    setting ends before it touches the network.
    """
    asked = pq.PGconn.connect_start(make_conninfo(conninfo, channel_binding=_IMPOSSIBLE).encode())
    known = {option.keyword.decode(): option.val.decode("utf-8", "replace") for option in asked.info if option.val}
    columns = [known.get(name, "").split(",") for name in ("host", "hostaddr", "port")]
    count = max(len(column) for column in columns[:2])
    if "port" not in known or any(len(column) not in (1, count) for column in columns):
        # A service that there is not, or a contradiction: libpq describes it best.
        return [Endpoint()], None
    hosts, addresses, ports = (column * count if len(column) == 1 else column for column in columns)
    found = [
        Endpoint(host, address, port or _DEFAULT_PORT)
        for host, address, port in zip(hosts, addresses, ports, strict=True)
    ]
    if known.get("load_balance_hosts") == "random":
        random.shuffle(found)
    if known.get("target_session_attrs") == "prefer-standby":
        # libpq would go round twice as well; each of its connections is to one host here.
        standbys = [Endpoint(place.host, place.address, place.port, "standby") for place in found]
        found = standbys + [Endpoint(place.host, place.address, place.port, "any") for place in found]
    limit = int(known["connect_timeout"]) if known.get("connect_timeout", "").isdecimal() else 0
    return found, max(2, limit) if limit else None


async def connect(conninfo: str, timeout: float, **parameters: str) -> AsyncConnection[Any]:
    """
    Connect to the first host that answers and fits, all of them sharing `timeout` seconds.

    Raises LoginFailedError when a server answered and let nobody in, another psycopg.Error, or TimeoutError when no
    host said anything. The text, never empty, has the failure of each host.
    """
    deadline = time.monotonic() + timeout
    hosts, limit = parse_endpoints(conninfo)
    failures: list[Exception] = []
    for index, place in enumerate(hosts):
        ends = time.monotonic() + (deadline - time.monotonic()) / (len(hosts) - index)
        addresses = await _addresses(place, ends - time.monotonic(), failures)
        for number, address in enumerate(addresses):
            share = (ends - time.monotonic()) / (len(addresses) - number)
            try:
                return await _within(
                    share if limit is None else min(share, limit),
                    f"{place}: no connection",
                    AsyncConnection.connect(place.conninfo(conninfo, address, parameters), autocommit=True),
                )
            except (psycopg.Error, TimeoutError) as error:
                _let_go(error)
                failures.append(_meaning(error))
    raise _verdict(failures)


async def _addresses(place: Endpoint, seconds: float, failures: list[Exception]) -> list[str]:
    try:
        return await _within(seconds, f"{place}: its name was not found", place.addresses())
    except OSError as error:
        failures.append(error)
        return []


async def _within(seconds: float, what: str, awaited: Awaitable[_T]) -> _T:
    try:
        async with asyncio.timeout(seconds):
            return await awaited
    except TimeoutError as error:
        _let_go(error)
        raise TimeoutError(f"{what} in {seconds:.1f} s") from None
    except asyncio.CancelledError as error:
        _let_go(error)
        raise


def _meaning(error: Exception) -> Exception:
    """Return the error without the connection that it holds on to, as what it means."""
    text = str(error) or type(error).__name__
    if isinstance(error, TimeoutError | psycopg.errors.ConnectionTimeout):
        return TimeoutError(text)
    asked_for_password = getattr(getattr(error, "pgconn", None), "used_password", False)
    needs_password = getattr(getattr(error, "pgconn", None), "needs_password", False)
    if needs_password or login_failed(text, used_password=asked_for_password):
        return LoginFailedError(text)
    return psycopg.OperationalError(text)


def login_failed(text: str, *, used_password: bool) -> bool:
    """
    Return whether a failure to connect means that the server does not let this user in.

    libpq has no SQLSTATE for it. In another language than English it can be told only when a password was asked for.
    """
    if _SAID_BY_SERVER.search(text) is None or _BUSY.search(text):
        return False
    return used_password or _REFUSED.search(text) is not None


def _verdict(failures: list[Exception]) -> Exception:
    """Return what to raise: what a server said counts for more than a silence."""
    telling = (LoginFailedError, psycopg.Error, OSError)
    chosen = next(error for kind in telling for error in reversed(failures) if isinstance(error, kind))
    text = "; ".join(dict.fromkeys(" ".join(str(error).split()) for error in failures))
    if isinstance(chosen, TimeoutError):
        return TimeoutError(text)
    return LoginFailedError(text) if isinstance(chosen, LoginFailedError) else psycopg.OperationalError(text)


def _let_go(error: BaseException | None) -> None:
    """
    Forget the locals of the frames that an error passed through, and of those before it.

    A connection that was given up half-way is closed when nothing refers to it any more. The traceback does, and with
    it whoever keeps the error: a cancelled task, for as long as that is kept.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__
