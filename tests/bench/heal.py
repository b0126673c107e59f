"""
The time from the webhook to the usable slot on a standby, in comparison with a call by hand on an open connection.

The record leaves the primary when its WAL writer next wakes up, once per wal_writer_delay. Both ways spend most of
their time on that, and it depends on the moment of the call within this cycle. The preparation of each trial ends with
a round of the WAL writer, so all calls would come at the same moment of the cycle: they are spread over it.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import count
from statistics import median
from typing import Any

import psycopg

from healer.remedies.force_snapshot.need import MIN_WAIT_SECONDS
from tests.bench.client import Client
from tests.bench.measure import alternate
from tests.bench.programs import running
from tests.bench.results import Result
from tests.bench.scale import Scale
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import EXPORTER_ROLE, HEALER_ROLE, Stack

CLUSTER = "bench"
NODE = "standby"
WAL_WRITER_CYCLE = 0.2
"""Seconds: PostgreSQL's default of wal_writer_delay."""
PACE = 1.0
"""Seconds after which a call without effect is repeated, by hand and by the healer."""


def run(stack: Stack, scale: Scale) -> Iterator[Result]:
    """Measure with the primary's background writer stopped, which would end the waits by itself."""
    names = (f"bench_{number}" for number in count())
    with (
        stack.primary.no_records_by_itself(),
        running(stack, "pg-slot-healer", config(stack, calls_per_hour=100_000)) as healer,
        psycopg.connect(stack.primary.conninfo(HEALER_ROLE), autocommit=True) as session,
    ):
        client = Client(healer.port)

        def by_hand(_slot: str, usable: Callable[[float], bool]) -> None:
            while True:
                session.execute("SELECT pg_catalog.pg_log_standby_snapshot()")
                if usable(PACE):
                    return

        def by_webhook(slot: str, usable: Callable[[float], bool]) -> None:
            client.post("/alerts", body([alert(slot)]))
            if not usable(30):
                raise RuntimeError(f"expected the healer to heal {slot} within 30 s, found {client.get('/episodes')!r}")

        def settle(slot: str) -> None:
            wait_for(lambda: _no_episode(client), "the episode ends")
            stack.standby.drop_slot(slot)

        def timed(heal: Callable[[str, Callable[[float], bool]], None], pauses: Iterator[float]) -> list[float]:
            slot = next(names)
            with waiting(stack, slot) as usable:
                time.sleep(next(pauses))
                started = time.perf_counter()
                heal(slot, usable)
                duration = time.perf_counter() - started
            settle(slot)
            return [duration]

        def compared(pauses: Sequence[float]) -> tuple[float, float]:
            actions = {
                "hand": partial(timed, by_hand, iter(pauses)),
                "webhook": partial(timed, by_webhook, iter(pauses)),
            }
            durations = alternate(len(pauses), actions)
            return median(durations["webhook"]) * 1e3, median(durations["hand"]) * 1e3

        webhook, hand = compared(spread(scale.heals))
        held = webhook <= 1.5 * hand + 10
        name = "webhook to usable slot on a standby"
        yield Result(name, webhook, "ms", "by hand", hand, "at most 1.5x + 10 ms", held)
        with writing_wal_at_once(stack):
            webhook, hand = compared([0.0] * max(2, scale.heals // 2))
        yield Result("the same, where the WAL writer does not wait", webhook, "ms", "by hand", hand)


def spread(count: int) -> list[float]:
    """Return `count` pauses in seconds, spread evenly over the WAL writer's cycle, short and long ones in turn."""
    pauses = [WAL_WRITER_CYCLE * index / count for index in range(count)]
    return [*pauses[::2], *pauses[1::2]]


@contextmanager
def writing_wal_at_once(stack: Stack) -> Iterator[None]:
    """Let the primary's WAL writer wake up every millisecond; after ten idle seconds it reacts as fast by itself."""
    stack.primary.sql("ALTER SYSTEM SET wal_writer_delay = '1ms'")
    stack.primary.sql("SELECT pg_catalog.pg_reload_conf()")
    try:
        yield
    finally:
        stack.primary.sql("ALTER SYSTEM RESET wal_writer_delay")
        stack.primary.sql("SELECT pg_catalog.pg_reload_conf()")


def config(stack: Stack, **healer: Any) -> dict[str, Any]:
    """Return the configuration of a healer for the stack's primary and standby; settings not given are the defaults."""
    servers = (stack.primary, stack.standby)
    ports = ",".join(str(server.port) for server in servers)
    acting = f"host=127.0.0.1,127.0.0.1 port={ports} target_session_attrs=read-write dbname=postgres user={HEALER_ROLE}"
    nodes = {server.name: {"conninfo": server.conninfo(EXPORTER_ROLE)} for server in servers}
    return {"clusters": {CLUSTER: {"nodes": nodes, "healer": {"conninfo": acting}}}, "healer": healer}


def alert(slot: str, fingerprint: str = "", **labels: str) -> dict[str, Any]:
    """Return an alert as Alertmanager sends it, annotations included: they are most of its bytes."""
    return {
        "status": "firing",
        "labels": {
            "alertname": "PgSlotCreationStuck",
            "cluster": CLUSTER,
            "node": NODE,
            "slot_name": slot,
            "database": "postgres",
            "heal": "log_standby_snapshot",
            "severity": "warning",
            "instance": "exporter.example:9877",
            "job": "pg-slot-exporter",
            **labels,
        },
        "annotations": {
            "summary": f"Slot {slot} on {NODE} has been waiting for a running-xacts record",
            "description": "The primary is idle and writes none by itself. " * 4,
            "runbook_url": "http://localhost:9877/runbooks/PgSlotCreationStuck",
        },
        "startsAt": "2026-11-23T12:00:00.000Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example:9090/graph?g0.expr=pgslot_creation_wait_seconds&g0.tab=1",
        "fingerprint": fingerprint or slot,
    }


def body(alerts: list[dict[str, Any]]) -> bytes:
    """Return a webhook of version 4."""
    return json.dumps({"version": "4", "status": "firing", "receiver": "healer", "alerts": alerts}).encode()


@contextmanager
def waiting(stack: Stack, slot: str, event: str = "WalSenderWaitForWal") -> Iterator[Callable[[float], bool]]:
    """
    Create a slot on the standby, and enter once it has waited long enough for the healer to act.

    The context's value is a function that waits at most that many seconds for the slot, and returns whether it is done.
    """
    with stack.standby.create_slot(slot) as creator:
        query = (
            "SELECT 1 FROM pg_catalog.pg_stat_activity a JOIN pg_catalog.pg_replication_slots s ON s.active_pid = a.pid"
            " WHERE s.slot_name = %s AND coalesce(a.wait_event, '') ILIKE %s"
            " AND extract(epoch FROM pg_catalog.clock_timestamp() - a.query_start) > %s"
        )
        wait_for(lambda: stack.standby.sql(query, [slot, event, MIN_WAIT_SECONDS]), f"{slot} waits")
        yield creator.wait
        if creator.error is not None:
            raise RuntimeError(f"{slot}: {creator.error}")


def _no_episode(client: Client) -> bool:
    return all(episode["outcome"] is not None for episode in json.loads(client.get("/episodes")))
