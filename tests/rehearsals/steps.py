"""What several scenes do to the servers."""

from typing import Any

import psycopg

from tests.rehearsals.switchover import Switchover
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for


def waits(pair: Switchover, slot: str) -> bool:
    """Return whether the slot's consumer hangs on the new primary."""
    try:
        pair.read(pair.standby, slot)
    except psycopg.errors.QueryCanceled:
        return True
    return False


def in_use(server: Postgres, slot: str) -> bool:
    query = "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = %s AND active"
    return bool(server.sql(query, [slot]))


def walsender(server: Postgres) -> psycopg.Connection[Any]:
    """Connect as a consumer does; the walsender counts, whatever it sends."""
    return psycopg.connect(f"{server.conninfo()} replication=database", autocommit=True)


def change(server: Postgres, name: str, value: str) -> None:
    """Change a setting of a running server."""
    server.sql(f"ALTER SYSTEM SET {name} = '{value}'")
    server.sql("SELECT pg_catalog.pg_reload_conf()")
    wait_for(lambda: server.sql(f"SHOW {name}") == [(value,)], f"{name} = {value!r}")
