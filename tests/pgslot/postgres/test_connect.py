"""Connecting by a connection string: hosts and names that hang, logins that fail; on real servers."""

import asyncio
import socket
import time
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest

from pgslot.postgres.connect import Endpoint, LoginFailedError, login_failed, parse_endpoints
from pgslot.postgres.pipeline import Statement
from pgslot.postgres.session import Session
from tests.support.servers.conditions import password_required
from tests.support.servers.processes import free_port
from tests.support.servers.proxy import Fault, Proxy
from tests.support.servers.stack import EXPORTER_ROLE, Stack


class Port(NamedTuple):
    port: int


SERVER_PORT = Statement("SELECT pg_catalog.inet_server_port() AS port", Port)


async def connected(conninfo: str, timeout: float = 5) -> int:
    """Return which server answered, by its port."""
    session = await Session.connect(conninfo, application_name="connecting", timeout=timeout)
    [[row]] = await session.fetch([SERVER_PORT], 5, bare=True)
    await session.close()
    return int(row.port)


@pytest.mark.parametrize("hung", [1, 2, 4])
@pytest.mark.parametrize("more", ["", "connect_timeout=10", "connect_timeout=3"])
async def test_hosts_that_hang_leave_time_for_the_other_hosts(databases: Stack, hung: int, more: str) -> None:
    with Proxy(databases.primary.port) as proxy:
        proxy.set(Fault.HUNG)
        ports = ",".join(map(str, [*[proxy.port] * hung, databases.primary.port]))
        hosts = ",".join(["127.0.0.1"] * (hung + 1))
        assert (
            await connected(f"host={hosts} port={ports} dbname=postgres user={EXPORTER_ROLE} {more}")
            == databases.primary.port
        )


async def test_an_error_names_every_host_that_failed(databases: Stack) -> None:
    closed = free_port()
    with Proxy(databases.primary.port) as proxy:
        proxy.set(Fault.HUNG)
        with pytest.raises(psycopg.OperationalError) as failed:
            await connected(f"host=127.0.0.1,127.0.0.1 port={proxy.port},{closed} user=x", 1)
        assert f"127.0.0.1:{proxy.port}: no connection in 0.5 s" in str(failed.value)
        assert f"port {closed} failed: Connection refused" in str(failed.value)
        with pytest.raises(TimeoutError, match=f"127.0.0.1:{proxy.port}: no connection in 1.0 s"):
            await connected(f"host=127.0.0.1 port={proxy.port} user=x", 1)


async def test_target_session_attrs_selects_the_server(databases: Stack) -> None:
    primary, standby = databases.primary.port, databases.standby.port
    role = f"dbname=postgres user={EXPORTER_ROLE} target_session_attrs="
    both = f"host=127.0.0.1,127.0.0.1 port={primary},{standby} {role}"
    for asked, answers in (
        ("any", primary),
        ("read-write", primary),
        ("standby", standby),
        ("prefer-standby", standby),
    ):
        assert await connected(both + asked) == answers, asked
    alone = f"host=127.0.0.1 port={primary} {role}"
    assert await connected(f"{alone}prefer-standby") == primary
    with pytest.raises(psycopg.OperationalError, match="server is not in hot standby mode"):
        await connected(f"{alone}standby")


async def test_a_host_of_a_service_file_is_resolved_without_blocking_the_event_loop(
    databases: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "services").write_text(
        f"[orders]\nhost=db.invalid\nport={databases.primary.port}\ndbname=postgres\nuser={EXPORTER_ROLE}\n"
    )
    monkeypatch.setenv("PGSERVICEFILE", str(tmp_path / "services"))
    resolve_with(monkeypatch, "db.invalid", seconds=1)
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            longest = max(longest, time.monotonic() - began)

    watching = asyncio.create_task(watch())
    # libpq's own lookup, in C, does not find the name.
    assert await connected("service=orders") == databases.primary.port
    watching.cancel()
    assert longest < 0.5


async def test_a_name_that_hangs_leaves_time_for_the_other_host(
    databases: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_with(monkeypatch, "hangs.invalid", seconds=8)
    port = databases.primary.port
    assert await connected(f"host=hangs.invalid,localhost port={port} dbname=postgres user={EXPORTER_ROLE}", 2) == port
    with pytest.raises(TimeoutError, match=r"hangs.invalid:5432: its name was not found in 0.2 s"):
        await connected("host=hangs.invalid", 0.2)
    with pytest.raises(psycopg.OperationalError, match=r"cannot resolve 'nowhere.invalid': "):
        await connected("host=nowhere.invalid")


def resolve_with(monkeypatch: pytest.MonkeyPatch, name: str, *, seconds: float) -> None:
    """Resolve this name to 127.0.0.1, after some time."""
    real = socket.getaddrinfo

    def slow(host: Any, *arguments: Any, **more: Any) -> Any:
        if host in (name, name.encode()):
            time.sleep(seconds)
            host = "127.0.0.1"
        return real(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", slow)


@pytest.mark.parametrize(
    ("conninfo", "endpoints", "limit"),
    [
        ("", [Endpoint(port="5432")], None),
        ("host=a", [Endpoint("a", port="5432")], None),
        ("host=a,b port=1,2 connect_timeout=9", [Endpoint("a", port="1"), Endpoint("b", port="2")], 9),
        ("postgresql://a:7,b/x?connect_timeout=1", [Endpoint("a", port="7"), Endpoint("b", port="5432")], 2),
        ("host=a,b hostaddr=::1,127.0.0.1", [Endpoint("a", "::1", "5432"), Endpoint("b", "127.0.0.1", "5432")], None),
        ("hostaddr=::1 connect_timeout=0", [Endpoint("", "::1", "5432")], None),
        (
            "host=a,b target_session_attrs=prefer-standby",
            [Endpoint(host, "", "5432", session) for session in ("standby", "any") for host in "ab"],
            None,
        ),
        ("host=a, port=7", [Endpoint("a", port="7"), Endpoint(port="7")], None),
        ("host=a,b port=1,2,3", [Endpoint()], None),
        ("service=nowhere", [Endpoint()], None),
    ],
)
def test_endpoints_are_those_that_libpq_would_try(
    conninfo: str, endpoints: list[Endpoint], limit: float | None
) -> None:
    assert parse_endpoints(conninfo) == (endpoints, limit)


async def test_a_contradictory_connection_string_is_described_by_libpq(databases: Stack) -> None:
    for conninfo, text in (
        ("host=a,b port=1,2,3", "could not match 3 port numbers to 2 hosts"),
        ("service=nowhere", 'definition of service "nowhere" not found'),
        (f"host=127.0.0.1 port={databases.primary.port} sslmode=require user=x", "server does not support SSL"),
    ):
        with pytest.raises(psycopg.OperationalError, match=text):
            await connected(conninfo)


async def test_a_failed_login_is_distinguished_from_an_unreachable_or_full_server(databases: Stack) -> None:
    primary = databases.primary
    primary.sql("CREATE ROLE locked_out NOLOGIN")
    primary.sql("CREATE ROLE crowded LOGIN CONNECTION LIMIT 0")
    try:
        for user, more in (("nosuchrole", ""), (EXPORTER_ROLE, "dbname=nosuchdatabase"), ("locked_out", "")):
            with pytest.raises(LoginFailedError):
                await connected(f"host=127.0.0.1 port={primary.port} dbname=postgres user={user} {more}")
        for conninfo in (f"port={primary.port} user=crowded dbname=postgres", f"port={free_port()} user=x"):
            with pytest.raises(psycopg.OperationalError) as failed:
                await connected(f"host=127.0.0.1 {conninfo}")
            assert not isinstance(failed.value, LoginFailedError), conninfo
    finally:
        primary.sql("DROP ROLE locked_out")
        primary.sql("DROP ROLE crowded")


async def test_a_wrong_or_missing_password_is_a_failed_login(databases: Stack) -> None:
    with password_required(databases.primary, "proven", "right") as conninfo:
        with pytest.raises(LoginFailedError):
            await connected(f"{conninfo} password=wrong")
        with pytest.raises(LoginFailedError, match="no password supplied"):
            await connected(conninfo)
        assert await connected(f"{conninfo} password=right") == databases.primary.port


SERVER = 'connection failed: connection to server at "127.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    ("text", "used_password", "failed"),
    [
        (f'{SERVER}FATAL:  password authentication failed for user "x"', True, True),
        (f"{SERVER}FATAL:  Passwort-Authentifizierung für Benutzer »x« fehlgeschlagen", True, True),
        (f'{SERVER}FATAL:  role "x" does not exist', False, True),
        (f'{SERVER}FATAL:  database "x" does not exist', False, True),
        (f'{SERVER}FATAL:  no pg_hba.conf entry for host "::1", user "x", database "x", no encryption', False, True),
        (f"{SERVER}FATAL:  Rolle »x« existiert nicht", False, False),
        (f"{SERVER}FATAL:  the database system is starting up", False, False),
        (f"{SERVER}FATAL:  sorry, too many clients already", True, False),
        (f'{SERVER}FATAL:  too many connections for role "x"', True, False),
        (f"{SERVER}server closed the connection unexpectedly", True, False),
        (f"{SERVER}Connection refused", False, False),
    ],
)
def test_a_failed_login_is_recognized_by_its_text(text: str, used_password: bool, failed: bool) -> None:
    assert login_failed(text, used_password=used_password) is failed
