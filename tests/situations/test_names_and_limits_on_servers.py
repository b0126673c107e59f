"""Names of 63 characters and beyond ASCII, databases that are renamed and dropped, and the last slot of a server."""

from collections.abc import AsyncIterator

import psycopg
import pytest
from aiohttp.test_utils import TestClient, TestServer

from exporter.app import application
from tests.support.scrapes import PRIMARY, Client, Metrics, config_reloader, scrape
from tests.support.servers.stack import EXPORTER_ROLE, Stack

pytestmark = pytest.mark.usefixtures("young_transactions")

LONGEST = "x" * 63
NAMES = ("datenbänk€", "Röle", "ünbekannt")
"""Of a database, a role, and a prepared transaction."""


@pytest.fixture
async def client(databases: Stack) -> AsyncIterator[Client]:
    reloader = config_reloader(databases.primary.conninfo(EXPORTER_ROLE))
    async with TestClient(TestServer(application(reloader))) as started:
        yield started


def databases_of(metrics: Metrics, slot: str) -> set[str]:
    names = ("pgslot_active", "pgslot_retained_wal_bytes", "pgslot_slot_info", "pgslot_retention_cause")
    return {labels["database"] for name in names for labels, _ in metrics.found(name, slot_name=slot)}


async def test_longest_and_non_ascii_names_are_shown_whole(client: Client, databases: Stack) -> None:
    primary, (database, role, gid) = databases.primary, NAMES
    primary.sql(f'CREATE DATABASE "{database}"')
    primary.sql(f'CREATE ROLE "{role}" LOGIN SUPERUSER')
    create = "SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput')"
    with psycopg.connect(primary.conninfo(dbname=database), autocommit=True) as inside:
        inside.execute(create, [LONGEST])
    with psycopg.connect(primary.conninfo(user=role, dbname=database)) as writer:
        writer.execute("SELECT pg_catalog.pg_current_xact_id()")
        writer.execute(f"PREPARE TRANSACTION '{gid}'".encode())
    metrics = Metrics(await scrape(client))
    assert databases_of(metrics, LONGEST) == {database}
    labels = metrics.labels("pgslot_oldest_transaction_info", kind="prepared")
    assert (labels["application_name"], labels["datname"], labels["usename"]) == (gid, database, role)

    with psycopg.connect(primary.conninfo(dbname=database), autocommit=True) as inside:
        inside.execute(f"ROLLBACK PREPARED '{gid}'".encode())
    primary.sql(f'ALTER DATABASE "{database}" RENAME TO renamed')
    metrics = Metrics(await scrape(client))
    assert databases_of(metrics, LONGEST) == {"renamed"}, "the next scrape has the new name, and no series of the old"

    # PostgreSQL refuses that while a session uses the slot, and otherwise drops the slot as well.
    primary.sql("DROP DATABASE renamed")
    primary.sql(f'DROP ROLE "{role}"')
    metrics = Metrics(await scrape(client))
    assert databases_of(metrics, LONGEST) == set()
    assert metrics.value("pgslot_up", node=PRIMARY) == 1


async def test_last_slot_of_a_server_is_used_up(client: Client, databases: Stack) -> None:
    primary = databases.primary
    [(limit,)] = primary.sql("SELECT pg_catalog.current_setting('max_replication_slots')::int")
    create = "SELECT pg_catalog.pg_create_physical_replication_slot('full_' || n) FROM generate_series(1, %s) AS n"
    [(used,)] = primary.sql("SELECT count(*) FROM pg_catalog.pg_replication_slots")
    primary.sql(create, [limit - used])
    try:
        metrics = Metrics(await scrape(client))
        assert metrics.value("pgslot_replication_slots", node=PRIMARY) == limit
        assert metrics.value("pgslot_max_replication_slots", node=PRIMARY) == limit
        assert len(metrics.found("pgslot_active", node=PRIMARY)) == limit
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
            primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('one_more', 'pgoutput')")
        metrics = Metrics(await scrape(client))
        assert metrics.value("pgslot_creations_waiting", node=PRIMARY) == 0, "a refused creation leaves nothing to show"
    finally:
        primary.sql(
            "SELECT pg_catalog.pg_drop_replication_slot(slot_name)"
            " FROM pg_catalog.pg_replication_slots WHERE slot_name ~ '^full_'"
        )
    metrics = Metrics(await scrape(client))
    assert metrics.value("pgslot_replication_slots", node=PRIMARY) == used
