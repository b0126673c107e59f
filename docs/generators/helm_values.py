"""The reference of the Helm chart's values, from deploy/helm/pg-slot-healer/values.yaml and its comments."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from docs.generators.markdown import table

VALUES = Path(__file__).parents[2] / "deploy" / "helm" / "pg-slot-healer" / "values.yaml"

_HEAD = """# Helm values

Generated from `deploy/helm/pg-slot-healer/values.yaml` by `make docs-reference`; do not edit.

[Kubernetes](../how-to/kubernetes.md#with-helm) shows how to install the chart. An unknown key or a value of the wrong
type is an error. Helm merges a mapping of yours with the chart's and replaces a list; `null` removes a key.
"""
_KEY = re.compile(r"^(?P<indent> *)(?P<key>[\w.]+):(?: |$)")


@dataclass(frozen=True, slots=True)
class Value:
    """A value that the chart's user can set."""

    path: tuple[str, ...]
    default: Any
    meaning: str


def helm_values_page() -> str:
    """Return the page: one table for each section of the file."""
    values = list(documented_values(VALUES.read_text("utf-8")))
    pages = [_HEAD]
    for section in dict.fromkeys(map(_section, values)):
        rows = [
            (f"`{'.'.join(value.path)}`", f"`{_default(value.default)}`", value.meaning)
            for value in values
            if _section(value) == section
        ]
        pages.append(f"\n## {section}\n\n{table(('value', 'default', 'meaning'), rows)}")
    return "".join(pages)


def documented_values(text: str) -> Iterator[Value]:
    """Yield every value with a comment that begins with two dashes. Raises ValueError for a value without one."""
    defaults = yaml.safe_load(text)
    parents: list[str] = []
    comment: list[str] = []
    documented: list[tuple[str, ...]] = []
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("# --"):
            comment = [stripped.removeprefix("# --").strip()]
        elif stripped.startswith("#"):
            comment = [*comment, stripped.removeprefix("#").strip()] if comment else []
        elif match := _KEY.match(line):
            parents = [*parents[: len(match["indent"]) // 2], match["key"]]
            if comment:
                documented.append(tuple(parents))
                yield Value(tuple(parents), _lookup(defaults, parents), " ".join(comment))
            comment = []
        else:
            comment = []
    missing = [path for path in _leaves(defaults) if not any(path[: len(known)] == known for known in documented)]
    if missing:
        raise ValueError(f"values.yaml: expected a comment '# -- ...' above {', '.join(map('.'.join, missing))}")


def _lookup(defaults: Any, path: list[str]) -> Any:
    for key in path:
        defaults = defaults[key]
    return defaults


def _leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of every value that is not a mapping with keys of its own."""
    if isinstance(value, Mapping) and value:
        for key, part in value.items():
            yield from _leaves(part, (*path, key))
    else:
        yield path


def _section(value: Value) -> str:
    """Return the heading under which a value stands."""
    first = value.path[0]
    if len(value.path) == 1 and first != "existingConfigMap":
        return "Objects"
    if first in {"image", "global"}:
        return "Image"
    if first in {"config", "existingConfigMap", "existingSecrets"}:
        return "Configuration"
    return {"exporter": "Exporter", "healer": "Healer"}.get(first, "Monitoring and network")


def _default(value: Any) -> str:
    """Return a default as YAML on one line."""
    return yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False).removesuffix("...\n").strip()
