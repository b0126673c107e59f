"""On real servers a standby's slot is shown unprotected, with the node to blame, before vacuum invalidates it."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiohttp.test_utils import TestClient, TestServer

from exporter.app import application
from tests.support.every_version import client
from tests.support.scrapes import PRIMARY, STANDBY, Client, Metrics, config_reloader, get_metrics, scrape, scrape_until
from tests.support.servers.conditions import changed_settings
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import EXPORTER_ROLE, Stack

__all__ = ["client"]

pytestmark = pytest.mark.timeout(180)

LEAF = "n2"


def margin(metrics: Metrics, slot: str, node: str = STANDBY) -> float | None:
    return metrics.value("pgslot_catalog_xmin_margin_xids", slot_name=slot, node=node)


def broken(metrics: Metrics, node: str = STANDBY) -> tuple[str, str] | None:
    """Return why feedback about the node's slots ends, and at which node; None: it does not."""
    found = metrics.found("pgslot_feedback_broken_info", node=node)
    assert len(found) <= 1, found
    return (found[0][0]["reason"], found[0][0]["broken_at"]) if found else None


def is_protected(metrics: Metrics, slot: str, node: str = STANDBY) -> bool:
    xids = margin(metrics, slot, node)
    return xids is not None and xids >= 0 and broken(metrics, node) is None


def keeps_nothing(primary: Postgres, physical_slot: str) -> bool:
    query = "SELECT xmin IS NULL AND catalog_xmin IS NULL FROM pg_catalog.pg_replication_slots WHERE slot_name = %s"
    return primary.sql(query, [physical_slot]) == [(True,)]


def vacuum_catalog(primary: Postgres, standby: Postgres, slot: str) -> bool:
    """Remove rows of a catalog; return whether that has invalidated the standby's slot."""
    primary.sql("CREATE TABLE passing (id int)")
    primary.sql("DROP TABLE passing")
    primary.sql("VACUUM pg_catalog.pg_class")
    primary.wait_until_replayed(standby)
    query = "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = %s AND wal_status = 'lost'"
    return bool(standby.sql(query, [slot]))


async def test_slot_is_shown_unprotected_before_vacuum_invalidates_it(client: Client, databases: Stack) -> None:
    primary, standby = databases.primary, databases.standby
    databases.make_slot_on_standby("own")
    await scrape_until(client, lambda metrics: is_protected(metrics, "own"))
    for _ in range(3):
        assert not vacuum_catalog(primary, standby, "own"), "feedback protects it"
    with changed_settings(standby, hot_standby_feedback="off"):
        wait_for(lambda: keeps_nothing(primary, "standby"), "feedback is withdrawn")
        primary.sql("SELECT pg_catalog.pg_current_xact_id()")
        metrics = await scrape_until(client, lambda metrics: (margin(metrics, "own") or 0) < 0)
        assert broken(metrics) == ("hot_standby_feedback_off", STANDBY)
        assert metrics.state("pgslot_invalidation_reason", "reason", slot_name="own", node=STANDBY) is None
        wait_for(lambda: vacuum_catalog(primary, standby, "own"), "the slot is invalidated")
        metrics = Metrics(await scrape(client))
        assert metrics.state("pgslot_invalidation_reason", "reason", slot_name="own", node=STANDBY) in (
            ("unknown",) if databases.major < 17 else ("rows_removed",)
        )
        assert (margin(metrics, "own"), broken(metrics)) == (None, None)


async def test_probe_of_a_standby_shows_the_margin_by_its_primary(databases: Stack) -> None:
    databases.make_slot_on_standby("probed")
    nodes = (server.conninfo(EXPORTER_ROLE) for server in (databases.primary, databases.standby))
    async with TestClient(TestServer(application(config_reloader(*nodes)))) as client:
        metrics = await get_metrics(client, f"/probe?cluster=c&node={STANDBY}")
        assert margin(metrics, "probed") is not None
        assert metrics.found("pgslot_up", node=PRIMARY) == []


@contextmanager
def cascade(databases: Stack) -> Iterator[Postgres]:
    """A standby of the standby, which uses a physical slot there."""
    middle = databases.standby
    leaf = middle.standby("leaf")
    try:
        yield leaf
    finally:
        leaf.stop()
        middle.drop_slot("leaf")


async def test_cascade_that_keeps_feedback_to_itself_is_to_blame(databases: Stack) -> None:
    primary, middle = databases.primary, databases.standby
    with cascade(databases) as leaf:
        with leaf.create_slot("deep") as creator:
            record = "SELECT pg_catalog.pg_log_standby_snapshot()"
            wait_for(lambda: creator.wait(0.2) or not primary.sql(record), "it is made")
        nodes = (server.conninfo(EXPORTER_ROLE) for server in (primary, middle, leaf))
        async with TestClient(TestServer(application(config_reloader(*nodes)))) as client:
            await scrape_until(client, lambda metrics: is_protected(metrics, "deep", LEAF))
            with changed_settings(middle, hot_standby_feedback="off"):
                wait_for(lambda: keeps_nothing(primary, "standby"), "feedback is withdrawn")
                primary.sql("SELECT pg_catalog.pg_current_xact_id()")
                metrics = await scrape_until(client, lambda metrics: (margin(metrics, "deep", LEAF) or 0) < 0)
                assert broken(metrics, LEAF) == ("hot_standby_feedback_off", STANDBY)
                assert not keeps_nothing(middle, "leaf"), "the leaf's own feedback arrives"
                wait_for(lambda: vacuum_catalog(primary, leaf, "deep"), "the slot is invalidated")
        leaf.drop_slot("deep")
