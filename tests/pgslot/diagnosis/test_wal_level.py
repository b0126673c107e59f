"""Slots of a standby that are lost with the primary's last one: told on PostgreSQL 19, and true there."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from exporter.app import application
from healer.doctor.checks.servers import judge_last_slot
from healer.doctor.result import CheckStatus
from pgslot.diagnosis.peers import needs_primary
from pgslot.diagnosis.wal_level import (
    depends_on_primary,
    has_dependent_slots,
    keeps_logical_decoding,
    slots_keeping_decoding,
)
from pgslot.snapshot.model import NodeSnapshot
from pgslot.snapshot.rows import Slot
from tests.support.builders.snapshots import SLOT, cluster, node, unreachable_node
from tests.support.scrapes import PRIMARY, STANDBY, config_reloader, scrape_until
from tests.support.servers.binaries import NEXT
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import EXPORTER_ROLE, Stack

SLOTS: list[tuple[dict[str, Any], bool, bool]] = [
    ({}, True, True),
    ({"active": False}, True, True),
    ({"slot_type": "physical"}, False, False),
    ({"temporary": True}, False, False),
    ({"temporary": True, "slot_name": "pg_repack_4959", "plugin": "pgrepack"}, False, False),
    ({"in_creation": True}, False, False),
    ({"wal_status": "lost"}, False, False),
    ({"invalidation_reason": "wal_level_insufficient"}, False, False),
    ({"wal_status": None}, True, True),
    # A copy of the primary's slot, and dropped with it.
    ({"synced": True}, True, False),
]


@pytest.mark.parametrize(("changes", "keeps", "depends"), SLOTS)
def test_only_usable_logical_slots_keep_decoding_on_or_depend_on_it(
    changes: dict[str, Any], keeps: bool, depends: bool
) -> None:
    slot = SLOT._replace(**changes)
    assert (keeps_logical_decoding(slot), depends_on_primary(slot)) == (keeps, depends)


def server(
    name: str, *slots: Slot, version: str = "19rc1", wal_level: str = "replica", recovery: bool = False
) -> NodeSnapshot:
    healthy = node(name, recovery=recovery, slots=slots)
    assert healthy.facts is not None
    return replace(healthy, facts=replace(healthy.facts, version=version, wal_level=wal_level))


A, B = SLOT._replace(slot_name="a"), SLOT._replace(slot_name="b")
KEPT = [
    (server("p", A), ("a",)),
    (server("p", A, B), ("a", "b")),
    (server("p", A._replace(temporary=True)), ()),
    (server("p", A, wal_level="logical"), None),
    (server("p", A, version="18.6"), None),
    (replace(server("p"), slots=None), None),
    (unreachable_node("p"), None),
    (None, None),
]


@pytest.mark.parametrize(("primary", "expected"), KEPT)
def test_only_a_19_primary_with_wal_level_replica_has_slots_that_keep_decoding_on(
    primary: NodeSnapshot | None, expected: tuple[str, ...] | None
) -> None:
    assert slots_keeping_decoding(primary) == expected


def test_standby_with_dependent_slots_needs_its_primary() -> None:
    """For /probe, which otherwise queries one node alone."""
    assert needs_primary(server("s", A, recovery=True))
    assert not has_dependent_slots(server("s", A, recovery=True, version="18.6"))
    assert not has_dependent_slots(server("s", A._replace(synced=True), recovery=True))
    assert not has_dependent_slots(server("p", A))


FINDINGS = [
    ((server("p", B), server("s", A, recovery=True)), CheckStatus.WARNING, "s/a will be lost when"),
    ((server("p", B), server("s", A, recovery=True)), CheckStatus.WARNING, "it has b"),
    ((server("p"), server("s", A, recovery=True)), CheckStatus.WARNING, "it has none"),
    ((server("p", A, B), server("s", A, recovery=True)), CheckStatus.OK, "s/a depend on 2"),
    ((unreachable_node("p"), server("s", A, recovery=True)), CheckStatus.SKIPPED, "unknown whether"),
    ((server("p", B), server("s", recovery=True)), None, ""),
    ((server("p", B, wal_level="logical"), server("s", A, recovery=True)), None, ""),
]


@pytest.mark.parametrize(("nodes", "status", "text"), FINDINGS)
def test_doctor_warns_of_slots_that_depend_on_the_primarys_last_one(
    nodes: tuple[NodeSnapshot, ...], status: CheckStatus | None, text: str
) -> None:
    findings = list(judge_last_slot(cluster(*nodes)))
    assert [finding.status for finding in findings] == ([status] if status else [])
    assert all(text in finding.found for finding in findings)


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with Stack(major=NEXT) as stack:
        stack.start_databases(wal_level="replica")
        yield stack


def drop(server: Postgres, slot: str) -> None:
    server.sql("SELECT pg_catalog.pg_drop_replication_slot(%s)", [slot])


async def test_loss_is_shown_before_it_happens(stack: Stack) -> None:
    primary, standby = stack.primary, stack.standby
    create = "SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput')"
    levels, kept = "pgslot_wal_level_info", "pgslot_depends_on_primary_slots"
    nodes = (server.conninfo(EXPORTER_ROLE) for server in (primary, standby))
    async with TestClient(TestServer(application(config_reloader(*nodes)))) as client:
        metrics = await scrape_until(client, lambda metrics: metrics.value("pgslot_up", node=STANDBY) == 1)
        assert metrics.labels(levels, node=PRIMARY)["effective_wal_level"] == "replica"
        primary.sql(create, ["first"])
        primary.sql(create, ["second"])
        stack.make_slot_on_standby("dependent")
        metrics = await scrape_until(client, lambda metrics: metrics.value(kept, slot_name="dependent") == 2)
        for name in (PRIMARY, STANDBY):
            labels = metrics.labels(levels, node=name)
            assert (labels["wal_level"], labels["effective_wal_level"]) == ("replica", "logical")
        assert [own["slot_name"] for own, _ in metrics.found(kept)] == ["dependent"]
        drop(primary, "second")
        await scrape_until(client, lambda metrics: metrics.value(kept, slot_name="dependent") == 1)
        alone = await (await client.get("/probe", params={"cluster": "c", "node": STANDBY})).text()
        assert f'{kept}{{cluster="c",node="{STANDBY}",slot_name="dependent",database="postgres"}} 1' in alone
        drop(primary, "first")
        metrics = await scrape_until(
            client, lambda metrics: metrics.state("pgslot_wal_status", "wal_status", slot_name="dependent") == "lost"
        )
        reason = metrics.state("pgslot_invalidation_reason", "reason", slot_name="dependent")
        assert reason == "wal_level_insufficient"
        assert metrics.found(kept) == []
    drop(standby, "dependent")


async def test_losing_the_last_slot_is_like_dropping_it(stack: Stack) -> None:
    primary, standby = stack.primary, stack.standby
    primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('last', 'pgoutput')")
    stack.make_slot_on_standby("dependent")
    primary.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'")
    primary.sql("SELECT pg_catalog.pg_reload_conf()")
    for _ in range(4):
        primary.sql("SELECT pg_catalog.pg_logical_emit_message(false, 'test', 'something to switch away from')")
        primary.sql("SELECT pg_catalog.pg_switch_wal()")
    primary.wait_until_replayed(standby, "pg_catalog.pg_log_standby_snapshot()")
    primary.sql("CHECKPOINT")
    lost = "SELECT invalidation_reason FROM pg_catalog.pg_replication_slots WHERE slot_name = %s"
    wait_for(lambda: primary.sql(lost, ["last"]) == [("wal_removed",)], "the primary's slot is lost")
    wait_for(
        lambda: standby.sql(lost, ["dependent"]) == [("wal_level_insufficient",)], "the standby's slot is lost, too"
    )
    drop(primary, "last")
    drop(standby, "dependent")
