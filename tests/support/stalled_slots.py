"""A stalled slot on real servers, its alert, and the wait until a healer has called for it."""

import contextlib
from collections.abc import Callable

from healer.remedies.force_snapshot.schedule import OBSERVE_INTERVAL
from tests.support.running_healer import PATIENCE, Healer, alert
from tests.support.servers.postgres import Postgres
from tests.support.servers.workload import write_wal


def stalled_alert(slot: str, node: str) -> dict[str, object]:
    stalled = alert(slot, node=node)
    stalled["labels"]["alertname"] = "PgSlotStalled"
    return stalled


async def until_called_for(
    healer: Healer, server: Postgres, slot: str, *, calls: int = 1, read: Callable[[], None] | None = None
) -> None:
    """Wait until the healer has diagnosed a missing record and made a call, which may need another read."""
    with contextlib.suppress(AssertionError):
        await _called(healer, calls, PATIENCE + 2 * OBSERVE_INTERVAL)
        return
    server.sql("SELECT pg_catalog.pg_logical_emit_message(true, 'read', 'again')")
    read_all(server, slot) if read is None else read()
    await _called(healer, calls, 40)


async def _called(healer: Healer, calls: int, seconds: float) -> None:
    await healer.until(f"it has called {calls} times", lambda episodes: episodes[0]["calls"] >= calls, seconds)


def read_all(server: Postgres, slot: str) -> None:
    """Read and confirm everything, as a batch consumer does."""
    server.sql("SELECT count(*) FROM pg_catalog.pg_logical_slot_get_changes(%s, NULL, NULL)", [slot])


CREATE = "SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'test_decoding')"


def stalled_batch(server: Postgres, slot: str) -> None:
    """Create a slot whose consumer has confirmed everything and is inactive, with no record since."""
    server.sql(CREATE, [slot])
    write_wal(server)
    read_all(server, slot)
