"""
A cluster's snapshot and its diagnosis as blocks of series.

`cluster_series` diagnoses, but hardly renders: a block becomes text in `pgslot.exposition.families.render_pieces`, when
its `lines` is called. Blocks of slots then reuse the text in the caller's `RenderCache`.
"""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from exporter.catalogue import CATALOGUE, DECODING, DECODING_SINCE_19
from exporter.collectors import ALL
from exporter.labels import BLOCKER, CREATOR, NODE, SLOT, TRANSACTION
from exporter.standby_slots import catalog_horizon_series, failover_readiness_series, leftover_series
from exporter.wal_series import wal_series
from pgslot.diagnosis.creation_wait import CreationWait, WaitReason, creation_waits, oldest_xid_transaction
from pgslot.diagnosis.failover_readiness import missing_settings
from pgslot.diagnosis.retention import Retention, RetentionCause, diagnose_retention
from pgslot.diagnosis.services import service_names
from pgslot.diagnosis.short_lived import is_creation_short_lived, is_reportable, is_short_lived
from pgslot.diagnosis.unconfigured_standbys import unconfigured_standbys
from pgslot.diagnosis.upstream import fed_from_archive
from pgslot.diagnosis.wal_level import depends_on_primary, slots_keeping_decoding
from pgslot.exposition.cache import CachedColumn, CachedSeries, RenderCache
from pgslot.exposition.text_format import Sample, Samples, SeriesBlock, StateSet, cached_label_text, label_text
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot, QueryStatus
from pgslot.snapshot.rows import Slot, Standby, Transaction

WAL_STATUSES = ("reserved", "extended", "unreserved", "lost")
SKIP_REASONS = ("wal_or_rows_removed", "wal_not_flushed", "no_consistent_snapshot", "slot_invalidated")
SKIP_REASON_SINCE = 19
"""First major version that has slotsync_skip_reason."""
INVALIDATION_REASONS = ("wal_removed", "rows_removed", "wal_level_insufficient", "idle_timeout")
TRANSACTION_KINDS = ("xid", "snapshot", "idle_in_transaction", "prepared")
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
    **{name: column for name, (column, _) in (DECODING | DECODING_SINCE_19).items()},
}
"""Metrics that are a column of slots.sql, unchanged."""

_SLOT_INFO_LABELS = CATALOGUE["pgslot_slot_info"].labels[len(SLOT) :]
_NODE_INFO_LABELS = CATALOGUE["pgslot_node_info"].labels[len(NODE) :]
_WAL_LEVEL_LABELS = CATALOGUE["pgslot_wal_level_info"].labels[len(NODE) :]


def cluster_series(
    cluster: ClusterSnapshot,
    collectors: frozenset[str] = ALL,
    only: str | None = None,
    cache: RenderCache | None = None,
) -> Iterator[SeriesBlock]:
    """
    Yield a cluster's series of these collectors: of the node named `only`, or of all nodes for None.

    The caller owns `cache` and passes the same one to every scrape; None renders everything again.
    """
    cache = RenderCache() if cache is None else cache
    for node in cluster.nodes:
        if only is not None and node.node != only:
            continue
        yield from _node_series(node, collectors)
        if "wal_directory" in collectors:
            yield from wal_series(node, cache)
        slots = [slot for slot in node.slots or () if not is_short_lived(slot)] if "slots" in collectors else ()
        if slots:
            yield from _slots(slots, node, cluster, cache)
        if "transactions" in collectors:
            yield from _transactions(node)
    if "slots" in collectors:
        yield from leftover_series(cluster, only)
        yield from failover_readiness_series(cluster, only)
    primary = cluster.primary
    if primary is not None and only in (None, primary.node) and "senders" in collectors:
        unconfigured = unconfigured_standbys(cluster)
        labels = cached_label_text(NODE, (primary.cluster, primary.node))
        yield Sample("pgslot_unlisted_standbys", labels, None if unconfigured is None else unconfigured.count)
    for wait in creation_waits(cluster) if "creations" in collectors else ():
        if (only is None or wait.node == only) and not is_creation_short_lived(wait, cluster):
            yield from _creation_wait(wait, cluster.cluster)


def _node_series(node: NodeSnapshot, collectors: frozenset[str]) -> Iterator[SeriesBlock]:
    labels = cached_label_text(NODE, (node.cluster, node.node))
    yield Sample("pgslot_up", labels, node.up)
    yield Sample("pgslot_scrape_duration_seconds", labels, node.duration)
    if "node" in collectors:
        yield from _node_facts(labels, node)
    if "creations" in collectors and node.creations is not None:
        yield Sample("pgslot_creations_waiting", labels, len(node.creations))
    if "standby" in collectors and node.standby is not None:
        yield from _standby(labels, node.standby)


def _node_facts(labels: str, node: NodeSnapshot) -> Iterator[SeriesBlock]:
    probes = {**node.all_statuses, **node.refused}
    statuses = [(_with_labels(labels, ("probe",), (query,)), status) for query, status in probes.items()]
    yield StateSet("pgslot_probe_status", "status", tuple(QueryStatus), statuses)
    facts = node.facts
    if facts is not None:
        role = "standby" if facts.in_recovery else "primary"
        yield Sample(
            "pgslot_node_info", _with_labels(labels, _NODE_INFO_LABELS, (role, facts.version, service_names(node))), 1
        )
        levels = (facts.wal_level, facts.effective_wal_level)
        yield Sample("pgslot_wal_level_info", _with_labels(labels, _WAL_LEVEL_LABELS, levels), 1)
        yield Sample("pgslot_replication_slots", labels, facts.replication_slots)
        yield Sample("pgslot_max_replication_slots", labels, facts.max_replication_slots)
        yield Sample("pgslot_wal_keep_size_bytes", labels, facts.wal_keep_size_bytes)
        yield Sample("pgslot_max_wal_size_bytes", labels, facts.max_wal_size_bytes)
        yield Sample("pgslot_max_slot_wal_keep_size_bytes", labels, facts.max_slot_wal_keep_size_bytes)
        idle_timeout = facts.idle_replication_slot_timeout_seconds
        yield Sample("pgslot_idle_replication_slot_timeout_seconds", labels, idle_timeout)
        if facts.wal_written_bytes is not None:
            # Rewound WAL was written as well; and for Prometheus a counter that falls has restarted at 0.
            written = facts.wal_written_bytes + node.history.rewound
            yield Sample("pgslot_wal_written_bytes_total", labels, written)


def _standby(labels: str, standby: Standby) -> Iterator[SeriesBlock]:
    if standby.receiver_running is not None and not fed_from_archive(standby):
        yield Sample("pgslot_wal_receiver_streaming", labels, standby.receiver_status == "streaming")
    if standby.replay_pause_state is not None:
        yield Sample("pgslot_wal_replay_paused", labels, standby.replay_pause_state != "not paused")
    yield Sample("pgslot_wal_replay_lag_bytes", labels, standby.replay_lag_bytes)
    yield Sample("pgslot_recovery_min_apply_delay_seconds", labels, standby.apply_delay_seconds)
    if standby.sync_replication_slots is not None:
        yield Sample("pgslot_slotsync_enabled", labels, standby.sync_replication_slots)
        for setting, missing in missing_settings(standby).items():
            yield Sample("pgslot_slotsync_setting_missing", _with_labels(labels, ("setting",), (setting,)), missing)


def _slots(
    slots: Sequence[Slot], node: NodeSnapshot, cluster: ClusterSnapshot, cache: RenderCache
) -> Iterator[SeriesBlock]:
    """Yield metric by metric for all slots together: there may be 1,000, and each slot's labels become text once."""
    node_labels = cached_label_text(NODE, (node.cluster, node.node))
    column = dict(zip(Slot._fields, zip(*slots, strict=True), strict=True))
    names = (column["slot_name"], column["database"])
    labels = cache.get_or_render(node_labels, "labels", names, lambda: _slot_labels(node_labels, *names))

    def state_set(name: str, label: str, states: tuple[str, ...], actual: tuple[str | None, ...]) -> SeriesBlock:
        inputs = (labels, actual)
        return CachedSeries(
            cache, node_labels, name, inputs, lambda: StateSet(name, label, states, zip(*inputs, strict=True)).lines()
        )

    kinds = [column[name] for name in ("slot_type", "plugin", "temporary", "two_phase", "failover", "synced")]
    yield CachedSeries(cache, node_labels, "pgslot_slot_info", (labels, kinds), lambda: _slot_info(labels, kinds))
    for metric, name in SLOT_COLUMNS.items():
        yield CachedColumn(cache, node_labels, metric, labels, column[name])
    if None not in column["wal_status"]:
        yield state_set("pgslot_wal_status", "wal_status", WAL_STATUSES, column["wal_status"])
    else:
        statuses = [pair for pair in zip(labels, column["wal_status"], strict=True) if pair[1] is not None]
        yield StateSet("pgslot_wal_status", "wal_status", WAL_STATUSES, statuses)
    yield state_set("pgslot_invalidation_reason", "reason", INVALIDATION_REASONS, column["invalidation_reason"])
    if node.facts is not None and node.facts.major >= SKIP_REASON_SINCE:
        yield from _skipped_synchronisations(
            [(text, slot) for text, slot in zip(labels, slots, strict=True) if slot.synced]
        )
    primary_slots = None if node.is_primary else slots_keeping_decoding(cluster.primary)
    if primary_slots is not None:
        dependent = [text for text, slot in zip(labels, slots, strict=True) if depends_on_primary(slot)]
        yield Samples("pgslot_depends_on_primary_slots", dependent, [len(primary_slots)] * len(dependent))
    yield from catalog_horizon_series(slots, labels, node_labels, node, cluster)
    retentions = [diagnose_retention(slot, node, cluster) for slot in slots]
    causes = tuple([None if retention.cause is RetentionCause.NONE else retention.cause for retention in retentions])
    yield state_set("pgslot_retention_cause", "cause", CAUSES, causes)
    yield from _retention_blockers(zip(labels, retentions, strict=True))


def _skipped_synchronisations(copies: Sequence[tuple[str, Slot]]) -> Iterator[SeriesBlock]:
    """Yield what 19 shows of the synchronisation of these copies, given with their labels."""
    skipped = [(text, copy.slotsync_skip_reason) for text, copy in copies]
    yield StateSet("pgslot_slotsync_skip_reason", "reason", SKIP_REASONS, skipped)
    texts = [text for text, _ in copies]
    yield Samples("pgslot_slotsync_skips_total", texts, [copy.slotsync_skip_count for _, copy in copies])
    last = [copy.slotsync_last_skip for _, copy in copies]
    yield Samples("pgslot_slotsync_last_skip_timestamp_seconds", texts, last)


def _slot_labels(node_labels: str, names: Sequence[str], databases: Sequence[str]) -> list[str]:
    own_labels = SLOT[len(NODE) :]
    return [f"{node_labels},{label_text(own_labels, values)}" for values in zip(names, databases, strict=True)]


def _slot_info(labels: Sequence[str], kinds: Sequence[Sequence[Any]]) -> bytes:
    """Return the lines of pgslot_slot_info; `kinds` are its other labels' columns."""
    texts = [f"{text},{_kind_text(*kind)}" for text, kind in zip(labels, zip(*kinds, strict=True), strict=True)]
    return Samples("pgslot_slot_info", texts, [1] * len(texts)).lines()


def _retention_blockers(retentions: Iterable[tuple[str, Retention]]) -> Iterator[SeriesBlock]:
    """Yield who holds a slot's WAL back, or who may, by slots' labels: a transaction or a standby."""
    for labels, retention in retentions:
        if retention.blocker is not None:
            yield _blocker("pgslot_retention_blocker_age_seconds", labels, retention.blocker)
        for candidate in retention.candidates:
            yield _blocker("pgslot_retention_candidate_age_seconds", labels, candidate)
        if retention.standby_slot is not None:
            standby_labels = _with_labels(labels, ("standby_slot",), (retention.standby_slot,))
            yield Sample("pgslot_retention_standby_info", standby_labels, 1)


def _blocker(name: str, labels: str, blocker: Transaction) -> SeriesBlock:
    return Sample(name, _with_labels(labels, BLOCKER, (blocker.backend_type, *_session(blocker))), blocker.age_seconds)


@lru_cache(maxsize=100)
def _kind_text(slot_type: str, plugin: str, *flags: bool | None) -> str:
    return label_text(_SLOT_INFO_LABELS, (slot_type, plugin, *map(_flag, flags)))


def _creation_wait(wait: CreationWait, cluster: str) -> Iterator[SeriesBlock]:
    labels = label_text(SLOT, (cluster, wait.node, wait.creation.slot_name, wait.creation.database))
    yield Sample("pgslot_creation_wait_seconds", labels, wait.creation.wait_seconds)
    yield StateSet("pgslot_creation_wait_reason", "reason", tuple(WaitReason), [(labels, wait.reason)])
    yield Sample("pgslot_creation_retried", labels, wait.creation.retried)
    creator = (str(wait.creation.pid), wait.creation.usename, wait.creation.application_name)
    yield Sample("pgslot_creation_info", _with_labels(labels, CREATOR, creator), 1)
    if wait.blocker is not None and is_reportable(wait.blocker):
        yield _blocker("pgslot_creation_blocker_age_seconds", labels, wait.blocker)


def _transactions(node: NodeSnapshot) -> Iterator[SeriesBlock]:
    if node.transactions is None:
        return
    node_labels = cached_label_text(NODE, (node.cluster, node.node))
    oldest = {transaction.kind: transaction for transaction in node.transactions if transaction.oldest_start}
    for kind in TRANSACTION_KINDS:
        labels = _with_labels(node_labels, ("kind",), (kind,))
        transaction = oldest.get(kind)
        yield Sample("pgslot_transactions", labels, transaction.open_count if transaction else 0)
        yield Sample("pgslot_oldest_transaction_age_seconds", labels, transaction.age_seconds if transaction else 0)
        if transaction is not None and is_reportable(transaction):
            session_labels = _with_labels(node_labels, TRANSACTION, (kind, *_session(transaction)))
            yield Sample("pgslot_oldest_transaction_info", session_labels, 1)
    holder = oldest_xid_transaction(node)
    if holder is not None and is_reportable(holder):
        session_labels = _with_labels(node_labels, TRANSACTION, (holder.kind, *_session(holder)))
        yield Sample("pgslot_oldest_xid_transaction_age_seconds", session_labels, holder.age_seconds)


def _session(transaction: Transaction) -> tuple[str, ...]:
    """Return the values of the labels SESSION; a prepared transaction has no pid."""
    pid = "" if transaction.pid is None else str(transaction.pid)
    return (pid, transaction.datname, transaction.usename, transaction.application_name, transaction.state)


def _with_labels(labels: str, names: tuple[str, ...], values: tuple[str, ...]) -> str:
    return f"{labels},{cached_label_text(names, values)}"


def _flag(value: bool | None) -> str:
    return "" if value is None else str(value).lower()
