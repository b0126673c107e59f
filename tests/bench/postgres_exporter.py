"""
The peer in comparisons: postgres_exporter with custom queries of the same content.

The queries are generated from the exporter's own SQL, so they never fall behind it, and have the form that is cheapest
for the peer: the series for each state are columns of one row there, so it needs few labels and only seven queries.
"""

import re
import subprocess
from typing import Any

import requests
import yaml

from exporter.series import CAUSES, INVALIDATION_REASONS, SLOT_COLUMNS, WAL_STATUSES
from pgslot.diagnosis.retention import RetentionCause
from pgslot.snapshot.history import SEGMENT_BYTES
from pgslot.snapshot.queries import QUERIES
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import Process, free_port, wait_for
from tests.support.servers.stack import EXPORTER_ROLE, Stack

PROGRAM = "prometheus-postgres-exporter"
SESSION_LABELS = ("kind", "pid", "datname", "usename", "application_name", "state")


class PostgresExporter:
    """postgres_exporter as a process, without its built-in queries."""

    def __init__(self, stack: Stack, server: Postgres) -> None:
        self.port = free_port()
        queries = stack.folder / "peer.yml"
        queries.write_text(yaml.safe_dump(_queries(stack.major), sort_keys=False), "utf-8")
        source = f"postgresql://{EXPORTER_ROLE}@127.0.0.1:{server.port}/postgres?sslmode=disable"
        self.process = Process(
            [
                *("env", f"DATA_SOURCE_NAME={source}", PROGRAM),
                *without_collectors(_output("--help")),
                *("--disable-default-metrics", "--disable-settings-metrics"),
                f"--extend.query-path={queries}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            stack.folder / "peer.log",
        )

    def start(self) -> None:
        self.process.start()
        wait_for(self._ready, f"{PROGRAM} answers", log=self.process.log)

    def stop(self) -> None:
        self.process.stop()

    def _ready(self) -> bool:
        try:
            return requests.get(f"http://127.0.0.1:{self.port}/", timeout=5).status_code == 200
        except requests.RequestException:
            return False


def version() -> str:
    """Return the peer's version, as it prints it."""
    return _output("--version").split()[2]


def without_collectors(usage: str) -> list[str]:
    """Return the flags that disable all collectors in the help text; they differ between versions."""
    names = dict.fromkeys(re.findall(r"--(?:\[no-\])?collector\.(\w+)(?=\s)", usage))
    return [f"--no-collector.{name}" for name in names]


def _output(flag: str) -> str:
    """Return the program's output; older versions print to stderr."""
    done = subprocess.run([PROGRAM, flag], check=True, capture_output=True, text=True, timeout=10)
    return done.stdout + done.stderr


def _queries(major: int) -> dict[str, Any]:
    sql = {query.name: query.sql(major) for query in QUERIES}
    slot_labels = ("slot_name", "database")
    slot_columns = _slot_columns(major)
    kind_labels = (*slot_labels, "slot_type", "plugin", "temporary", "two_phase", "failover", "synced")
    states = [
        *_state_columns("wal_status", "q.wal_status", WAL_STATUSES),
        *_state_columns("invalidation_reason", "q.invalidation_reason", INVALIDATION_REASONS),
        *_state_columns("retention_cause", "q.retention_cause", tuple(f"{cause}" for cause in CAUSES)),
    ]
    columns = ", ".join(f"q.{column}" for column in slot_columns)
    slots = f"SELECT q.slot_name, q.database, {columns}, {', '.join(states)} FROM ({_with_cause(sql['slots'])}) q"
    kinds = f"SELECT q.{', q.'.join(kind_labels)}, 1 AS info FROM pg_catalog.pg_replication_slots q"
    transactions = f"""
        SELECT {", ".join(f"q.{label}" for label in SESSION_LABELS)}, q.open_count, q.age_seconds, 1 AS info
        FROM ({sql["transactions"]}) q WHERE q.oldest_start"""
    return {
        "peer_node": _query(f"SELECT * FROM ({sql['node']}) q", _NODE_LABELS, _NODE),
        "peer_slot": _query(slots, slot_labels, [*slot_columns, *(s.rpartition(" ")[2] for s in states)]),
        "peer_slot_kind": _query(kinds, kind_labels, ["info"]),
        "peer_creations": _query(f"SELECT count(*) AS waiting FROM ({sql['creations']}) q", (), ["waiting"]),
        "peer_transactions": _query(transactions, SESSION_LABELS, ["open_count", "age_seconds", "info"]),
        "peer_senders": _query(f"SELECT count(*) AS sent_to FROM ({sql['senders']}) q", (), ["sent_to"]),
        "peer_standby": _query(f"SELECT q.replay_lag_bytes FROM ({sql['standby']}) q", (), ["replay_lag_bytes"]),
    }


def _slot_columns(major: int) -> list[str]:
    """Return the columns that have a value: our exporter omits a series without one, the peer exposes NaN."""
    absent = {"xmin_age_xids"}  # Logical slots have none.
    if major < 19:
        absent.add("mem_exceeded_count")
    return [column for column in SLOT_COLUMNS.values() if column not in absent]


_NODE_LABELS = ("in_recovery", "version", "wal_level", "effective_wal_level", "reads_all_stats")
_NODE = [
    "replication_slots",
    "max_replication_slots",
    "max_slot_wal_keep_size_bytes",
    "wal_keep_size_bytes",
    "wal_written_bytes",
]


def _query(sql: str, labels: tuple[str, ...], gauges: list[str]) -> dict[str, Any]:
    usages = dict.fromkeys(labels, "LABEL") | dict.fromkeys(gauges, "GAUGE")
    metrics = [{name: {"usage": usage, "description": name}} for name, usage in usages.items()]
    return {"query": sql, "metrics": metrics}


def _state_columns(name: str, expression: str, states: tuple[str, ...]) -> list[str]:
    return [f"coalesce(({expression} = '{state}')::int, 0) AS {name}_{state}" for state in states]


def _with_cause(slots: str) -> str:
    """Add the cause of retention as far as the slot alone shows it, which is enough for the slots of the bench."""
    cases = {
        "s.wal_status = 'lost' OR s.invalidation_reason IS NOT NULL": RetentionCause.INVALIDATED,
        "s.in_creation": RetentionCause.CREATION,
        "NOT s.active AND NOT s.synced": RetentionCause.INACTIVE,
        f"s.unconfirmed_wal_bytes > {SEGMENT_BYTES}": RetentionCause.CONSUMER,
        f"s.pinned_wal_bytes > {SEGMENT_BYTES}": RetentionCause.UNKNOWN,
    }
    whens = " ".join(f"WHEN {condition} THEN '{cause}'" for condition, cause in cases.items())
    return f"SELECT s.*, CASE {whens} END AS retention_cause FROM ({slots}) s"
