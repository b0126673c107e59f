"""PostgreSQL 19, which raises the effective wal_level when the first logical slot is created."""

import pytest

from healer.doctor.server_facts import Server, fetch_server
from pgslot.config.conninfo import Conninfo
from tests.support.servers.binaries import NEXT
from tests.support.servers.stack import Stack


@pytest.mark.servers
async def test_wal_level_is_the_effective_one() -> None:
    with Stack(major=NEXT) as stack:
        server = stack.single(wal_level="replica")
        conninfo = Conninfo(server.conninfo())
        before = await fetch_server(conninfo)
        server.sql("SELECT pg_catalog.pg_create_logical_replication_slot('first', 'pgoutput')")
        assert server.sql("SHOW wal_level") == [("replica",)]
        after = await fetch_server(conninfo)
    assert isinstance(before, Server)
    assert isinstance(after, Server)
    assert (before.facts.wal_level, after.facts.wal_level) == ("replica", "logical")
