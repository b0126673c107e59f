"""Paths, modules and tests that documents, workflows and configuration name exist in this repository."""

import ast
import re
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import pytest

from tests.support.paths import ROOT

FOLDERS = ("pgslot", "exporter", "healer", "alerts", "dashboards", "deploy", "tests", r"\.github", r"\.ci")
SUFFIXES = {".md", ".yml", ".yaml", ".toml", ".sh", ".cfg", ".service", ".env"}
NAMES = {"Makefile", "Dockerfile", ".dockerignore"}
MADE_ELSEWHERE = {"exporter/runbooks", "pgslot/pgslot.rules.yml"}
"""Paths in the wheel, where pyproject.toml puts files."""
NOT_TESTS = {"test_decoding"}
"""test_decoding is an output plugin of PostgreSQL."""

_PATH = re.compile(rf"(?<![\w/.$-])((?:{'|'.join(FOLDERS)})/[\w./-]*\w)")
_MODULE = re.compile(r"python -m ((?:pgslot|exporter|healer|tests|dashboards)(?:\.\w+)*)")
_LOGGER = re.compile(r'"logger": "([\w.]+)"')
_TEST = re.compile(r"\btest_\w+")
_DEFINED = re.compile(r"^ *(?:async )?def (\w+)", re.MULTILINE)


def sources() -> Iterator[Path]:
    """Return the files of this repository, without installed and cached ones."""
    for entry in ROOT.iterdir():
        if entry.is_file():
            yield entry
        elif entry.name not in {".venv", ".git"} and not entry.name.endswith("_cache"):
            yield from (file for file in entry.rglob("*") if file.is_file() and "node_modules" not in file.parts)


SOURCES = sorted(sources())
TEXTS = [file for file in SOURCES if file.suffix in SUFFIXES or file.name in NAMES]


def references(pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    """Return (path of the file, name that it contains) for all matches of the pattern."""
    matches = {
        (file.relative_to(ROOT).as_posix(), name) for file in TEXTS for name in pattern.findall(file.read_text("utf-8"))
    }
    return sorted(matches)


@pytest.mark.parametrize(("file", "path"), references(_PATH))
def test_referenced_path_exists(file: str, path: str) -> None:
    assert path in MADE_ELSEWHERE or (ROOT / path).exists(), f"{file} names a path that does not exist"


@pytest.mark.parametrize(("file", "module"), references(_MODULE))
def test_executed_module_exists(file: str, module: str) -> None:
    assert find_spec(module) is not None, f"{file} runs a module that does not exist"


@pytest.mark.parametrize(("file", "logger"), references(_LOGGER))
def test_quoted_logger_is_a_module_that_logs(file: str, logger: str) -> None:
    spec = find_spec(logger)
    assert spec is not None, f"{file} quotes a logger that does not exist"
    assert spec.origin is not None
    assert "get_logger(__name__)" in Path(spec.origin).read_text("utf-8")


def test_referenced_tests_exist() -> None:
    tests = {
        name
        for file in SOURCES
        if file.suffix == ".py"
        for name in [file.stem, *_DEFINED.findall(file.read_text("utf-8"))]
    }
    missing = {(file, name) for file, name in references(_TEST) if name not in tests | NOT_TESTS}
    assert not missing


def test_references_are_found() -> None:
    """Checks the checks above."""
    assert ("CONTRIBUTING.md", "healer/webhook/endpoint.py") in references(_PATH)
    assert ("Makefile", "tests.bench") in references(_MODULE)
    assert ("alerts/runbooks/PgSlotProbeFailing.md", "pgslot.snapshot.node") in references(_LOGGER)
    assert ("docs/developer/testing.md", "test_readme_on_servers") in references(_TEST)


def packages() -> set[str]:
    """Return the programs' packages on two levels, with a slash at the end."""
    files = chain(
        *((ROOT / package).glob(depth) for package in FOLDERS[:3] for depth in ("__init__.py", "*/__init__.py"))
    )
    return {f"{file.parent.relative_to(ROOT).as_posix()}/" for file in files}


def mapped_paths() -> set[str]:
    """Return the folders and modules of CONTRIBUTING's tree."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    [tree] = re.findall(r"## Where things are\n\n```\n(.*?)```", text, re.DOTALL)
    paths, parent = set(), ""
    for indent, name in re.findall(r"^( *)([\w.]+/?)  ", tree, re.MULTILINE):
        parent = parent if indent else name
        paths.add(parent + name if indent else name)
    return paths


def test_map_lists_every_package_and_only_existing_paths() -> None:
    assert packages() <= mapped_paths()
    assert {path for path in mapped_paths() if not (ROOT / path).exists()} == set()


def test_packages_have_a_docstring() -> None:
    """With only the tree and these lines, a newcomer finds the package of any behaviour."""
    undocumented = {
        package
        for package in packages()
        if not ast.get_docstring(ast.parse((ROOT / package / "__init__.py").read_text("utf-8")))
    }
    assert undocumented == set()
