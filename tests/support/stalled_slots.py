"""A slot that is stalled on real servers, its alert, and a healer that calls for its record."""

import contextlib
from collections.abc import Callable

from healer.remedies.force_snapshot.schedule import OBSERVE_INTERVAL
from tests.support.running_healer import PATIENCE, Healer, alert
from tests.support.servers.postgres import Postgres
from tests.support.servers.workload import write_wal


def stalled_alert(slot: str, node: str) -> dict[str, object]:
    found = alert(slot, node=node)
    found["labels"]["alertname"] = "PgSlotStalled"
    return found


async def shows(
    healer: Healer, server: Postgres, slot: str, *, calls: int = 1, read: Callable[[], None] | None = None
) -> None:
    """Wait until a record is seen to be missing, and called for; it may take another read of its consumer."""
    with contextlib.suppress(AssertionError):
        await called_for(healer, calls, PATIENCE + 2 * OBSERVE_INTERVAL)
        return
    server.sql("SELECT pg_catalog.pg_logical_emit_message(true, 'read', 'again')")
    read_all(server, slot) if read is None else read()
    await called_for(healer, calls, 40)


async def called_for(healer: Healer, calls: int, seconds: float) -> None:
    await healer.until("it is called for", lambda episodes: episodes[0]["calls"] >= calls, seconds)


def read_all(server: Postgres, slot: str) -> None:
    """Read and confirm everything, as a batch consumer does now and then."""
    server.sql("SELECT count(*) FROM pg_catalog.pg_logical_slot_get_changes(%s, NULL, NULL)", [slot])


CREATE = "SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'test_decoding')"


def stalled_batch(server: Postgres, slot: str) -> None:
    """Make a slot whose consumer has confirmed everything and is away, with no record since."""
    server.sql(CREATE, [slot])
    write_wal(server)
    read_all(server, slot)
