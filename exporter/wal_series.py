"""A node's WAL directory as series: its size, who holds what in it, the archiver, and the volume that it is on."""

from collections.abc import Iterator

from exporter.catalogue import CATALOGUE
from exporter.labels import NODE
from pgslot.config.model import Config, WalVolume
from pgslot.diagnosis.wal_holders import archiver_failing, wal_holders
from pgslot.exposition.cache import CachedSeries, RenderCache
from pgslot.exposition.text_format import Sample, Samples, SeriesBlock, cached_label_text, label_text
from pgslot.snapshot.model import NodeSnapshot
from pgslot.snapshot.wal_rows import WalFacts

_HELD_LABELS = CATALOGUE["pgslot_wal_held_bytes"].labels
_FILESYSTEM_LABELS = CATALOGUE["pgslot_wal_volume_filesystem_info"].labels
_CLAIM_LABELS = CATALOGUE["pgslot_wal_volume_claim_info"].labels


def wal_series(node: NodeSnapshot, cache: RenderCache) -> Iterator[SeriesBlock]:
    """Yield what the last listing of the node's WAL directory showed."""
    if node.wal is None or node.facts is None:
        return
    names = (node.cluster, node.node)
    labels = cached_label_text(NODE, names)
    if node.wal.directory is not None:
        yield Sample("pgslot_wal_directory_bytes", labels, node.wal.directory.size_bytes)
    # Most scrapes show the same listing as the one before; who holds what is worked out once for each.
    inputs = (node.wal, node.facts.wal_segment_size_bytes, node.facts.wal_keep_size_bytes)
    yield CachedSeries(cache, labels, "pgslot_wal_held_bytes", inputs, lambda: _held(node))
    if node.wal.facts is not None and node.wal.facts.archiving:
        yield from _archiver(labels, node.wal.facts)
    if node.wal.archive_status is not None:
        yield Sample("pgslot_archive_ready_files", labels, node.wal.archive_status.ready_files)
    if node.wal.checkpoint is not None:
        yield Sample("pgslot_last_checkpoint_timestamp_seconds", labels, node.wal.checkpoint.checkpoint_time)


def _held(node: NodeSnapshot) -> bytes:
    """Return the lines of pgslot_wal_held_bytes."""
    held = wal_holders(node) or ()
    labels = [label_text(_HELD_LABELS, (node.cluster, node.node, item.holder, item.slot_name)) for item in held]
    return Samples("pgslot_wal_held_bytes", labels, [item.held_bytes for item in held]).lines()


def _archiver(labels: str, facts: WalFacts) -> Iterator[SeriesBlock]:
    yield Sample("pgslot_archiver_failing", labels, archiver_failing(facts))
    yield Sample("pgslot_archiver_failed_total", labels, facts.failed_count)
    yield Sample("pgslot_archiver_last_archived_timestamp_seconds", labels, facts.last_archived_time)


def volume_series(config: Config, cluster: str | None = None, node: str | None = None) -> Iterator[SeriesBlock]:
    """Yield what the configuration says of the volumes: of this cluster and node, or of all for None."""
    for configured in config.clusters:
        for member in configured.nodes:
            if cluster in (None, member.cluster) and node in (None, member.name):
                yield from _volume((member.cluster, member.name), member.wal_volume)


def _volume(names: tuple[str, str], volume: WalVolume) -> Iterator[SeriesBlock]:
    if volume.size_bytes is not None:
        yield Sample("pgslot_wal_volume_size_bytes", cached_label_text(NODE, names), volume.size_bytes)
    if volume.filesystem is not None:
        labels = label_text(_FILESYSTEM_LABELS, (*names, *volume.filesystem))
        yield Sample("pgslot_wal_volume_filesystem_info", labels, 1)
    if volume.claim is not None:
        yield Sample("pgslot_wal_volume_claim_info", label_text(_CLAIM_LABELS, (*names, *volume.claim)), 1)
