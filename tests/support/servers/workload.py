"""The workload of applications: write WAL, and stream and confirm a slot's changes."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import Process, wait_for

MORE_THAN_A_SEGMENT = 20 * 1024 * 1024


def write_wal(server: Postgres, size: int = MORE_THAN_A_SEGMENT) -> None:
    server.sql(
        "SELECT count(pg_catalog.pg_logical_emit_message(false, 'test', pg_catalog.repeat('x', 1000000)))"
        f" FROM pg_catalog.generate_series(1, {size // 1_000_000 + 1})"
    )
    server.sql("SELECT pg_catalog.pg_switch_wal()")


@contextmanager
def repeating(action: Callable[[], object], interval: float) -> Iterator[None]:
    """Run the action in a thread, and again `interval` seconds after it has ended, until the context ends."""
    stop = threading.Event()

    def repeat() -> None:
        while not stop.wait(interval):
            action()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def steady_writes(server: Postgres, messages: int, size: int) -> Iterator[None]:
    """Write so many messages of this size in bytes twice a second, as a busy server does, and no transaction."""

    def write() -> None:
        server.sql(
            "SELECT count(pg_catalog.pg_logical_emit_message(false, 'work', pg_catalog.repeat('x', %s)))"
            " FROM pg_catalog.generate_series(1, %s)",
            [size, messages],
        )

    with repeating(write, 0.5):
        yield


@contextmanager
def streaming_consumer(server: Postgres, slot: str, folder: Path, *, failover: bool = False) -> Iterator[Process]:
    """Run a streaming consumer that confirms every second what it has received, until it is paused."""
    program = server.binaries.tools / "pg_recvlogical"
    arguments = ["--start", f"--slot={slot}", "--file=-", "--status-interval=1", "--fsync-interval=1", "--no-loop"]
    process = Process([program, f"--dbname={server.conninfo()}", *arguments], folder / f"{slot}.log")
    more = ", false, false, true" if failover else ""
    server.sql(f"SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'test_decoding'{more})", [slot])
    process.start()
    try:
        wait_for(
            lambda: server.sql("SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = %s AND active", [slot]),
            "the consumer streams",
            log=process.log,
        )
        yield process
    finally:
        process.stop()
        server.drop_slot(slot)


def confirmed_all(server: Postgres, slot: str) -> Callable[[], object]:
    position = server.sql("SELECT pg_catalog.pg_current_wal_lsn()::text")[0][0]
    return lambda: server.sql(
        "SELECT 1 FROM pg_catalog.pg_replication_slots WHERE slot_name = %s AND confirmed_flush_lsn >= %s::pg_lsn",
        [slot, position],
    )
