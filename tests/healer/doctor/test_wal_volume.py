"""Doctor's checks of what ends or announces WAL that piles up."""

from dataclasses import replace
from typing import Any

import pytest

from healer.doctor.checks.wal_volume import judge_volume_series, judge_wal_volume, named_volumes
from healer.doctor.result import CheckStatus
from pgslot.config.model import Cluster, Config, HealerSettings, Node, WalVolume
from pgslot.snapshot.model import NodeSnapshot
from tests.support.builders.snapshots import FACTS, SLOT, node, unreachable_node
from tests.support.fakes.monitoring import NOWHERE

GIBIBYTE = 1024**3
LIMITED = replace(FACTS, max_slot_wal_keep_size_bytes=2 * GIBIBYTE)
UNKNOWN = WalVolume()
OWN = WalVolume(size_bytes=200 * GIBIBYTE)
FILESYSTEM = WalVolume(filesystem=("db1:9100", "/pgdata"))
CLAIM = WalVolume(claim=("shop", "pgdata-0"))
UNLIMITED = "no max_slot_wal_keep_size"
UNNAMED = "and the configuration does not name its volume"


def configured(volume: WalVolume, name: str = "n") -> Node:
    return Node("c", name, NOWHERE, volume)


@pytest.mark.parametrize(
    ("volume", "snapshot", "status", "found"),
    [
        (
            UNKNOWN,
            node("n", recovery=False, slots=(SLOT,)),
            CheckStatus.WARNING,
            f"{UNLIMITED}, {UNNAMED}; 1 logical slot(s)",
        ),
        (UNKNOWN, node("n", recovery=False), CheckStatus.OK, f"{UNLIMITED}, {UNNAMED}"),
        (
            UNKNOWN,
            node("n", recovery=False, slots=(SLOT._replace(slot_type="physical"),)),
            CheckStatus.OK,
            f"{UNLIMITED}, {UNNAMED}",
        ),
        (
            UNKNOWN,
            node("n", recovery=False, slots=(SLOT,), facts=LIMITED),
            CheckStatus.OK,
            f"max_slot_wal_keep_size 2048MB, {UNNAMED}",
        ),
        (OWN, node("n", recovery=False, slots=(SLOT,)), CheckStatus.OK, f"{UNLIMITED}, wal_volume 204800MB"),
        (
            FILESYSTEM,
            node("n", recovery=False, slots=(SLOT,)),
            CheckStatus.OK,
            f"{UNLIMITED}, node_exporter db1:9100 /pgdata",
        ),
        (CLAIM, node("n", recovery=False, slots=(SLOT,)), CheckStatus.OK, f"{UNLIMITED}, kubelet shop/pgdata-0"),
    ],
)
def test_node_needs_a_limit_or_a_named_volume(
    volume: WalVolume, snapshot: NodeSnapshot, status: CheckStatus, found: str
) -> None:
    [finding] = judge_wal_volume(configured(volume), snapshot)
    assert (finding.check, finding.subject, finding.status, finding.found) == ("WAL volume", "c/n", status, found)
    assert bool(finding.advice) == (status is CheckStatus.WARNING)


@pytest.mark.parametrize("snapshot", [unreachable_node("n"), None])
def test_node_that_did_not_answer_is_left_to_the_check_of_its_probes(snapshot: NodeSnapshot | None) -> None:
    assert list(judge_wal_volume(configured(OWN), snapshot)) == []


def series(name: str) -> dict[str, Any]:
    return {"metric": {"cluster": "c", "node": name}, "value": [0, "1"]}


def test_named_volumes_need_a_series_in_prometheus() -> None:
    volumes = [configured(OWN, "a"), configured(FILESYSTEM, "b"), configured(CLAIM, "d")]
    finding = judge_volume_series("prometheus", volumes, [series("a"), series("b"), series("d")])
    assert (finding.status, finding.found) == (CheckStatus.OK, "the free bytes of all 3 named volumes are there")
    finding = judge_volume_series("prometheus", volumes, [series("a")])
    assert finding.status is CheckStatus.WARNING
    assert (
        finding.found == "not known what is free for c/b (node_exporter db1:9100 /pgdata), c/d (kubelet shop/pgdata-0)"
    )
    assert "node_filesystem_avail_bytes" in finding.advice


def test_nodes_without_a_volume_are_left_out() -> None:
    nodes = (configured(OWN, "a"), configured(UNKNOWN, "b"))
    config = Config((Cluster("c", nodes, None),), HealerSettings())
    assert [node.name for node in named_volumes(config)] == ["a"]
