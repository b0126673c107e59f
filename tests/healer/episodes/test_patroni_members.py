"""The healer of a cluster whose nodes come from Patroni: an episode continues while members come and go."""

import asyncio
import json
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from aiohttp.test_utils import TestClient, TestServer

from healer.app import application
from pgslot.config.loader import load
from pgslot.config.reload import ConfigReloader
from tests.support.fakes.patroni import Api, apis, real, written
from tests.support.running_healer import Healer, alert
from tests.support.running_healer import until as until_true
from tests.support.servers.stack import EXPORTER_ROLE, HEALER_ROLE, Stack

_CREATED = "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = %s"
AWAY = {"name": "away", "host": "127.0.0.1", "port": 1}


async def test_episode_continues_when_members_change_and_observes_new_ones(databases: Stack, tmp_path: Path) -> None:
    primary, standby = real(databases)
    api = Api({"members": [primary, AWAY]}, None)
    looking, acting = (f"dbname=postgres user={role}" for role in (EXPORTER_ROLE, HEALER_ROLE))
    async with apis(api) as urls:
        config = load(written(tmp_path, f"{{urls: {json.dumps(urls)}, interval: 50ms}}", looking, acting))
        quick = replace(config, healer=replace(config.healer, burst_interval=0.2, interval=0.5))
        configuration = ConfigReloader(lambda: quick, quick)
        async with TestClient(TestServer(application(configuration))) as client:
            healer = Healer(client)
            with ExitStack() as waiting:
                with databases.primary.hold_transaction():
                    waiting.enter_context(databases.primary.create_slot("begun"))
                    await until_true(lambda: databases.primary.sql(_CREATED, ["begun"]), "it is being created")
                    begun = alert("begun", node="primary", cluster="orders")
                    await taken(healer, begun, "started=1")
                    await healer.until(
                        "it has been observed", lambda episodes: episodes[0]["reasons"] == ["transaction"]
                    )
                    assert await healer.post(alert("early", cluster="orders")) == (200, "ignored_unknown_node=1")

                    api.cluster = {"members": [primary, standby]}
                    waiting.enter_context(databases.standby.create_slot("joined"))
                    await until_true(lambda: databases.standby.sql(_CREATED, ["joined"]), "it is being created")
                    await taken(healer, alert("joined", cluster="orders"), "joined=1")
                    assert await healer.value("pgslot_patroni_members", cluster="orders") == 2
                # The second slot is on a node that was not a member when the episode began.
                await healer.until("both have an outcome", lambda episodes: len(episodes[0]["slots"]) == 2)
                [episode] = await healer.episodes()
                outcomes = {slot["slot_name"]: slot["outcome"] for slot in episode["slots"]}
                assert outcomes["begun"] == "resolved_itself"
                assert outcomes["joined"] in ("healed", "resolved_itself")
    for server, slot in ((databases.primary, "begun"), (databases.standby, "joined")):
        server.drop_slot(slot)


async def taken(healer: Healer, about: dict[str, Any], expected: str) -> None:
    """Send an alert until its node is known: that takes as long as Patroni is not asked again."""
    async with asyncio.timeout(20):
        while (answer := await healer.post(about)) != (200, expected):
            assert answer == (200, "ignored_unknown_node=1")
