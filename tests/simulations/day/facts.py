"""
The series that the exporter must expose for a node, derived from a superuser's queries; pure except for `ask`.

The servers are queried, the page is fetched, and the servers are queried again: the page has to show the values that
are equal in both answers, and for numbers that only grow a value between them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import psycopg
from prometheus_client.samples import Sample

from tests.simulations.day.violation import Violation
from tests.support.servers.postgres import Postgres

INVARIANT = "metrics agree with the servers"

Labels = frozenset[tuple[str, str]]
Series = tuple[str, Labels]

_NODE = """
SELECT
  pg_catalog.pg_postmaster_start_time()::text,
  pg_catalog.pg_is_in_recovery(),
  (SELECT count(*) FROM pg_catalog.pg_replication_slots),
  (SELECT count(*) FROM pg_catalog.pg_prepared_xacts),
  (SELECT count(*) FROM pg_catalog.pg_stat_activity WHERE backend_xid IS NOT NULL),
  CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_get_wal_replay_pause_state() <> 'not paused' END,
  (SELECT count(*) FROM pg_catalog.pg_stat_wal_receiver WHERE status = 'streaming'),
  pg_catalog.pg_wal_lsn_diff(
    CASE WHEN pg_catalog.pg_is_in_recovery()
      THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_lsn() END, '0/0')::int8
"""
_SLOTS = """
SELECT slot_name, coalesce(database, ''), slot_type, active, wal_status, coalesce(invalidation_reason, ''),
  slot_type = 'logical' AND confirmed_flush_lsn IS NULL AND active_pid IS NOT NULL,
  pg_catalog.pg_wal_lsn_diff(restart_lsn, '0/0')::int8, pg_catalog.pg_wal_lsn_diff(confirmed_flush_lsn, '0/0')::int8,
  active_pid, pg_catalog.cardinality(pg_catalog.pg_blocking_pids(active_pid))
FROM pg_catalog.pg_replication_slots
WHERE NOT temporary
"""


@dataclass(frozen=True)
class Facts:
    """One answer of a server. `exact`: series and their values; `at`: the WAL position in bytes."""

    life: str
    """The start time of the server."""
    exact: Mapping[Series, float]
    at: int
    kept: Mapping[Labels, tuple[int, int]]
    """The restart position and the confirmed position of each slot that retains WAL."""
    slots: frozenset[str]
    creating: frozenset[str] = frozenset()
    usable: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ExpectedMetrics:
    """The series that the page must have for a node."""

    exact: Mapping[Series, float]
    between: Mapping[Series, tuple[float, float]] = field(default_factory=dict)
    slots: frozenset[str] | None = None
    """The node has series of exactly these slots; None: the slots changed between the queries."""


def ask(server: Postgres, node: str) -> Facts | None:
    """Query the server as a superuser; return None if it does not answer."""
    try:
        with psycopg.connect(server.conninfo(), connect_timeout=3, options="-c statement_timeout=3000") as connection:
            connection.autocommit = True
            [row] = connection.execute(_NODE).fetchall()
            slots = connection.execute(_SLOTS).fetchall()
    except psycopg.Error:
        return None
    return facts(node, row, slots)


def facts(node: str, row: tuple[object, ...], slots: Iterable[tuple[object, ...]]) -> Facts:
    """Convert the rows of a server into the exporter's metrics."""
    life, standby, count, prepared, xids, paused, streaming, at = row
    of_node = ("node", node)
    exact: dict[Series, float] = {}

    def expect(name: str, value: object, **labels: str) -> None:
        exact[name, frozenset({of_node, *labels.items()})] = float(value)  # type: ignore[arg-type]

    expect("pgslot_up", 1)
    expect("pgslot_node_info", 1, role="standby" if standby else "primary")
    expect("pgslot_replication_slots", count)
    expect("pgslot_transactions", prepared, kind="prepared")
    expect("pgslot_transactions", xids, kind="xid")
    if standby:
        expect("pgslot_wal_replay_paused", paused)
        expect("pgslot_wal_receiver_streaming", streaming)
    kept: dict[Labels, tuple[int, int]] = {}
    slot_names, creating, usable = set(), set(), set()
    for name, database, kind, active, status, reason, in_creation, restart, confirmed, pid, blockers in slots:
        slot_labels = {"slot_name": str(name), "database": str(database)}
        expect("pgslot_active", active, **slot_labels)
        expect("pgslot_slot_info", 1, slot_type=str(kind), **slot_labels)
        if not standby:
            # In recovery the server does not report it.
            expect("pgslot_wal_status", 1, wal_status=str(status), **slot_labels)
        if reason:
            expect("pgslot_invalidation_reason", 1, reason=str(reason), **slot_labels)
        if in_creation:
            creating.add(str(name))
            expect("pgslot_creation_info", 1, pid=str(pid), **slot_labels)
            # Other reasons are the exporter's diagnosis; these two are certain.
            wait_reason = "replay_paused" if paused else "transaction" if blockers and not standby else None
            if wait_reason is not None:
                expect("pgslot_creation_wait_reason", 1, reason=wait_reason, **slot_labels)
        if confirmed is not None and not reason:
            usable.add(str(name))
        if restart is not None and not reason:
            kept[frozenset({of_node, *slot_labels.items()})] = int(str(restart)), int(str(confirmed or 0))
        slot_names.add(str(name))
    expect("pgslot_creations_waiting", len(creating))
    return Facts(str(life), exact, int(str(at)), kept, frozenset(slot_names), frozenset(creating), frozenset(usable))


def settled(node: str, before: Facts | None, after: Facts | None, *, down: bool) -> ExpectedMetrics:
    """Return the metrics that did not change; `down`: the server was down or hung at both times."""
    if down:
        return ExpectedMetrics({("pgslot_up", frozenset({("node", node)})): 0.0}, slots=frozenset())
    if before is None or after is None or before.life != after.life:
        return ExpectedMetrics({})
    exact = {series: value for series, value in before.exact.items() if after.exact.get(series) == value}
    between = {
        ("pgslot_retained_wal_bytes", labels): (
            before.at - restart,
            max(after.at, restart, after.kept[labels][1]) - restart,
        )
        for labels, (restart, _) in before.kept.items()
        if labels in after.kept and after.kept[labels][0] == restart
    }
    return ExpectedMetrics(exact, between, before.slots if before.slots == after.slots else None)


def disagreements(
    node: str, expected: ExpectedMetrics, samples: Iterable[Sample]
) -> dict[tuple[object, ...], Violation]:
    """Return the violations for series that differ or are missing, by series."""
    samples_by_name: dict[str, list[Sample]] = {name: [] for name, _ in (*expected.exact, *expected.between)}
    samples_by_name["pgslot_slot_info"] = []
    for sample in samples:
        if sample.name in samples_by_name and sample.labels.get("node") == node:
            samples_by_name[sample.name].append(sample)
    violations: dict[tuple[object, ...], Violation] = {}
    for (name, labels), value in expected.exact.items():
        shown = _value(samples_by_name[name], labels)
        if shown != value:
            violations[name, labels] = _violation(name, labels, f"{value:g}", shown)
    for (name, labels), (minimum, maximum) in expected.between.items():
        shown = _value(samples_by_name[name], labels)
        if shown is None or not minimum <= shown <= maximum:
            violations[name, labels] = _violation(name, labels, f"{minimum:g} to {maximum:g}", shown)
    if expected.slots is not None:
        shown_slots = {sample.labels["slot_name"] for sample in samples_by_name["pgslot_slot_info"]}
        if shown_slots != expected.slots:
            text = f"slots of {node}: {sorted(expected.slots)}"
            violations["slots", node] = Violation(INVARIANT, text, f"{sorted(shown_slots)}")
    return violations


def _value(samples: Iterable[Sample], labels: Labels) -> float | None:
    values = [sample.value for sample in samples if labels <= sample.labels.items()]
    return values[0] if len(values) == 1 else None


def _violation(name: str, labels: Labels, expected: str, shown: float | None) -> Violation:
    text = ",".join(f"{key}={value}" for key, value in sorted(labels))
    return Violation(INVARIANT, f"{name}{{{text}}} {expected}", "no series" if shown is None else f"{shown:g}")
