"""A session with deadlines, on real servers, beyond what the tests of the snapshot and the remedies show."""

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


async def collected(conninfo: str) -> NodeSnapshot:
    collector = NodeCollector(Node("c", "n", Conninfo(conninfo)), "collected")
    try:
        return await collector.collect(5)
    finally:
        await collector.close()


async def test_a_cancelled_connection_is_closed_although_its_task_is_kept(databases: Stack) -> None:
    """Cancelled at many points while it connects to a standby and then to the primary."""
    conninfo = to_primary(databases.standby, databases.primary, role=EXPORTER_ROLE)
    kept = []
    for i in range(100):
        task = asyncio.create_task(Session.connect(conninfo, application_name="cancelled", timeout=5))
        await asyncio.sleep(i * 0.0001)
        if not task.cancel():
            await task.result().close()
        kept.append(task)
    results = await asyncio.gather(*kept, return_exceptions=True)
    cancelled = [result for result in results if isinstance(result, asyncio.CancelledError)]
    assert len(cancelled) >= 5, "it was not cancelled while it connected"
    for server in (databases.primary, databases.standby):
        await until(partial(_no_session, server), "no session is left", 5)


def lowest_free_descriptor() -> int:
    """Return the descriptor that the next open() or connect() would get."""
    descriptor = os.open("/dev/null", os.O_RDONLY)
    os.close(descriptor)
    return descriptor


def _no_session(server: Postgres) -> bool:
    return not server.sql("SELECT 1 FROM pg_catalog.pg_stat_activity WHERE usename = %s", [EXPORTER_ROLE])


async def test_a_descriptor_above_1023_can_be_watched(databases: Stack) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    held = [os.open("/dev/null", os.O_RDONLY) for _ in range(1100)]
    try:
        assert lowest_free_descriptor() > 1023
        session = await Session.connect(databases.primary.conninfo(EXPORTER_ROLE), application_name="high", timeout=5)
        assert not session.stale
        databases.primary.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'high'")
        await until(lambda: session.stale, "the end of the connection is noticed", 5)
        await session.close()
    finally:
        for descriptor in held:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_deadline_holds_without_free_descriptors(databases: Stack) -> None:
    session = await Session.connect(databases.primary.conninfo(EXPORTER_ROLE), application_name="none left", timeout=5)
    await session.fetch([("SELECT 'x'::text AS value", Row)], 5)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    databases.primary.pause_all()
    held = []
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free_descriptor() + 50, hard))
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


async def test_functions_of_other_users_are_not_run(databases: Stack) -> None:
    """Types that our queries name without a schema are pg_catalog's, whatever the database's search_path."""
    primary = databases.primary
    primary.sql("CREATE DATABASE app")
    try:
        primary.sql("ALTER DATABASE app SET search_path = public, pg_catalog")
        with psycopg.connect(primary.conninfo(dbname="app"), autocommit=True) as other:
            other.execute("CREATE TABLE public.seen (name pg_catalog.text)")
            for kind in ("text", "int8", "bool", "float8"):
                other.execute(
                    f"CREATE FUNCTION public.evil(value pg_catalog.{kind}) RETURNS pg_catalog.bool LANGUAGE plpgsql"
                    " AS $$ BEGIN RAISE EXCEPTION 'it runs'; END $$".encode()
                )
                check = f"public.evil(VALUE::pg_catalog.{kind})"
                other.execute(f"CREATE DOMAIN public.{kind} AS pg_catalog.{kind} CHECK ({check})".encode())
        snapshot = await collected(primary.conninfo(EXPORTER_ROLE, "app"))
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
async def test_a_name_that_is_not_utf_8_loses_a_character_and_the_node_stays_visible(
    databases: Stack, encoding: str, expected: str, watched: str
) -> None:
    """The role was created in such a database; the exporter is connected to it, or to an ordinary one."""
    primary = databases.primary
    primary.sql(f"CREATE DATABASE odd ENCODING '{encoding}' TEMPLATE template0 LOCALE 'C'")
    name = "andr\u00e9".encode("latin1")
    with psycopg.connect(primary.conninfo(dbname="odd"), autocommit=True, client_encoding=encoding) as there:
        there.execute(b'CREATE ROLE "' + name + b'" LOGIN')
        try:
            with logged_in_as(primary, name, b"odd"):
                snapshot = await collected(primary.conninfo(EXPORTER_ROLE, watched))
            assert set(snapshot.statuses.values()) == {QueryStatus.OK}
            [holder] = [session for session in snapshot.transactions or () if session.oldest_xid]
            assert holder.usename == (expected if watched == "odd" else "andr\N{REPLACEMENT CHARACTER}")
        finally:
            there.execute(b'DROP ROLE "' + name + b'"')
            primary.sql("DROP DATABASE odd WITH (FORCE)")


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_behind_a_pooler_nothing_is_left_in_sessions_of_other_clients(databases: Stack, mode: str) -> None:
    with Pooler(databases.primary, databases.folder, mode, size=1 if mode == "transaction" else 5) as pooler:
        conninfo = through(pooler, EXPORTER_ROLE)
        collector = NodeCollector(Node("c", "n", Conninfo(conninfo)), "pooled")
        # In transaction mode it uses the same connection to the server, in turn with the exporter.
        with psycopg.connect(conninfo, autocommit=True, prepare_threshold=None) as other:
            before = settings_of(other)
            for _ in range(3):
                snapshot = await collector.collect(5)
                assert set(snapshot.statuses.values()) == {QueryStatus.OK}
                assert snapshot.facts is not None
                assert settings_of(other) == before
                assert other.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (0,)
        await collector.close()
        session = await Session.connect(conninfo, application_name="pooled", timeout=5)
        assert await session.fetch([("SELECT 'x'::text AS value", Row)], 5) == [[Row("x")]]
        assert session.pooled
        await session.close()


def settings_of(connection: psycopg.Connection[tuple[object, ...]]) -> list[tuple[object, ...]]:
    return connection.execute(
        "SELECT name, setting FROM pg_settings WHERE name IN ('default_transaction_read_only', 'statement_timeout',"
        " 'lock_timeout', 'search_path') ORDER BY name"
    ).fetchall()


async def test_behind_a_pooler_a_query_that_fails_does_not_fail_the_others(databases: Stack) -> None:
    with Pooler(databases.primary, databases.folder, "transaction", size=1) as pooler:
        # A role without pg_read_all_stats.
        statuses = (await collected(through(pooler, HEALER_ROLE))).statuses
        assert (statuses["slots"], statuses["transactions"]) == (QueryStatus.OK, QueryStatus.PERMISSION_DENIED)
        collector = NodeCollector(Node("c", "n", Conninfo(through(pooler, EXPORTER_ROLE))), "pooled")
        await collector.collect(5)
        # pg_prepared_xacts reads it.
        with databases.primary.lock("pg_catalog.pg_authid"):
            statuses = (await collector.collect(5)).statuses
        assert (statuses["slots"], statuses["transactions"]) == (QueryStatus.OK, QueryStatus.TIMEOUT)
        assert set((await collector.collect(5)).statuses.values()) == {QueryStatus.OK}
        await collector.close()


def through(pooler: Pooler, role: str) -> str:
    return f"host=127.0.0.1 port={pooler.port} dbname=postgres user={role}"


async def test_a_direct_connection_is_recognized_as_such(databases: Stack) -> None:
    conninfo = make_conninfo(databases.primary.conninfo(EXPORTER_ROLE))
    session = await Session.connect(conninfo, application_name="direct", timeout=5)
    assert session.pooled is None
    assert await session.fetch([("SELECT 'x'::text AS value", Row)], 5) == [[Row("x")]]
    assert session.pooled is False
    await session.close()
