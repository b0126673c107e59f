"""
An hour of pgbench on servers that write 1, 10 and 100 MiB of WAL a second: no healthy slot is told stalled or pinned.

Not part of CI. `python -m tests.simulations.soak [MINUTES [FOLDER [MIB_A_SECOND ...]]]`; the folder, best in memory,
takes some GiB, and 100 MiB a second one core. Each server has slots of consumers that confirm each second, each 10 s,
and but for the largest in batches. What the exporter says of them is read every 5 s and counted; the exit code is 1 if
a cause was told that is not true.
"""

import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import yaml

from tests.support.servers import binaries
from tests.support.servers.binaries import Binaries
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import Process, wait_for
from tests.support.servers.programs import Program

RATES = (1, 10, 100)
"""MiB of WAL a second, in 20 transactions."""
MOST_BATCHED = 10
"""MiB a second; a batch consumer decodes no faster on one core, and what it retains has to fit into the folder."""
BATCH_MIB = 600
WRONG = {"stalled", "transaction", "invalidated", "standby", "idle_publication"}
SCRAPE_INTERVAL_SECONDS = 5.0

_PREPARE = """
CREATE PUBLICATION bench FOR TABLE pgbench_accounts, pgbench_branches, pgbench_history, pgbench_tellers
"""
_SCRIPT = """\\set id random(1, 100000)
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :id;
INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :id, 1, CURRENT_TIMESTAMP);
SELECT pg_catalog.pg_logical_emit_message(true, 'bench', pg_catalog.repeat('x', {size}));
END;
"""


def main(minutes: float, parent: Path, rates: Sequence[int]) -> int:
    """Run it; return the exit code."""
    folder = Path(tempfile.mkdtemp(prefix="pgslot-soak-", dir=parent))
    folder.chmod(0o755)
    seen: Counter[tuple[str, str, str]] = Counter()
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        programs = binaries.find(folder)
        servers = {f"wal-{rate}": _server(stack, programs, folder, rate) for rate in rates}
        nodes = {name: {"conninfo": server.conninfo()} for name, server in servers.items()}
        config = folder / "exporter.yml"
        config.write_text(yaml.safe_dump({"clusters": {name: {"nodes": {name: node}} for name, node in nodes.items()}}))
        exporter = Program("pg-slot-exporter", config, folder)
        exporter.start()
        stack.callback(exporter.stop)
        written = {name: exporter.value("pgslot_wal_written_bytes_total", node=name) or 0 for name in servers}
        most: Counter[tuple[str, str]] = Counter()
        started = time.monotonic()
        while time.monotonic() - started < minutes * 60:
            time.sleep(SCRAPE_INTERVAL_SECONDS)
            _look(exporter, seen, most)
        seconds = time.monotonic() - started
        for name in servers:
            now = exporter.value("pgslot_wal_written_bytes_total", node=name) or 0
            print(f"{name}: {(now - written[name]) / seconds / 2**20:.1f} MiB/s over {seconds / 60:.1f} minutes")
    for (node, slot, cause), count in sorted(seen.items()):
        print(f"{node} {slot}: {cause} {count} times, at most {most[node, slot] / 2**20:.0f} MiB pinned")
    return int(any(cause in WRONG for _, _, cause in seen))


def _server(stack: ExitStack, programs: Binaries, folder: Path, rate: int) -> Postgres:
    name = f"wal-{rate}"
    server = Postgres.primary(
        programs, folder, name, max_wal_size="'512MB'", bgwriter_delay="'200ms'", autovacuum="on",
        checkpoint_timeout="'5min'", max_slot_wal_keep_size="-1",
    )  # fmt: skip
    stack.callback(server.stop)
    pgbench = programs.tools / "pgbench"
    programs.run(pgbench, "--initialize", "--quiet", server.conninfo())
    server.sql(_PREPARE)
    script = folder / f"{name}.sql"
    script.write_text(_SCRIPT.format(size=rate * 2**20 // 20))
    script.chmod(0o644)
    load = Process(
        [pgbench, "--rate=20", "--client=4", "--time=100000", "--no-vacuum", f"--file={script}", server.conninfo()],
        folder / f"{name}-load.log",
        user=programs.user,
    )
    load.start()
    stack.callback(load.stop)
    for each in (1, 10):
        _stream(stack, programs, server, folder, each)
    if rate <= MOST_BATCHED:
        _batch(stack, server, min(240.0, BATCH_MIB / rate))
    return server


def _stream(stack: ExitStack, programs: Binaries, server: Postgres, folder: Path, each: int) -> None:
    slot = f"stream_{each}"
    server.sql("SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
    options = ["--option=proto_version=1", "--option=publication_names=bench", f"--status-interval={each}"]
    consumer = Process(
        [programs.tools / "pg_recvlogical", "--start", f"--slot={slot}", "--file=/dev/null", *options,
         f"--fsync-interval={each}", f"--dbname={server.conninfo()}"],
        folder / f"{server.name}-{slot}.log",
        user=programs.user,
    )  # fmt: skip
    consumer.start()
    stack.callback(consumer.stop)
    wait_for(lambda: server.sql("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND active", [slot]), slot)


def _batch(stack: ExitStack, server: Postgres, each: float) -> None:
    server.sql("SELECT pg_catalog.pg_create_logical_replication_slot('batch', 'pgoutput')")
    stop = threading.Event()
    read = (
        "SELECT count(*) FROM pg_catalog.pg_logical_slot_get_binary_changes("
        "'batch', NULL, NULL, 'proto_version', '1', 'publication_names', 'bench')"
    )

    def work() -> None:
        while not stop.wait(each):
            server.sql(read)

    thread = threading.Thread(target=work)
    thread.start()
    stack.callback(thread.join)
    stack.callback(stop.set)


def _look(exporter: Program, seen: Counter[tuple[str, str, str]], most: Counter[tuple[str, str]]) -> None:
    causes: dict[tuple[str, str], str] = {}
    for sample in exporter.all_samples():
        if "slot_name" not in sample.labels:
            continue
        slot = (sample.labels["node"], sample.labels["slot_name"])
        if sample.name == "pgslot_retention_cause":
            causes.setdefault(slot, "none")
            if sample.value:
                causes[slot] = sample.labels["cause"]
        elif sample.name == "pgslot_pinned_wal_bytes":
            most[slot] = max(most[slot], int(sample.value))
    for slot, cause in causes.items():
        if cause in WRONG and not seen[(*slot, cause)]:
            print(f"{time.strftime('%X')} {slot}: {cause}", flush=True)
        seen[(*slot, cause)] += 1


if __name__ == "__main__":
    minutes, folder, *rates = [*sys.argv[1:], *["60", tempfile.gettempdir()][len(sys.argv) - 1 :]]
    sys.exit(main(float(minutes), Path(folder), [int(rate) for rate in rates] or RATES))
