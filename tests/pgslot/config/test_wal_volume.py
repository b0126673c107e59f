"""`wal_volume` and `wal_volume_labels`: for a node, for all nodes of a cluster, and for members that Patroni lists."""

from pathlib import Path

import pytest

from pgslot.cli.errors import ConfigError
from pgslot.config.loader import load
from pgslot.config.model import Cluster, WalVolume
from pgslot.patroni.answer import Answer, Member
from pgslot.patroni.discovery import ClusterDiscovery

TEMPLATE = """
clusters:
  a:
    {cluster}
    nodes:
      n1: {{conninfo: "host=db1"{node}}}
      n2: {{conninfo: "host=db2"}}
"""


def loaded(folder: Path, cluster: str = "", node: str = "") -> Cluster:
    file = folder / "pgslot.yml"
    file.write_text(TEMPLATE.format(cluster=cluster, node=f", {node}" if node else ""), "utf-8")
    [result] = load(file).clusters
    return result


def volumes(cluster: Cluster) -> list[WalVolume]:
    return [node.wal_volume for node in cluster.nodes]


@pytest.mark.parametrize(
    ("text", "size"),
    [("200GB", 200 * 2**30), ("1.5TB", 3 * 2**39), ("512 MB", 2**29), ("16kB", 16384), ("0.5kB", 512)],
)
def test_sizes_have_the_units_of_postgresql(tmp_path: Path, text: str, size: int) -> None:
    assert volumes(loaded(tmp_path, node=f"wal_volume: {text}")) == [WalVolume(size), WalVolume()]


def test_a_node_is_described_by_its_own_keys_and_otherwise_by_those_of_its_cluster(tmp_path: Path) -> None:
    cluster = loaded(
        tmp_path,
        cluster='wal_volume: 1TB\n    wal_volume_labels: {instance: "{node}:9100", mountpoint: "/pg/{node}"}',
        node="wal_volume: 2TB",
    )
    assert volumes(cluster) == [
        WalVolume(2 * 2**40, filesystem=("n1:9100", "/pg/n1")),
        WalVolume(2**40, filesystem=("n2:9100", "/pg/n2")),
    ]


def test_labels_of_a_node_replace_those_of_its_cluster(tmp_path: Path) -> None:
    cluster = loaded(
        tmp_path,
        cluster='wal_volume_labels: {namespace: shop, persistentvolumeclaim: "pgdata-{node}"}',
        node='wal_volume_labels: {instance: "db1:9100", mountpoint: /pgdata}',
    )
    assert volumes(cluster) == [WalVolume(filesystem=("db1:9100", "/pgdata")), WalVolume(claim=("shop", "pgdata-n2"))]


def test_a_changed_volume_is_no_other_node(tmp_path: Path) -> None:
    """Otherwise a reload would cost the node's history."""
    before, after = loaded(tmp_path), loaded(tmp_path, cluster="wal_volume: 1TB")
    assert before == after
    assert volumes(before) != volumes(after)


def test_members_that_patroni_lists_have_the_volume_of_their_cluster(tmp_path: Path) -> None:
    file = tmp_path / "pgslot.yml"
    file.write_text(
        "clusters: {a: {patroni: ['http://p:8008'], conninfo: 'user=x', wal_volume: 1GB,"
        " wal_volume_labels: {namespace: shop, persistentvolumeclaim: 'pgdata-{node}'}}}",
        "utf-8",
    )
    [cluster] = load(file).clusters
    assert cluster.patroni is not None
    answer = Answer((Member("m0", "10.0.0.1", 5432), Member("m1", "10.0.0.2", 5432)), (), None)
    listed = ClusterDiscovery(cluster.patroni, answer=answer).with_members(cluster)
    assert volumes(listed) == [WalVolume(2**30, claim=("shop", f"pgdata-{name}")) for name in ("m0", "m1")]


MISTAKES = {
    "without a unit": (
        "wal_volume: 200",
        "expected a size such as 200GB, in kB, MB, GB or TB, larger than 0, found 200",
    ),
    "another unit": ("wal_volume: 200GiB", "expected a size such as 200GB, in kB, MB, GB or TB"),
    "nothing": ("wal_volume: 0GB", "expected a size such as 200GB, in kB, MB, GB or TB, larger than 0, found '0GB'"),
    "negative": ("wal_volume: -1GB", "expected a size such as 200GB"),
    "no mapping": ("wal_volume_labels: /pgdata", "expected a mapping with instance and mountpoint, or namespace and"),
    "empty": ("wal_volume_labels: {}", "or namespace and persistentvolumeclaim, found neither"),
    "half": ("wal_volume_labels: {instance: x}", "expected instance and mountpoint, or namespace and"),
    "mixed": ("wal_volume_labels: {instance: x, namespace: y}", "persistentvolumeclaim, found instance, namespace"),
    "unknown label": (
        "wal_volume_labels: {instance: x, device: y}",
        "wal_volume_labels.device: expected one of the keys instance, mountpoint, namespace, persistentvolumeclaim,",
    ),
    "not a string": (
        "wal_volume_labels: {instance: 1, mountpoint: /x}",
        "wal_volume_labels.instance: expected the value of a label, in quotes if it reads as something else, found 1",
    ),
    "empty value": (
        "wal_volume_labels: {instance: '', mountpoint: /x}",
        "wal_volume_labels.instance: expected the value of a label, found ''",
    ),
}


@pytest.mark.parametrize(("text", "error"), MISTAKES.values(), ids=MISTAKES)
@pytest.mark.parametrize("level", ["cluster", "node"])
def test_each_mistake_has_an_error_that_names_its_place(tmp_path: Path, level: str, text: str, error: str) -> None:
    with pytest.raises(ConfigError) as raised:
        loaded(tmp_path, **{level: text})
    place = "clusters.a.wal_volume" if level == "cluster" else "clusters.a.nodes.n1.wal_volume"
    assert f"pgslot.yml:{4 if level == 'cluster' else 6}: {place}" in str(raised.value)
    assert error in str(raised.value)
