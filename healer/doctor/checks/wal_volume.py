"""Whether anything ends or announces WAL that piles up: a limit, a named volume, and its series in Prometheus."""

from collections.abc import Iterator, Sequence
from typing import Any

from healer.doctor.result import CheckStatus, Finding
from pgslot.config.model import Config, Node, WalVolume
from pgslot.snapshot.model import NodeSnapshot

FREE_BYTES = "node:pgslot_wal_volume_free_bytes:min"
"""What the rules record of each node whose volume is known to Prometheus."""
MEBIBYTE = 1024 * 1024


def judge_wal_volume(node: Node, snapshot: NodeSnapshot | None) -> Iterator[Finding]:
    """Report the limit of a node's slots and its named volume; nothing where it did not answer (see `probes`)."""
    subject = f"{node.cluster}/{node.name}"
    if snapshot is None or snapshot.facts is None or snapshot.slots is None:
        return
    limit = snapshot.facts.max_slot_wal_keep_size_bytes
    shown = "no max_slot_wal_keep_size" if limit is None else f"max_slot_wal_keep_size {limit // MEBIBYTE}MB"
    named = _named(node.wal_volume)
    found = f"{shown}, {named or 'and the configuration does not name its volume'}"
    logical = sum(slot.slot_type == "logical" and not slot.used_by_repack for slot in snapshot.slots)
    if limit is not None or named or not logical:
        yield Finding("WAL volume", subject, CheckStatus.OK, found)
        return
    advice = (
        "Set max_slot_wal_keep_size, or name the volume (wal_volume, wal_volume_labels): otherwise nothing predicts"
        " when the volume is full and PostgreSQL stops."
    )
    yield Finding("WAL volume", subject, CheckStatus.WARNING, f"{found}; {logical} logical slot(s)", advice)


def named_volumes(config: Config) -> list[Node]:
    """Return the nodes whose volume the configuration names."""
    return [node for cluster in config.clusters for node in cluster.nodes if _named(node.wal_volume)]


def judge_volume_series(shown: str, nodes: Sequence[Node], free: Sequence[dict[str, Any]]) -> Finding:
    """Report whether Prometheus knows what is free for these nodes; `free`: the series of FREE_BYTES."""
    present = {(series["metric"].get("cluster"), series["metric"].get("node")) for series in free}
    missing = [node for node in nodes if (node.cluster, node.name) not in present]
    if not missing:
        return Finding("volumes", shown, CheckStatus.OK, f"the free bytes of all {len(nodes)} named volumes are there")
    names = ", ".join(f"{node.cluster}/{node.name} ({_named(node.wal_volume)})" for node in missing)
    advice = (
        "wal_volume needs pgslot_wal_directory_bytes (see `WAL directory`); the labels have to be those of"
        " node_filesystem_avail_bytes or kubelet_volume_stats_available_bytes in this Prometheus."
    )
    return Finding("volumes", shown, CheckStatus.WARNING, f"not known what is free for {names}", advice)


def _named(volume: WalVolume) -> str:
    """Return how the configuration names the volume; empty if it does not."""
    if volume.size_bytes is not None:
        return f"wal_volume {volume.size_bytes // MEBIBYTE}MB"
    if volume.filesystem is not None:
        return f"node_exporter {volume.filesystem[0]} {volume.filesystem[1]}"
    return "" if volume.claim is None else f"kubelet {volume.claim[0]}/{volume.claim[1]}"
