"""What only PostgreSQL 19 has: slots of REPACK, the slot of retain_dead_tuples, and new statistics."""

from collections.abc import AsyncIterator, Iterator

import psycopg
import pytest
from aiohttp.test_utils import TestClient, TestServer

from exporter.app import application
from tests.support.scrapes import PRIMARY, Client, Metrics, config_reloader, scrape, scrape_until
from tests.support.servers.binaries import NEXT
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for
from tests.support.servers.sessions import Statement
from tests.support.servers.stack import CREATE_EXPORTER, EXPORTER_ROLE, Stack

LIMIT = 3
REPACK = "SELECT slot_name::text FROM pg_catalog.pg_replication_slots WHERE plugin = 'pgrepack'"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with Stack(major=NEXT) as stack:
        server = stack.single(
            wal_level="replica",
            max_replication_slots=f"{LIMIT}",
            max_repack_replication_slots="1",
            track_commit_timestamp="on",
            logical_decoding_work_mem="64kB",
        )
        server.sql(CREATE_EXPORTER)
        server.sql("CREATE TABLE orders (id int PRIMARY KEY, item text)")
        server.sql("INSERT INTO orders SELECT n, 'item' FROM generate_series(1, 100) AS n")
        yield server


@pytest.fixture
async def client(server: Postgres) -> AsyncIterator[Client]:
    async with TestClient(TestServer(application(config_reloader(server.conninfo(EXPORTER_ROLE))))) as client:
        yield client


async def test_slot_of_repack_is_no_slot_in_creation_and_takes_no_place(client: Client, server: Postgres) -> None:
    with (
        server.hold_transaction() as holder,
        Statement(server.conninfo(), "REPACK (CONCURRENTLY) orders", lambda: bool(server.sql(REPACK))) as repack,
    ):
        created = (
            "SELECT 1 FROM pg_catalog.pg_stat_activity"
            " WHERE backend_type = 'REPACK decoding worker' AND wait_event = 'transactionid'"
        )
        wait_for(lambda: server.sql(created), "REPACK waits for the transaction")
        [(name, temporary, confirmed)] = server.sql(
            "SELECT slot_name::text, temporary, confirmed_flush_lsn::text FROM pg_catalog.pg_replication_slots"
        )
        assert (name[: len("pg_repack_")], temporary, confirmed) == ("pg_repack_", True, None)
        metrics = Metrics(await scrape(client))
        assert metrics.value("pgslot_up", node=PRIMARY) == 1
        assert metrics.value("pgslot_creations_waiting", node=PRIMARY) == 0
        assert metrics.reasons() == {}
        assert metrics.value("pgslot_replication_slots", node=PRIMARY) == 0
        # It enables logical decoding while it lasts, as a slot of a client does.
        assert metrics.labels("pgslot_wal_level_info", node=PRIMARY)["effective_wal_level"] == "logical"
        assert not any(name in text for series in metrics.series.values() for labels in series for _, text in labels)

        # All places of max_replication_slots are still free.
        server.sql(
            "SELECT pg_catalog.pg_create_physical_replication_slot('p' || n) FROM generate_series(1, %s) AS n", [LIMIT]
        )
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
            server.sql("SELECT pg_catalog.pg_create_physical_replication_slot('more')")
        metrics = Metrics(await scrape(client))
        assert metrics.value("pgslot_replication_slots", node=PRIMARY) == LIMIT
        assert metrics.value("pgslot_max_replication_slots", node=PRIMARY) == LIMIT
        holder.commit()
        assert repack.wait(30)
        assert repack.error is None
    for n in range(1, LIMIT + 1):
        server.drop_slot(f"p{n}")


async def test_slot_of_repack_that_waits_for_its_last_lock_has_no_series(client: Client, server: Postgres) -> None:
    with psycopg.connect(server.conninfo()) as reader:
        reader.execute("SELECT count(*) FROM orders")
        with Statement(server.conninfo(), "REPACK (CONCURRENTLY) orders", lambda: bool(server.sql(REPACK))) as repack:
            waits = f"{REPACK} AND confirmed_flush_lsn IS NOT NULL"
            wait_for(lambda: server.sql(waits), "REPACK has its slot")
            metrics = Metrics(await scrape(client))
            assert metrics.found("pgslot_slot_info") == []
            assert metrics.value("pgslot_replication_slots", node=PRIMARY) == 0
            reader.rollback()
            assert repack.wait(30)
            assert repack.error is None
    wait_for(
        lambda: server.sql("SHOW effective_wal_level") == [("replica",)], "nothing enables logical decoding any more"
    )


def test_no_client_gets_the_plugin_by_which_slots_of_repack_are_recognised(server: Postgres) -> None:
    with pytest.raises(psycopg.errors.FeatureNotSupported, match="can only be used by REPACK"):
        server.sql("SELECT pg_catalog.pg_create_logical_replication_slot('mine', 'pgrepack', true)")


async def test_slot_of_retain_dead_tuples_is_shown_as_used_and_cannot_be_dropped(
    client: Client, server: Postgres
) -> None:
    server.sql(
        "CREATE SUBSCRIPTION sub CONNECTION 'host=127.0.0.1 port=1 dbname=postgres' PUBLICATION p"
        " WITH (connect = false, slot_name = 'sub', retain_dead_tuples = true)"
    )
    slot = "pg_conflict_detection"
    try:
        server.sql("ALTER SUBSCRIPTION sub ENABLE")
        metrics = await scrape_until(client, lambda metrics: metrics.value("pgslot_active", slot_name=slot) == 1)
        assert metrics.labels("pgslot_slot_info", slot_name=slot)["slot_type"] == "physical"
        assert metrics.state("pgslot_retention_cause", "cause", slot_name=slot) is None
        assert metrics.value("pgslot_retained_wal_bytes", slot_name=slot) is None, "it reserves no WAL"
        assert metrics.value("pgslot_xmin_age_xids", slot_name=slot) is not None, "it holds back vacuum"
        # It takes one of max_replication_slots, unlike those of REPACK.
        assert metrics.value("pgslot_replication_slots", node=PRIMARY) == 1
        server.sql("ALTER SUBSCRIPTION sub DISABLE")
        with pytest.raises(psycopg.Error, match="can only be acquired by logical replication launcher"):
            server.sql("SELECT pg_catalog.pg_drop_replication_slot(%s)", [slot])
    finally:
        server.sql("ALTER SUBSCRIPTION sub DISABLE")
        server.sql("ALTER SUBSCRIPTION sub SET (slot_name = NONE)")
        server.sql("DROP SUBSCRIPTION sub")
    await scrape_until(client, lambda metrics: metrics.value("pgslot_active", slot_name=slot) is None)


async def test_decoding_beyond_its_memory_is_counted(client: Client, server: Postgres) -> None:
    name = "pgslot_decoding_mem_exceeded_count_total"
    server.sql("SELECT pg_catalog.pg_create_logical_replication_slot('large', 'test_decoding')")
    try:
        server.sql("INSERT INTO orders SELECT n, 'large' FROM generate_series(1000, 3000) AS n")
        metrics = Metrics(await scrape(client))
        assert metrics.value(name, slot_name="large") == 0
        server.sql("SELECT count(*) FROM pg_catalog.pg_logical_slot_get_changes('large', NULL, NULL)")
        metrics = await scrape_until(client, lambda metrics: (metrics.value(name, slot_name="large") or 0) > 0)
        assert metrics.value("pgslot_decoding_spill_txns_total", slot_name="large") == 1
        # Only copies of failover slots are synchronised.
        assert metrics.found("pgslot_slotsync_skips_total") == []
    finally:
        server.drop_slot("large")


@pytest.mark.parametrize("setting", ["ANY 2 (a, b)", "FIRST 1 (a, b)", "2 (a, b)"])
def test_server_accepts_nothing_but_a_list_of_standby_slots(server: Postgres, setting: str) -> None:
    with pytest.raises(psycopg.errors.InvalidParameterValue):
        server.sql(f"ALTER SYSTEM SET synchronized_standby_slots = '{setting}'")
