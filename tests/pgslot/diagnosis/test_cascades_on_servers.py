"""A standby that streams from a standby: what a creation on it waits for when the upper one receives nothing."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from aiohttp.test_utils import TestClient, TestServer

from exporter.app import application
from healer.commands.heal import heal_cluster
from healer.commands.manual_episode import Exit
from healer.episodes.partial_snapshot import PartialCollector
from pgslot.config.model import Config
from pgslot.diagnosis.creation_wait import WaitReason, creation_waits
from tests.support.running_healer import QUICK, watched
from tests.support.scrapes import Client, config_reloader, get_metrics, scrape_until
from tests.support.servers.conditions import changed_setting
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import EXPORTER_ROLE, Stack
from tests.support.servers.wal import RUNNING_XACTS


@pytest.fixture(scope="module")
def lower(databases: Stack) -> Iterator[Postgres]:
    """A standby of the stack's standby."""
    server = databases.standby.standby("lower")
    try:
        yield server
    finally:
        server.stop()
        databases.standby.drop_slot("lower")


def receiver_runs(server: Postgres) -> bool:
    return bool(server.sql("SELECT 1 FROM pg_catalog.pg_stat_wal_receiver WHERE status = 'streaming'"))


async def test_creation_below_a_standby_that_is_cut_off(
    databases: Stack, lower: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    The primary is idle, so no position shows that nothing would arrive; the first snapshot has to say so.

    Where the upper standby is not configured, it takes WAL that does not arrive within ten seconds.
    """
    servers = (databases.primary, databases.standby, lower)
    reloader = config_reloader(*(server.conninfo(EXPORTER_ROLE) for server in servers))
    databases.primary.wait_until_replayed(databases.standby)
    databases.standby.wait_until_replayed(lower, "pg_catalog.pg_last_wal_replay_lsn()")
    databases.primary.wait_until_idle(lower)
    without_upper = config_reloader(*(server.conninfo(EXPORTER_ROLE) for server in (databases.primary, lower)))
    async with (
        TestClient(TestServer(application(reloader))) as client,
        TestClient(TestServer(application(without_upper))) as blind,
    ):
        with changed_setting(databases.standby, "primary_conninfo", "''"):
            wait_for(lambda: not receiver_runs(databases.standby), "the upper standby receives nothing")
            assert receiver_runs(lower)
            before = databases.primary.lsn()
            with lower.create_slot("below"):
                await shows_reason(client, "wal_receiver_down")
                await is_known_to_an_episode(reloader.config)
                healed = replace(watched(databases), nodes=reloader.config.clusters[0].nodes)
                code = await heal_cluster(Config((healed,), QUICK), "c", dry_run=False, give_up_after=2, as_json=True)
                episode = json.loads(capsys.readouterr().out)["episode"]
                assert (code, episode["outcome"], episode["calls"]) == (Exit.NOT_HEALED, "gave_up", 0)
                assert "wal_receiver_down" in episode["why"]
                assert RUNNING_XACTS not in databases.primary.kinds_since(before)
                await shows_reason(blind, "running_xacts")
                databases.primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
                cut_off = {"below": "wal_receiver_down"}
                await scrape_until(blind, lambda metrics: metrics.reasons() == cut_off, timeout=40)
            lower.drop_slot("below")
        wait_for(lambda: receiver_runs(databases.standby), "the upper standby streams again")
        databases.primary.wait_until_idle(lower)
        with lower.create_slot("below") as creator:
            await shows_reason(client, "running_xacts")
            databases.primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
            assert creator.wait(10)
        lower.drop_slot("below")


async def shows_reason(client: Client, reason: str) -> None:
    metrics = await get_metrics(client, "/metrics")
    assert metrics.reasons() == {"below": reason}


async def is_known_to_an_episode(config: Config) -> None:
    """An episode queries the node and the primary alone, unless that node streams from a third."""
    [cluster] = config.clusters
    collector = PartialCollector(cluster)
    try:
        for _ in range(3):
            [wait] = creation_waits(await collector.collect({cluster.nodes[-1].name}))
            assert wait.reason is WaitReason.WAL_RECEIVER_DOWN
    finally:
        await collector.close()
