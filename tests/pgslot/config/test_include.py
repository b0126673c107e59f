"""`include`: clusters in further files, the errors of mistakes in them, and that a reload reads them again."""

from pathlib import Path

import pytest

from pgslot.cli.errors import ConfigError
from pgslot.config.loader import load
from pgslot.config.reload import ConfigReloader

CLUSTER = "clusters: {%s: {nodes: {n: {conninfo_file: secret}}}}\n"


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder / "pgslot.yml"


def test_clusters_come_from_all_files_in_order(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        {
            "pgslot.yml": CLUSTER % "own"
            + "include: [more.yml, fleet/*.yml, none-yet/*.yml]\nhealer: {burst_calls: 3}",
            "more.yml": CLUSTER % "more",
            "fleet/b.yml": CLUSTER % "b",
            "fleet/a.yml": CLUSTER % "a",
            "fleet/notes.txt": "not one of them",
        },
    )
    config = load(file)
    assert [cluster.name for cluster in config.clusters] == ["own", "more", "a", "b"]
    # Paths are relative to the file that they stand in.
    assert config.clusters[2].nodes[0].conninfo.file == tmp_path / "fleet/secret"
    assert config.healer.burst_calls == 3


def test_a_main_file_needs_no_clusters_of_its_own(tmp_path: Path) -> None:
    files = {
        "pgslot.yml": "include: [a.yml]\nhealer: {enabled: false}",
        "a.yml": "clusters: {a: {nodes: {n: {conninfo: ''}}, healer: {conninfo: ''}}}",
    }
    [cluster] = load(write(tmp_path, files)).clusters
    assert cluster.healer is not None
    assert not cluster.healer.enabled, "the switch of all clusters counts for included ones"


MISTAKES = {
    "no list": ({"pgslot.yml": "include: a.yml"}, "pgslot.yml:1: include: expected a list of file names or patterns"),
    "empty list": ({"pgslot.yml": "include: []"}, "pgslot.yml:1: include: expected a list of file names or patterns"),
    "no name": ({"pgslot.yml": "include: [1]"}, "pgslot.yml:1: include[0]: expected a file name, found 1"),
    "not there": ({"pgslot.yml": "include: [a.yml]"}, "a.yml: expected a readable file, found: No such file"),
    "nothing at all": ({"pgslot.yml": "include: ['*.no']"}, "pgslot.yml:1: expected at least one cluster, found none"),
    "no clusters in it": (
        {"pgslot.yml": "include: [a.yml]", "a.yml": "{}"},
        "a.yml:1: expected the key clusters, found an empty mapping",
    ),
    "more than clusters in it": (
        {"pgslot.yml": "include: [a.yml]", "a.yml": CLUSTER % "a" + "healer: {}"},
        "a.yml:2: healer: expected one of the keys clusters, found the unknown key 'healer'",
    ),
    "itself": (
        {"pgslot.yml": "include: ['*.yml']\n" + CLUSTER % "a"},
        "pgslot.yml:1: include: expected one of the keys clusters, found the unknown key 'include'",
    ),
    "a mistake in it": (
        {"pgslot.yml": "include: [a.yml]", "a.yml": "clusters:\n  a:\n    nodes: {n: {}}"},
        "a.yml:3: clusters.a.nodes.n: expected exactly one of conninfo and conninfo_file, found neither",
    ),
}


@pytest.mark.parametrize(("files", "message"), MISTAKES.values(), ids=MISTAKES)
def test_an_error_names_file_line_and_key(tmp_path: Path, files: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(write(tmp_path, files))
    assert f"{tmp_path}/{message}" in str(caught.value)


def test_a_duplicate_cluster_is_an_error_with_both_places(tmp_path: Path) -> None:
    file = write(tmp_path, {"pgslot.yml": "include: [a.yml]\n" + CLUSTER % "a", "a.yml": "\n\n" + CLUSTER % "a"})
    with pytest.raises(ConfigError) as caught:
        load(file)
    expected = f"{tmp_path}/a.yml:3: clusters.a: expected each cluster once, found one that is in {file}:2 as well"
    assert str(caught.value) == expected


async def test_a_reload_reads_included_files_again(tmp_path: Path) -> None:
    file = write(tmp_path, {"pgslot.yml": "include: ['fleet/*.yml']", "fleet/a.yml": CLUSTER % "a"})
    configuration = ConfigReloader(lambda: load(file), load(file))
    write(tmp_path, {"fleet/b.yml": CLUSTER % "b"})
    assert await configuration.reload() is None
    assert [cluster.name for cluster in configuration.config.clusters] == ["a", "b"]
    write(tmp_path, {"fleet/b.yml": CLUSTER % "a"})
    assert "expected each cluster once" in (await configuration.reload() or "")
    assert [cluster.name for cluster in configuration.config.clusters] == ["a", "b"]
