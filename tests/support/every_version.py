"""Fixtures: a primary and its standby of each PostgreSQL version in turn, and the exporter on them."""

from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from aiohttp.test_utils import TestClient, TestServer

from exporter.app import application
from pgslot.snapshot.queries import SUPPORTED
from tests.support.scrapes import Client, Metrics, config_reloader, scrape_until
from tests.support.servers.postgres import Postgres
from tests.support.servers.sessions import Statement
from tests.support.servers.stack import EXPORTER_ROLE, Stack

CREATORS = ("by_walsender", "by_function")


@pytest.fixture(scope="module", params=SUPPORTED)
def databases(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Overrides the fixture of the session: a primary and its standby of each version in turn."""
    with Stack(major=request.param) as stack:
        stack.start_databases()
        yield stack


@pytest.fixture
async def client(databases: Stack) -> AsyncIterator[Client]:
    nodes = (server.conninfo(EXPORTER_ROLE) for server in (databases.primary, databases.standby))
    async with TestClient(TestServer(application(config_reloader(*nodes)))) as started:
        yield started


async def until_waiting(client: Client, reason: str) -> Metrics:
    return await scrape_until(client, lambda metrics: metrics.reasons() == dict.fromkeys(CREATORS, reason))


@contextmanager
def both_creators(server: Postgres) -> Iterator[tuple[Statement, Statement]]:
    """Create two slots at the same time, by a walsender and by a function."""
    with ExitStack() as stack:
        for slot in CREATORS:
            stack.callback(server.drop_slot, slot)
        by_walsender = stack.enter_context(server.create_slot(CREATORS[0]))
        yield by_walsender, stack.enter_context(server.create_slot_by_function(CREATORS[1]))
