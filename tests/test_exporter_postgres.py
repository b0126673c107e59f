"""One bounded connection, on real servers; what the files about looks and calls do not show."""

import asyncio
from functools import partial

from exporter.postgres import Session
from tests.healing import to_primary, until
from tests.stack.postgres import Postgres
from tests.stack.stack import EXPORTER_ROLE, Stack


async def test_a_connection_given_up_half_way_is_closed_although_its_task_is_kept(databases: Stack) -> None:
    """Cancelled at many points of connecting to a standby first and to the primary then."""
    conninfo = to_primary(databases.standby, databases.primary, role=EXPORTER_ROLE)
    kept = []
    for i in range(100):
        task = asyncio.create_task(Session.connect(conninfo, application_name="given_up", timeout=5))
        await asyncio.sleep(i * 0.0001)
        if not task.cancel():
            await task.result().close()
        kept.append(task)
    results = await asyncio.gather(*kept, return_exceptions=True)
    given_up = [each for each in results if isinstance(each, asyncio.CancelledError)]
    assert len(given_up) >= 5, "it was not cancelled while it connected"
    for server in (databases.primary, databases.standby):
        await until(partial(_no_session, server), "no session is left", 5)


def _no_session(server: Postgres) -> bool:
    return not server.sql("SELECT 1 FROM pg_catalog.pg_stat_activity WHERE usename = %s", [EXPORTER_ROLE])
