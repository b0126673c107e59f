"""
An hour of pgbench on servers that write 1, 10 and 100 MiB/s of WAL: no healthy slot is reported as stalled or pinned.

Not part of CI. `python -m tests.simulations.soak [MINUTES [FOLDER [MIB_A_SECOND ...]]]`; the folder, ideally on a
tmpfs, takes some GiB, and 100 MiB/s take one core. Each server has slots of consumers that confirm every second, every
10 s, and, except on the fastest server, in batches. The exporter's causes of retention are read every 5 s and counted;
the exit code is 1 if a false cause was reported.
"""

import shutil
import sys
import tempfile
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
from tests.support.servers.workload import repeating

RATES = (1, 10, 100)
"""MiB of WAL a second, in 20 transactions."""
MAX_BATCHED_RATE = 10
"""MiB a second; a batch consumer cannot decode faster on one core, and retained WAL has to fit into the folder."""
BATCH_MIB = 600
FALSE_CAUSES = {"stalled", "transaction", "invalidated", "standby", "idle_publication"}
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
    """Run the load and count the reported causes; return the exit code."""
    folder = Path(tempfile.mkdtemp(prefix="pgslot-soak-", dir=parent))
    folder.chmod(0o755)
    counts: Counter[tuple[str, str, str]] = Counter()
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
        written_before = {name: exporter.value("pgslot_wal_written_bytes_total", node=name) or 0 for name in servers}
        max_pinned: Counter[tuple[str, str]] = Counter()
        started = time.monotonic()
        while time.monotonic() - started < minutes * 60:
            time.sleep(SCRAPE_INTERVAL_SECONDS)
            _count_causes(exporter, counts, max_pinned)
        seconds = time.monotonic() - started
        for name in servers:
            now = exporter.value("pgslot_wal_written_bytes_total", node=name) or 0
            print(f"{name}: {(now - written_before[name]) / seconds / 2**20:.1f} MiB/s over {seconds / 60:.1f} minutes")
    for (node, slot, cause), count in sorted(counts.items()):
        print(f"{node} {slot}: {cause} {count} times, at most {max_pinned[node, slot] / 2**20:.0f} MiB pinned")
    return int(any(cause in FALSE_CAUSES for _, _, cause in counts))


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
    for interval in (1, 10):
        _stream(stack, programs, server, folder, interval)
    if rate <= MAX_BATCHED_RATE:
        _batch(stack, server, min(240.0, BATCH_MIB / rate))
    return server


def _stream(stack: ExitStack, programs: Binaries, server: Postgres, folder: Path, interval: int) -> None:
    slot = f"stream_{interval}"
    server.sql("SELECT pg_catalog.pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
    options = ["--option=proto_version=1", "--option=publication_names=bench", f"--status-interval={interval}"]
    consumer = Process(
        [programs.tools / "pg_recvlogical", "--start", f"--slot={slot}", "--file=/dev/null", *options,
         f"--fsync-interval={interval}", f"--dbname={server.conninfo()}"],
        folder / f"{server.name}-{slot}.log",
        user=programs.user,
    )  # fmt: skip
    consumer.start()
    stack.callback(consumer.stop)
    wait_for(lambda: server.sql("SELECT 1 FROM pg_replication_slots WHERE slot_name = %s AND active", [slot]), slot)


def _batch(stack: ExitStack, server: Postgres, interval: float) -> None:
    server.sql("SELECT pg_catalog.pg_create_logical_replication_slot('batch', 'pgoutput')")
    read = (
        "SELECT count(*) FROM pg_catalog.pg_logical_slot_get_binary_changes("
        "'batch', NULL, NULL, 'proto_version', '1', 'publication_names', 'bench')"
    )

    stack.enter_context(repeating(lambda: server.sql(read), interval))


def _count_causes(
    exporter: Program, counts: Counter[tuple[str, str, str]], max_pinned: Counter[tuple[str, str]]
) -> None:
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
            max_pinned[slot] = max(max_pinned[slot], int(sample.value))
    for slot, cause in causes.items():
        if cause in FALSE_CAUSES and not counts[(*slot, cause)]:
            print(f"{time.strftime('%X')} {slot}: {cause}", flush=True)
        counts[(*slot, cause)] += 1


if __name__ == "__main__":
    minutes, folder, *rates = [*sys.argv[1:], *["60", tempfile.gettempdir()][len(sys.argv) - 1 :]]
    sys.exit(main(float(minutes), Path(folder), [int(rate) for rate in rates] or RATES))
