"""Snapshot and diagnosis to samples, and samples to the text that Prometheus reads."""

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from prometheus_client import Metric as Family
from prometheus_client.exposition import choose_encoder

from exporter import __version__
from exporter.catalogue import CATALOGUE, DECODING
from exporter.diagnosis import RetentionCause, Wait, WaitReason, retention_cause, waits
from exporter.probes import Slot, Transaction
from exporter.snapshot import ClusterSnapshot, NodeSnapshot, Status

WAL_STATUSES = ("reserved", "extended", "unreserved", "lost")
INVALIDATION_REASONS = ("wal_removed", "rows_removed", "wal_level_insufficient", "idle_timeout")
TRANSACTION_KINDS = ("xid", "snapshot", "idle_in_transaction", "prepared")
CAUSES = tuple(cause for cause in RetentionCause if cause is not RetentionCause.NONE)


class Sample(NamedTuple):
    """One series: the metric's name in the catalogue, its label values in the catalogue's order, and the value."""

    name: str
    labels: tuple[str, ...]
    value: float


class Collector(Protocol):
    """Anything of prometheus_client that can be asked for its families."""

    def collect(self) -> Iterable[Family]: ...


def cluster_samples(cluster: ClusterSnapshot, only: str | None = None) -> Iterator[Sample]:
    """Return the samples of one look at a cluster; `only`: those of this node, None for all."""
    for node in cluster.nodes:
        if only is not None and node.node != only:
            continue
        yield from _node(node)
        for slot in node.slots or ():
            yield from _slot(slot, node, cluster)
        yield from _transactions(node)
    for wait in waits(cluster):
        if only is None or wait.node == only:
            yield from _wait(wait, cluster.cluster)


def process_samples(*, reload_ok: bool, reloaded_at: float) -> Iterator[Sample]:
    """Return the samples of the process itself; `reloaded_at` is Unix time."""
    yield Sample("pgslot_build_info", (__version__,), 1)
    yield Sample("pgslot_config_last_reload_successful", (), reload_ok)
    yield Sample("pgslot_config_last_reload_success_timestamp_seconds", (), reloaded_at)


def families(samples: Iterable[Sample]) -> list[Family]:
    """Group samples into prometheus_client's families, in the catalogue's order."""
    by_name: dict[str, list[Sample]] = {}
    for sample in samples:
        by_name.setdefault(sample.name, []).append(sample)
    result = []
    for metric in CATALOGUE.values():
        if metric.name in by_name:
            family = Family(metric.name.removesuffix("_total"), metric.help, metric.type)
            for sample in by_name[metric.name]:
                family.add_sample(metric.name, dict(zip(metric.labels, sample.labels, strict=True)), sample.value)
            result.append(family)
    return result


def exposition(accept: str, collected: Iterable[Family]) -> tuple[bytes, str]:
    """Return the body and its content type, in the format that the scraper's Accept header asks for."""
    encode: Callable[[Collector], bytes]
    encode, content_type = choose_encoder(accept)
    return encode(_Collected(list(collected))), content_type


class _Collected:
    def __init__(self, collected: list[Family]) -> None:
        self._collected = collected

    def collect(self) -> list[Family]:
        return self._collected


def _node(node: NodeSnapshot) -> Iterator[Sample]:
    labels = (node.cluster, node.node)
    yield Sample("pgslot_up", labels, node.up)
    yield Sample("pgslot_scrape_duration_seconds", labels, node.duration)
    for probe, status in node.statuses.items():
        yield from _states("pgslot_probe_status", (*labels, probe), status, Status)
    facts = node.facts
    if facts is not None:
        role = "standby" if facts.in_recovery else "primary"
        yield Sample("pgslot_node_info", (*labels, role, facts.version), 1)
        yield Sample("pgslot_replication_slots", labels, facts.replication_slots)
        yield Sample("pgslot_max_replication_slots", labels, facts.max_replication_slots)
        yield Sample("pgslot_wal_keep_size_bytes", labels, facts.wal_keep_size_bytes)
        yield from _known("pgslot_max_slot_wal_keep_size_bytes", labels, facts.max_slot_wal_keep_size_bytes)
        yield from _known("pgslot_wal_written_bytes_total", labels, facts.wal_written_bytes)
    if node.creations is not None:
        yield Sample("pgslot_creations_waiting", labels, len(node.creations))
    standby = node.standby
    if standby is not None:
        if standby.streaming_configured is not False:
            yield Sample("pgslot_wal_receiver_streaming", labels, standby.receiver_status == "streaming")
        yield Sample("pgslot_wal_replay_paused", labels, standby.replay_pause_state != "not paused")
        yield from _known("pgslot_wal_replay_lag_bytes", labels, standby.replay_lag_bytes)


def _slot(slot: Slot, node: NodeSnapshot, cluster: ClusterSnapshot) -> Iterator[Sample]:
    labels = (node.cluster, node.node, slot.slot_name, slot.database)
    kind = (slot.slot_type, slot.plugin, *map(_flag, (slot.temporary, slot.two_phase, slot.failover, slot.synced)))
    yield Sample("pgslot_slot_info", (*labels, *kind), 1)
    yield Sample("pgslot_active", labels, slot.active)
    yield from _known("pgslot_retained_wal_bytes", labels, slot.retained_wal_bytes)
    yield from _known("pgslot_unconfirmed_wal_bytes", labels, slot.unconfirmed_wal_bytes)
    yield from _known("pgslot_pinned_wal_bytes", labels, slot.pinned_wal_bytes)
    yield from _known("pgslot_safe_wal_size_bytes", labels, slot.safe_wal_size_bytes)
    yield from _known("pgslot_catalog_xmin_age_xids", labels, slot.catalog_xmin_age_xids)
    yield from _known("pgslot_inactive_since_timestamp_seconds", labels, slot.inactive_since)
    for name, (column, _) in DECODING.items():
        yield from _known(name, labels, getattr(slot, column))
    if slot.wal_status is not None:
        yield from _states("pgslot_wal_status", labels, slot.wal_status, WAL_STATUSES)
    yield from _states("pgslot_invalidation_reason", labels, slot.invalidation_reason, INVALIDATION_REASONS)
    cause = retention_cause(slot, node, cluster)
    if cause is not None:
        yield from _states("pgslot_retention_cause", labels, None if cause is RetentionCause.NONE else cause, CAUSES)


def _wait(wait: Wait, cluster: str) -> Iterator[Sample]:
    labels = (cluster, wait.node, wait.creation.slot_name, wait.creation.database)
    yield from _known("pgslot_creation_wait_seconds", labels, wait.creation.wait_seconds)
    yield from _states("pgslot_creation_wait_reason", labels, wait.reason, WaitReason)
    if wait.blocker is not None and wait.blocker.age_seconds is not None:
        held_by = "client" if wait.blocker.held_by == "client backend" else wait.blocker.held_by
        session = (held_by, *_session(wait.blocker))
        yield Sample("pgslot_creation_blocker_age_seconds", (*labels, *session), wait.blocker.age_seconds)


def _transactions(node: NodeSnapshot) -> Iterator[Sample]:
    if node.transactions is None:
        return
    oldest = {transaction.kind: transaction for transaction in node.transactions if transaction.oldest_start}
    for kind in TRANSACTION_KINDS:
        labels = (node.cluster, node.node, kind)
        transaction = oldest.get(kind)
        yield Sample("pgslot_transactions", labels, transaction.open_count if transaction else 0)
        age = transaction.age_seconds if transaction else 0
        yield from _known("pgslot_oldest_transaction_age_seconds", labels, age)
        if transaction is not None:
            yield Sample("pgslot_oldest_transaction_info", (*labels, *_session(transaction)), 1)


def _session(transaction: Transaction) -> tuple[str, ...]:
    pid = "" if transaction.pid is None else str(transaction.pid)
    return (pid, transaction.datname, transaction.usename, transaction.application_name, transaction.state)


def _known(name: str, labels: tuple[str, ...], value: float | None) -> Iterator[Sample]:
    """An unknown value is an absent series."""
    if value is not None:
        yield Sample(name, labels, value)


def _states(name: str, labels: tuple[str, ...], actual: str | None, known: Iterable[str]) -> Iterator[Sample]:
    """One series for each known state, 1 for the actual one; an actual state nobody knew yet gets its own series."""
    states = [f"{state}" for state in known]
    if actual is not None and actual not in states:
        states.append(actual)
    for state in states:
        yield Sample(name, (*labels, state), state == actual)


def _flag(value: bool | None) -> str:
    return "" if value is None else str(value).lower()
