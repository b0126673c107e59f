"""
What the exporter must say of a node, by what the server says to a superuser: pure, but for the asking.

The servers are asked, the page is fetched, and the servers are asked again: what both answers have in common the page
has to say as well, and numbers that only grow have to lie between them.
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
    """One answer of a server. `exact`: series and their values; `at`: where WAL stands, in bytes."""

    life: str
    """When the server was started."""
    exact: Mapping[Series, float]
    at: int
    kept: Mapping[Labels, tuple[int, int]]
    """Of each slot that holds WAL back: from where on, and what its consumer has confirmed."""
    slots: frozenset[str]
    creating: frozenset[str] = frozenset()
    usable: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ExpectedMetrics:
    """What the page has to say of a node."""

    exact: Mapping[Series, float]
    between: Mapping[Series, tuple[float, float]] = field(default_factory=dict)
    slots: frozenset[str] | None = None
    """The node has series of these slots and of no other; None: that was in motion."""


def ask(server: Postgres, node: str) -> Facts | None:
    """Ask as a superuser; None when there is no answer."""
    try:
        with psycopg.connect(server.conninfo(), connect_timeout=3, options="-c statement_timeout=3000") as connection:
            connection.autocommit = True
            [row] = connection.execute(_NODE).fetchall()
            slots = connection.execute(_SLOTS).fetchall()
    except psycopg.Error:
        return None
    return facts(node, row, slots)


def facts(node: str, row: tuple[object, ...], slots: Iterable[tuple[object, ...]]) -> Facts:
    """Put what was answered into the words of the exporter's metrics."""
    life, standby, count, prepared, xids, paused, streaming, at = row
    of_node = ("node", node)
    exact: dict[Series, float] = {}

    def say(name: str, value: object, **labels: str) -> None:
        exact[name, frozenset({of_node, *labels.items()})] = float(value)  # type: ignore[arg-type]

    say("pgslot_up", 1)
    say("pgslot_node_info", 1, role="standby" if standby else "primary")
    say("pgslot_replication_slots", count)
    say("pgslot_transactions", prepared, kind="prepared")
    say("pgslot_transactions", xids, kind="xid")
    if standby:
        say("pgslot_wal_replay_paused", paused)
        say("pgslot_wal_receiver_streaming", streaming)
    kept: dict[Labels, tuple[int, int]] = {}
    known, creating, usable = set(), set(), set()
    for name, database, kind, active, status, reason, in_creation, begins, confirmed, pid, blockers in slots:
        names = {"slot_name": str(name), "database": str(database)}
        say("pgslot_active", active, **names)
        say("pgslot_slot_info", 1, slot_type=str(kind), **names)
        if not standby:
            # In recovery the server does not tell.
            say("pgslot_wal_status", 1, wal_status=str(status), **names)
        if reason:
            say("pgslot_invalidation_reason", 1, reason=str(reason), **names)
        if in_creation:
            creating.add(str(name))
            say("pgslot_creation_info", 1, pid=str(pid), **names)
            # What it waits for besides is the exporter's judgement; these two leave no room for another.
            waits_for = "replay_paused" if paused else "transaction" if blockers and not standby else None
            if waits_for is not None:
                say("pgslot_creation_wait_reason", 1, reason=waits_for, **names)
        if confirmed is not None and not reason:
            usable.add(str(name))
        if begins is not None and not reason:
            kept[frozenset({of_node, *names.items()})] = int(str(begins)), int(str(confirmed or 0))
        known.add(str(name))
    say("pgslot_creations_waiting", len(creating))
    return Facts(str(life), exact, int(str(at)), kept, frozenset(known), frozenset(creating), frozenset(usable))


def settled(node: str, before: Facts | None, after: Facts | None, *, down: bool) -> ExpectedMetrics:
    """Return what has stood still; `down`: the server did not run, or hung, at both times."""
    if down:
        return ExpectedMetrics({("pgslot_up", frozenset({("node", node)})): 0.0}, slots=frozenset())
    if before is None or after is None or before.life != after.life:
        return ExpectedMetrics({})
    exact = {series: value for series, value in before.exact.items() if after.exact.get(series) == value}
    between = {
        ("pgslot_retained_wal_bytes", labels): (
            before.at - begins,
            max(after.at, begins, after.kept[labels][1]) - begins,
        )
        for labels, (begins, _) in before.kept.items()
        if labels in after.kept and after.kept[labels][0] == begins
    }
    return ExpectedMetrics(exact, between, before.slots if before.slots == after.slots else None)


def disagreements(node: str, known: ExpectedMetrics, samples: Iterable[Sample]) -> dict[tuple[object, ...], Violation]:
    """Return what the page says otherwise or not at all, by what it is about."""
    wanted: dict[str, list[Sample]] = {name: [] for name, _ in (*known.exact, *known.between)}
    wanted["pgslot_slot_info"] = []
    for sample in samples:
        if sample.name in wanted and sample.labels.get("node") == node:
            wanted[sample.name].append(sample)
    found: dict[tuple[object, ...], Violation] = {}
    for (name, labels), value in known.exact.items():
        shown = _value(wanted[name], labels)
        if shown != value:
            found[name, labels] = _wrong(name, labels, f"{value:g}", shown)
    for (name, labels), (least, most) in known.between.items():
        shown = _value(wanted[name], labels)
        if shown is None or not least <= shown <= most:
            found[name, labels] = _wrong(name, labels, f"{least:g} to {most:g}", shown)
    if known.slots is not None:
        told = {sample.labels["slot_name"] for sample in wanted["pgslot_slot_info"]}
        if told != known.slots:
            text = f"slots of {node}: {sorted(known.slots)}"
            found["slots", node] = Violation(INVARIANT, text, f"{sorted(told)}")
    return found


def _value(samples: Iterable[Sample], labels: Labels) -> float | None:
    found = [sample.value for sample in samples if labels <= sample.labels.items()]
    return found[0] if len(found) == 1 else None


def _wrong(name: str, labels: Labels, expected: str, shown: float | None) -> Violation:
    text = ",".join(f"{key}={value}" for key, value in sorted(labels))
    return Violation(INVARIANT, f"{name}{{{text}}} {expected}", "no series" if shown is None else f"{shown:g}")
