"""Snapshot and diagnosis to series."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from exporter.catalogue import BLOCKER, CATALOGUE, CREATOR, DECODING, NODE, SLOT, TRANSACTION
from exporter.collectors import ALL
from pgslot.diagnosis.creation_wait import CreationWait, WaitReason, creation_waits, oldest_xid_transaction
from pgslot.diagnosis.failover_readiness import NotReadyReason, missing_settings, readiness
from pgslot.diagnosis.retention import Retention, RetentionCause, diagnose_retention
from pgslot.diagnosis.unconfigured_standbys import unconfigured_standbys
from pgslot.diagnosis.wal_level import depends_on_primary, slots_keeping_decoding
from pgslot.exposition.cache import CachedColumn, CachedSeries, RenderCache
from pgslot.exposition.text_format import Sample, Samples, SeriesBlock, StateSet, cached_label_text, label_text
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot, QueryStatus
from pgslot.snapshot.rows import Slot, Standby, Transaction

WAL_STATUSES = ("reserved", "extended", "unreserved", "lost")
SKIP_REASONS = ("wal_or_rows_removed", "wal_not_flushed", "no_consistent_snapshot", "slot_invalidated")
TELLS_SKIP_REASON = 19
"""Major version."""
INVALIDATION_REASONS = ("wal_removed", "rows_removed", "wal_level_insufficient", "idle_timeout")
TRANSACTION_KINDS = ("xid", "snapshot", "idle_in_transaction", "prepared")
REPORTED_AFTER_SECONDS = 5.0
"""
A younger transaction has no series of its own: its labels have a pid, and a busy server has thousands a minute.

The same for the creation of a slot that passes: see `passing`.
"""
SHORT_LIVED_SECONDS = 1.0
"""What the creation of any slot may take before it has series, where nothing but creations is asked for."""
SHORT_LIVED_BYTES = 16 * 1024 * 1024
CAUSES = tuple(cause for cause in RetentionCause if cause is not RetentionCause.NONE)

SLOT_COLUMNS = {
    "pgslot_active": "active",
    "pgslot_retained_wal_bytes": "retained_wal_bytes",
    "pgslot_unconfirmed_wal_bytes": "unconfirmed_wal_bytes",
    "pgslot_pinned_wal_bytes": "pinned_wal_bytes",
    "pgslot_safe_wal_size_bytes": "safe_wal_size_bytes",
    "pgslot_catalog_xmin_age_xids": "catalog_xmin_age_xids",
    "pgslot_xmin_age_xids": "xmin_age_xids",
    "pgslot_inactive_since_timestamp_seconds": "inactive_since",
    **{name: column for name, (column, _) in DECODING.items()},
}
"""Metrics that are a column of slots.sql as it is."""

_TABLE_SYNC = re.compile(r"pg_\d+_sync_\d+_\d+")
"""LogicalRepSyncTableWorkerMain's names: subscription, table and system."""

_KIND = CATALOGUE["pgslot_slot_info"].labels[len(SLOT) :]
_LEVELS = CATALOGUE["pgslot_wal_level_info"].labels[len(NODE) :]


def cluster_series(
    cluster: ClusterSnapshot,
    parts: frozenset[str] = ALL,
    only: str | None = None,
    memory: RenderCache | None = None,
) -> Iterator[SeriesBlock]:
    """
    Return the series of one look at a cluster: of these parts, and of this node alone, None for all.

    `memory`, if the caller keeps one, is for what was written of the slots.
    """
    memory = RenderCache() if memory is None else memory
    for node in cluster.nodes:
        if only is not None and node.node != only:
            continue
        yield from _look(node, parts)
        slots = [slot for slot in node.slots or () if not is_short_lived(slot)] if "slots" in parts else ()
        if slots:
            yield from _slots(slots, node, cluster, memory)
        if "transactions" in parts:
            yield from _transactions(node)
    primary = cluster.primary
    if primary is not None and only in (None, primary.node) and "slots" in parts:
        # Of standbys, but asked for by the primary's slots: who looks at a standby alone need not look at its primary.
        yield from _failover(cluster)
    if primary is not None and only in (None, primary.node) and "senders" in parts:
        missing = unconfigured_standbys(cluster)
        labels = cached_label_text(NODE, (primary.cluster, primary.node))
        yield _one("pgslot_unlisted_standbys", labels, None if missing is None else missing.count)
    for wait in creation_waits(cluster) if "creations" in parts else ():
        if (only is None or wait.node == only) and not _creation_passes(wait, cluster):
            yield from _wait(wait, cluster.cluster)


def _look(node: NodeSnapshot, parts: frozenset[str]) -> Iterator[SeriesBlock]:
    labels = cached_label_text(NODE, (node.cluster, node.node))
    yield _one("pgslot_up", labels, node.up)
    yield _one("pgslot_scrape_duration_seconds", labels, node.duration)
    if "node" in parts:
        yield from _node(labels, node)
    if "creations" in parts and node.creations is not None:
        yield _one("pgslot_creations_waiting", labels, len(node.creations))
    if "standby" in parts and node.standby is not None:
        yield from _standby(labels, node.standby)


def _node(labels: str, node: NodeSnapshot) -> Iterator[SeriesBlock]:
    probes = [(_with(labels, ("probe",), (probe,)), status) for probe, status in node.statuses.items()]
    yield StateSet("pgslot_probe_status", "status", tuple(QueryStatus), probes)
    facts = node.facts
    if facts is not None:
        role = "standby" if facts.in_recovery else "primary"
        yield _one("pgslot_node_info", _with(labels, ("role", "version"), (role, facts.version)), 1)
        levels = (facts.wal_level, facts.effective_wal_level)
        yield _one("pgslot_wal_level_info", _with(labels, _LEVELS, levels), 1)
        yield _one("pgslot_replication_slots", labels, facts.replication_slots)
        yield _one("pgslot_max_replication_slots", labels, facts.max_replication_slots)
        yield _one("pgslot_wal_keep_size_bytes", labels, facts.wal_keep_size_bytes)
        yield _one("pgslot_max_slot_wal_keep_size_bytes", labels, facts.max_slot_wal_keep_size_bytes)
        idle_timeout = facts.idle_replication_slot_timeout_seconds
        yield _one("pgslot_idle_replication_slot_timeout_seconds", labels, idle_timeout)
        if facts.wal_written_bytes is not None:
            # What was rewound has been written as well: for Prometheus a counter that falls has begun at 0 again.
            written = facts.wal_written_bytes + node.history.rewound
            yield _one("pgslot_wal_written_bytes_total", labels, written)


def _standby(labels: str, standby: Standby) -> Iterator[SeriesBlock]:
    if standby.streaming_configured is not False:
        yield _one("pgslot_wal_receiver_streaming", labels, standby.receiver_status == "streaming")
    yield _one("pgslot_wal_replay_paused", labels, standby.replay_pause_state != "not paused")
    yield _one("pgslot_wal_replay_lag_bytes", labels, standby.replay_lag_bytes)
    yield _one("pgslot_recovery_min_apply_delay_seconds", labels, standby.apply_delay_seconds)
    if standby.sync_replication_slots is not None:
        yield _one("pgslot_slotsync_enabled", labels, standby.sync_replication_slots)
        for setting, missing in missing_settings(standby).items():
            yield _one("pgslot_slotsync_setting_missing", _with(labels, ("setting",), (setting,)), missing)


def _slots(
    slots: Sequence[Slot], node: NodeSnapshot, cluster: ClusterSnapshot, memory: RenderCache
) -> Iterator[SeriesBlock]:
    """Metric by metric for all slots at once, each slot's labels made into text once: there may be 1,000 of them."""
    of_node = cached_label_text(NODE, (node.cluster, node.node))
    column = dict(zip(Slot._fields, zip(*slots, strict=True), strict=True))
    names = (column["slot_name"], column["database"])
    labels = memory.get_or_render(of_node, "labels", names, lambda: _slot_labels(of_node, *names))

    def states(name: str, label: str, known: tuple[str, ...], actual: tuple[str | None, ...]) -> SeriesBlock:
        inputs = (labels, actual)
        return CachedSeries(
            memory, of_node, name, inputs, lambda: StateSet(name, label, known, zip(*inputs, strict=True)).lines()
        )

    kinds = [column[each] for each in ("slot_type", "plugin", "temporary", "two_phase", "failover", "synced")]
    yield CachedSeries(memory, of_node, "pgslot_slot_info", (labels, kinds), lambda: _slot_info(labels, kinds))
    for name, each in SLOT_COLUMNS.items():
        yield CachedColumn(memory, of_node, name, labels, column[each])
    if None not in column["wal_status"]:
        yield states("pgslot_wal_status", "wal_status", WAL_STATUSES, column["wal_status"])
    else:
        statuses = [pair for pair in zip(labels, column["wal_status"], strict=True) if pair[1] is not None]
        yield StateSet("pgslot_wal_status", "wal_status", WAL_STATUSES, statuses)
    yield states("pgslot_invalidation_reason", "reason", INVALIDATION_REASONS, column["invalidation_reason"])
    if node.facts is not None and node.facts.major >= TELLS_SKIP_REASON:
        skipped = [(text, slot.slotsync_skip_reason) for text, slot in zip(labels, slots, strict=True) if slot.synced]
        yield StateSet("pgslot_slotsync_skip_reason", "reason", SKIP_REASONS, skipped)
    kept = None if node.is_primary else slots_keeping_decoding(cluster.primary)
    if kept is not None:
        stakes = [text for text, slot in zip(labels, slots, strict=True) if depends_on_primary(slot)]
        yield Samples("pgslot_depends_on_primary_slots", stakes, [len(kept)] * len(stakes))
    found = [diagnose_retention(slot, node, cluster) for slot in slots]
    causes = tuple([None if one.cause is RetentionCause.NONE else one.cause for one in found])
    yield states("pgslot_retention_cause", "cause", CAUSES, causes)
    yield from _culprits(zip(labels, found, strict=True))


def _slot_labels(of_node: str, names: Sequence[str], databases: Sequence[str]) -> list[str]:
    own = SLOT[len(NODE) :]
    return [f"{of_node},{label_text(own, each)}" for each in zip(names, databases, strict=True)]


def _slot_info(labels: Sequence[str], kinds: Sequence[Sequence[Any]]) -> bytes:
    whole = [f"{text},{_kind_text(*kind)}" for text, kind in zip(labels, zip(*kinds, strict=True), strict=True)]
    return Samples("pgslot_slot_info", whole, [1] * len(whole)).lines()


def _failover(cluster: ClusterSnapshot) -> Iterator[SeriesBlock]:
    """Whether each failover slot of the primary would survive a promotion of each standby that synchronises."""
    found = [one for one in readiness(cluster) if not is_short_lived(one.original)]
    if not found:
        return
    slots = [(one.node, one.original.slot_name, one.original.database) for one in found]
    labels = [label_text(SLOT, (cluster.cluster, *slot)) for slot in slots]
    yield Samples("pgslot_failover_ready", labels, [one.ready for one in found])
    yield Samples("pgslot_failover_lag_bytes", labels, [one.lag_bytes for one in found])
    reasons = [(text, one.not_ready_reason) for text, one in zip(labels, found, strict=True)]
    yield StateSet("pgslot_failover_unready_reason", "reason", tuple(NotReadyReason), reasons)


def _culprits(found: Iterable[tuple[str, Retention]]) -> Iterator[SeriesBlock]:
    """Who holds WAL back, where that has a name; `found` are slots' labels with what was found."""
    for labels, one in found:
        if one.blocker is not None:
            yield _blocker("pgslot_retention_blocker_age_seconds", labels, one.blocker)
        if one.standby_slot is not None:
            awaited = _with(labels, ("standby_slot",), (one.standby_slot,))
            yield _one("pgslot_retention_standby_info", awaited, 1)


def _blocker(name: str, labels: str, blocker: Transaction) -> SeriesBlock:
    return _one(name, _with(labels, BLOCKER, (blocker.held_by, *_session(blocker))), blocker.age_seconds)


@lru_cache(maxsize=100)
def _kind_text(slot_type: str, plugin: str, *flags: bool | None) -> str:
    return label_text(_KIND, (slot_type, plugin, *map(_flag, flags)))


def _wait(wait: CreationWait, cluster: str) -> Iterator[SeriesBlock]:
    labels = label_text(SLOT, (cluster, wait.node, wait.creation.slot_name, wait.creation.database))
    yield _one("pgslot_creation_wait_seconds", labels, wait.creation.wait_seconds)
    yield StateSet("pgslot_creation_wait_reason", "reason", tuple(WaitReason), [(labels, wait.reason)])
    yield _one("pgslot_creation_retried", labels, wait.creation.retried)
    creator = (str(wait.creation.pid), wait.creation.usename, wait.creation.application_name)
    yield _one("pgslot_creation_info", _with(labels, CREATOR, creator), 1)
    if wait.blocker is not None and _settled(wait.blocker):
        yield _blocker("pgslot_creation_blocker_age_seconds", labels, wait.blocker)


def _transactions(node: NodeSnapshot) -> Iterator[SeriesBlock]:
    if node.transactions is None:
        return
    of_node = cached_label_text(NODE, (node.cluster, node.node))
    oldest = {transaction.kind: transaction for transaction in node.transactions if transaction.oldest_start}
    for kind in TRANSACTION_KINDS:
        labels = _with(of_node, ("kind",), (kind,))
        transaction = oldest.get(kind)
        yield _one("pgslot_transactions", labels, transaction.open_count if transaction else 0)
        yield _one("pgslot_oldest_transaction_age_seconds", labels, transaction.age_seconds if transaction else 0)
        if transaction is not None and _settled(transaction):
            session = _with(of_node, TRANSACTION, (kind, *_session(transaction)))
            yield _one("pgslot_oldest_transaction_info", session, 1)
    holder = oldest_xid_transaction(node)
    if holder is not None and _settled(holder):
        session = _with(of_node, TRANSACTION, (holder.kind, *_session(holder)))
        yield _one("pgslot_oldest_xid_transaction_age_seconds", session, holder.age_seconds)


def _creation_passes(wait: CreationWait, cluster: ClusterSnapshot) -> bool:
    node, age = cluster.node(wait.node), wait.creation.wait_seconds
    if node is None or node.slots is None:
        # A look for creations alone: it comes so often that it would see many which last no longer than they have to.
        return age is not None and age < SHORT_LIVED_SECONDS
    slot = node.slot(wait.creation.slot_name)
    return age is not None and age < REPORTED_AFTER_SECONDS and slot is not None and is_short_lived(slot)


def _settled(transaction: Transaction) -> bool:
    return transaction.age_seconds is None or transaction.age_seconds >= REPORTED_AFTER_SECONDS


def is_short_lived(slot: Slot) -> bool:
    """
    Return whether a slot is one of those that come and go, and holds back nothing that anybody would miss.

    Each table that a subscription copies has a slot of its own, each base backup and many a snapshot a temporary one:
    thirty series that end within seconds, under a name that never comes again. One that stays long enough to hold back
    more than a segment is shown like any other.
    """
    name = slot.slot_name
    of_a_table = name.startswith("pg_") and _TABLE_SYNC.fullmatch(name) is not None
    if not (slot.temporary and not slot.synced) and not of_a_table:
        return False
    return slot.wal_status != "lost" and (slot.retained_wal_bytes or 0) <= SHORT_LIVED_BYTES


def _session(transaction: Transaction) -> tuple[str, ...]:
    pid = "" if transaction.pid is None else str(transaction.pid)
    return (pid, transaction.datname, transaction.usename, transaction.application_name, transaction.state)


def _one(name: str, labels: str, value: float | None) -> SeriesBlock:
    """Return one series; absent when the value is unknown."""
    return Sample(name, labels, value)


def _with(labels: str, names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return f"{labels},{cached_label_text(names, values)}"


def _flag(value: bool | None) -> str:
    return "" if value is None else str(value).lower()
