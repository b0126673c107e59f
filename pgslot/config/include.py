"""`include:` of the configuration: further files with clusters, for fleets that are written by many hands."""

from collections.abc import Iterator
from glob import glob, has_magic
from pathlib import Path

from pgslot.config.yaml_values import Value, read


def clusters_of(main: dict[str, Value]) -> Iterator[tuple[str, Value]]:
    """
    Return each cluster's name and section: of the main file first, then of those that it includes.

    Raises ConfigError, also for a cluster that is there twice, which names both places.
    """
    sections = [main["clusters"]] if "clusters" in main else []
    if "include" in main:
        sections += [_clusters(file) for file in _files(main["include"])]
    seen: dict[str, Value] = {}
    for section in sections:
        for name, value in section.mapping("a mapping of cluster names").items():
            if name in seen:
                there = f"{seen[name].file}:{seen[name].line}"
                raise value.error("each cluster once", f"one that is in {there} as well")
            seen[name] = value
            yield name, value


def _files(include: Value) -> Iterator[Path]:
    """Names are relative to the main file. A pattern may match nothing, and is sorted; a name has to be there."""
    for item in include.items("a list of file names or patterns such as clusters/*.yml"):
        name = str(item.path())
        if not has_magic(name):
            yield Path(name)
        else:
            yield from (Path(found) for found in sorted(glob(name)))  # noqa: PTH207 - the folder may be a pattern, too


def _clusters(file: Path) -> Value:
    top = read(file)
    keys = top.mapping("a mapping with the key clusters", ("clusters",))
    if "clusters" not in keys:
        raise top.error("the key clusters")
    return keys["clusters"]
