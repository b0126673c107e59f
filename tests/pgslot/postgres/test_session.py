"""One bounded connection, on real servers; what the files about looks and calls do not show."""

import asyncio
import os
import resource
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Node
from pgslot.postgres.session import Session
from pgslot.snapshot.model import NodeSnapshot, QueryStatus
from pgslot.snapshot.node import NodeCollector
from tests.support.running_healer import to_primary, until
from tests.support.servers.pooler import Pooler
from tests.support.servers.postgres import Postgres
from tests.support.servers.stack import EXPORTER_ROLE, HEALER_ROLE, Stack


@dataclass(frozen=True)
class Row:
    value: str


async def looked(conninfo: str) -> NodeSnapshot:
    observer = NodeCollector(Node("c", "n", Conninfo(conninfo)), "looked")
    try:
        return await observer.collect(5)
    finally:
        await observer.close()


async def test_a_connection_given_up_half_way_is_closed_although_its_task_is_kept(databases: Stack) -> None:
    """Cancelled at many points of connecting to a standby first and to the primary then."""
    conninfo = to_primary(databases.standby, databases.primary, role=EXPORTER_ROLE)
    kept = []
    for i in range(100):
        task = asyncio.create_task(Session.connect(conninfo, application_name="given_up", timeout=5))
        await asyncio.sleep(i * 0.0001)
        if not task.cancel():
            await task.result().close()
        kept.append(task)
    results = await asyncio.gather(*kept, return_exceptions=True)
    given_up = [each for each in results if isinstance(each, asyncio.CancelledError)]
    assert len(given_up) >= 5, "it was not cancelled while it connected"
    for server in (databases.primary, databases.standby):
        await until(partial(_no_session, server), "no session is left", 5)


def _no_session(server: Postgres) -> bool:
    return not server.sql("SELECT 1 FROM pg_catalog.pg_stat_activity WHERE usename = %s", [EXPORTER_ROLE])


async def test_descriptors_above_1023_do_not_matter(databases: Stack) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        session = await Session.connect(databases.primary.conninfo(EXPORTER_ROLE), application_name="high", timeout=5)
        assert session._connection.fileno() > 1023
        assert not session.stale
        databases.primary.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'high'")
        await until(lambda: session.stale, "the server's good-bye is noticed", 5)
        await session.close()
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_deadline_holds_without_any_descriptor_left(databases: Stack) -> None:
    session = await Session.connect(databases.primary.conninfo(EXPORTER_ROLE), application_name="none left", timeout=5)
    await session.fetch([("SELECT 'x'::text AS value", Row)], 5)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    databases.primary.pause_all()
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (session._connection.fileno() + 50, hard))
        with suppress(OSError):
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        with pytest.raises(TimeoutError, match=r"no answer in 1\.0 s"):
            await asyncio.wait_for(session.fetch([("SELECT 'x'::text AS value", Row)], 1), 5)
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        databases.primary.resume_all()
        await session.close()


async def test_a_strangers_functions_are_not_run(databases: Stack) -> None:
    """Types that our queries name without a schema are pg_catalog's, whatever the database's search_path."""
    primary = databases.primary
    primary.sql("CREATE DATABASE app")
    try:
        primary.sql("ALTER DATABASE app SET search_path = public, pg_catalog")
        with psycopg.connect(primary.conninfo(dbname="app"), autocommit=True) as stranger:
            stranger.execute("CREATE TABLE public.seen (name pg_catalog.text)")
            for kind in ("text", "int8", "bool", "float8"):
                stranger.execute(
                    f"CREATE FUNCTION public.evil(value pg_catalog.{kind}) RETURNS pg_catalog.bool LANGUAGE plpgsql"
                    " AS $$ BEGIN RAISE EXCEPTION 'a stranger runs'; END $$".encode()
                )
                check = f"public.evil(VALUE::pg_catalog.{kind})"
                stranger.execute(f"CREATE DOMAIN public.{kind} AS pg_catalog.{kind} CHECK ({check})".encode())
        snapshot = await looked(primary.conninfo(EXPORTER_ROLE, "app"))
        assert set(snapshot.statuses.values()) == {QueryStatus.OK}
    finally:
        primary.sql("DROP DATABASE app WITH (FORCE)")


@contextmanager
def logged_in_as(server: Postgres, user: bytes, database: bytes) -> Iterator[None]:
    """Hold a transaction open under a name that is not UTF-8, which no driver would send."""
    body = struct.pack("!i", 196608) + b"user\0" + user + b"\0database\0" + database + b"\0\0"
    query = b"BEGIN; SELECT pg_current_xact_id()\0"
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
        raw.sendall(struct.pack("!i", len(body) + 4) + body)
        answer = b""
        while b"Z\0\0\0\x05I" not in answer:
            answer += raw.recv(65536)
        raw.sendall(b"Q" + struct.pack("!i", len(query) + 4) + query)
        while b"Z\0\0\0\x05T" not in answer:
            answer += raw.recv(65536)
        yield


@pytest.mark.parametrize(
    ("encoding", "expected"), [("SQL_ASCII", "andr\N{REPLACEMENT CHARACTER}"), ("LATIN1", "andr\u00e9")]
)
@pytest.mark.parametrize("watched", ["postgres", "odd"])
async def test_a_name_that_is_not_utf_8_costs_a_character_and_not_the_node(
    databases: Stack, encoding: str, expected: str, watched: str
) -> None:
    """A role made in such a database; the exporter is connected there, or to an ordinary database beside it."""
    primary = databases.primary
    primary.sql(f"CREATE DATABASE odd ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'")
    name = "andr\u00e9".encode("latin1")
    with psycopg.connect(primary.conninfo(dbname="odd"), autocommit=True, client_encoding=encoding) as there:
        there.execute(b'CREATE ROLE "' + name + b'" LOGIN')
        try:
            with logged_in_as(primary, name, b"odd"):
                snapshot = await looked(primary.conninfo(EXPORTER_ROLE, watched))
            assert set(snapshot.statuses.values()) == {QueryStatus.OK}
            [holder] = [found for found in snapshot.transactions or () if found.oldest_xid]
            assert holder.usename == (expected if watched == "odd" else "andr\N{REPLACEMENT CHARACTER}")
        finally:
            there.execute(b'DROP ROLE "' + name + b'"')
            primary.sql("DROP DATABASE odd WITH (FORCE)")


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_behind_a_pooler_it_works_and_leaves_nothing_to_other_clients(databases: Stack, mode: str) -> None:
    with Pooler(databases.primary, databases.folder, mode, size=1 if mode == "transaction" else 5) as pooler:
        conninfo = through(pooler, EXPORTER_ROLE)
        observer = NodeCollector(Node("c", "n", Conninfo(conninfo)), "pooled")
        # Through the same connection to the server, in turn with the exporter.
        with psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as other:
            before = settings_of(other)
            for _ in range(3):
                snapshot = await observer.collect(5)
                assert set(snapshot.statuses.values()) == {QueryStatus.OK}
                assert snapshot.facts is not None
                assert settings_of(other) == before
                assert other.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
        assert observer._session is not None
        assert observer._session.pooled
        await observer.close()


def settings_of(connection: psycopg.Connection[tuple[object, ...]]) -> list[tuple[object, ...]]:
    return connection.execute(
        "SELECT name, setting FROM pg_settings WHERE name IN ('default_transaction_read_only', 'statement_timeout',"
        " 'lock_timeout', 'search_path') ORDER BY name"
    ).fetchall()


async def test_behind_a_pooler_a_probe_that_fails_costs_that_probe(databases: Stack) -> None:
    with Pooler(databases.primary, databases.folder, "transaction", size=1) as pooler:
        # A role without pg_monitor.
        statuses = (await looked(through(pooler, HEALER_ROLE))).statuses
        assert (statuses["slots"], statuses["transactions"]) == (QueryStatus.OK, QueryStatus.PERMISSION_DENIED)
        observer = NodeCollector(Node("c", "n", Conninfo(through(pooler, EXPORTER_ROLE))), "pooled")
        await observer.collect(5)
        # pg_prepared_xacts reads it.
        with databases.primary.lock("pg_catalog.pg_authid"):
            statuses = (await observer.collect(5)).statuses
        assert (statuses["slots"], statuses["transactions"]) == (QueryStatus.OK, QueryStatus.TIMEOUT)
        assert set((await observer.collect(5)).statuses.values()) == {QueryStatus.OK}
        await observer.close()


def through(pooler: Pooler, role: str) -> str:
    return f"host=127.0.0.1 port={pooler.port} dbname=postgres user={role}"


async def test_without_a_pooler_it_knows_that_as_well(databases: Stack) -> None:
    conninfo = make_conninfo(databases.primary.conninfo(EXPORTER_ROLE))
    session = await Session.connect(conninfo, application_name="direct", timeout=5)
    assert session.pooled is None
    assert await session.fetch([("SELECT 'x'::text AS value", Row)], 5) == [[Row("x")]]
    assert session.pooled is False
    await session.close()
