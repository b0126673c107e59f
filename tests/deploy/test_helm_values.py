"""The chart's values: documented, in the schema, of this version, and as the documentation shows them."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from docs.generators.helm_values import documented_values
from pgslot import __version__
from tests.support.documents import read_yaml
from tests.support.helm import CHART, of_kind, template
from tests.support.helm import objects as objects_of
from tests.support.readme import block

SCHEMA = json.loads((CHART / "values.schema.json").read_text("utf-8"))
DEFAULTS = read_yaml(CHART / "values.yaml")


def test_chart_is_of_this_version() -> None:
    chart = read_yaml(CHART / "Chart.yaml")
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def resolved(schema: dict[str, Any]) -> dict[str, Any]:
    reference = schema.get("$ref")
    if reference is None:
        return schema
    definition: dict[str, Any] = SCHEMA["definitions"][reference.removeprefix("#/definitions/")]
    return definition


def paths(schema: dict[str, Any], path: str = "") -> Iterator[str]:
    """Yield the path of every value that the schema names, without mappings that it names keys of."""
    properties = resolved(schema).get("properties")
    if properties is None:
        yield path.removeprefix(".")
        return
    for key, part in properties.items():
        yield from paths(part, f"{path}.{key}")


def test_schema_and_values_have_the_same_keys() -> None:
    documented = {".".join(value.path) for value in documented_values((CHART / "values.yaml").read_text("utf-8"))}
    # values.yaml gives these keys one by one, and the schema leaves the mapping open; include has no default.
    opened = {"exporter.resources", "healer.resources", "config.healer"}
    parts = {path for path in documented if path.rpartition(".")[0] in opened}
    assert set(paths(SCHEMA)) - opened - {"config.include"} == documented - parts
    assert {path.rpartition(".")[0] for path in parts} == opened


def objects(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    schema = resolved(schema)
    if "properties" in schema:
        yield path, schema
        for key, part in schema["properties"].items():
            yield from objects(part, f"{path}.{key}")


def test_schema_refuses_unknown_keys_everywhere() -> None:
    open_ = [path for path, schema in objects(SCHEMA) if schema.get("additionalProperties") is not False]
    # A parent chart's global values are for other charts, too.
    assert open_ == [".global"]


def test_value_without_description_is_reported() -> None:
    text = "# -- Described.\nfirst: 1\nsecond:\n  # A comment, but not a description.\n  part: 2\n"
    with pytest.raises(ValueError, match=r"above second\.part$"):
        list(documented_values(text))


def test_description_may_take_several_lines_and_cover_a_mapping() -> None:
    text = "section:\n  # -- One\n  # two.\n  value: {a: 1}\n\n# -- A list.\nlist:\n  - first: 1\n"
    assert [(value.path, value.default, value.meaning) for value in documented_values(text)] == [
        (("section", "value"), {"a": 1}, "One two."),
        (("list",), [{"first": 1}], "A list."),
    ]


@pytest.mark.tools
def test_values_of_the_documentation_are_accepted(tmp_path: Path) -> None:
    file = tmp_path / "my-values.yaml"
    file.write_text(block("# my-values.yaml").text, "utf-8")
    found = objects_of(template("--values", file))
    kinds = {manifest["kind"] for manifest in found}
    assert {"ServiceMonitor", "AlertmanagerConfig", "PrometheusRule", "NetworkPolicy"} <= kinds
    [image] = {
        container["image"]
        for deployment in of_kind("Deployment", found)
        for container in deployment["spec"]["template"]["spec"]["containers"]
    }
    assert image == f"registry.example.com/pg-slot-healer:{__version__}"
