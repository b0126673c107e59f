"""Rules of the code base that no linter knows."""

import ast
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pgslot.snapshot.queries
from healer.doctor import server_facts
from healer.remedies import connection as primary
from healer.remedies.force_snapshot import statements as log_standby_snapshot
from healer.remedies.terminate import checkpoints
from healer.remedies.terminate import connection as ender
from healer.remedies.terminate import statements as end_transaction
from pgslot.snapshot import switchover
from pgslot.snapshot.identity import IDENTITY
from pgslot.snapshot.queries import PREFLIGHT_QUERIES, QUERIES, SERVICE_SIGNS, SLOT_USERS, SUPPORTED, WAL_QUERIES
from pgslot.snapshot.refused_functions import REPLACEABLE
from tests.support.paths import ROOT

PROGRAMS = ("pgslot", "exporter", "healer")


@cache
def nodes(file: Path) -> tuple[ast.AST, ...]:
    """Return all syntax nodes of a Python file; several tests walk through the same files."""
    return tuple(ast.walk(ast.parse(file.read_text("utf-8"))))


def test_imports_follow_the_contracts() -> None:
    """The layers, and what never imports what, are contracts of import-linter in pyproject.toml."""
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-logo"], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout


def test_loop_does_not_log_and_journal_does_not_wait() -> None:
    loop, journal = ((ROOT / "healer/episodes" / name).read_text("utf-8") for name in ("loop.py", "journal.py"))
    assert "logging" not in loop
    assert not re.search(r"\blog\.\w+\(", loop)
    assert re.search(r"\blog\.\w+\(", journal)
    assert not any(isinstance(item, ast.Await | ast.AsyncFunctionDef) for item in ast.walk(ast.parse(journal)))


def test_database_errors_are_caught_in_nine_places_only() -> None:
    catching = {
        file.relative_to(ROOT).as_posix()
        for folder in PROGRAMS
        for file in (ROOT / folder).rglob("*.py")
        for item in nodes(file)
        if isinstance(item, ast.ExceptHandler) and item.type is not None and "psycopg" in ast.unparse(item.type)
    }
    assert catching == {
        "pgslot/postgres/connect.py",
        "pgslot/postgres/replication_login.py",
        "pgslot/snapshot/preflight.py",
        "pgslot/snapshot/node.py",
        "pgslot/snapshot/node_connection.py",
        "pgslot/snapshot/questions.py",
        "pgslot/snapshot/switchover.py",
        "healer/remedies/connection.py",
        "healer/doctor/server_facts.py",
    }


def test_every_version_selects_the_columns_of_the_dataclass() -> None:
    for probe in (*QUERIES, *WAL_QUERIES, *PREFLIGHT_QUERIES, SERVICE_SIGNS, SLOT_USERS):
        names = list(inspect.signature(probe.row).parameters)
        for major in SUPPORTED:
            sql = probe.sql(major)
            assert "-- pg" not in sql
            for name in names:
                assert sql.count(f"AS {name}") + sql.count(f".{name}") >= 1, (probe.name, major, name)


def test_every_statement_names_its_schema() -> None:
    """A search_path set for the role must not be able to slip another function in."""
    for probe in (*QUERIES, *WAL_QUERIES, *PREFLIGHT_QUERIES, SLOT_USERS):
        for major in SUPPORTED:
            assert_functions_qualified(probe.sql(major))
            assert_functions_qualified(probe.sql(major, frozenset(function.name for function in REPLACEABLE)))
    for function in REPLACEABLE:
        assert_functions_qualified(function.test)
    for sql in (server_facts.FACTS, IDENTITY, switchover.SETTINGS):
        assert_functions_qualified(sql)
    for name in ("_PROCESS", "_MODE", "_KEEPALIVES", "_IDLE_TIMEOUT"):
        assert_functions_qualified(getattr(primary, name))
    acts = [log_standby_snapshot.act_statement(by_message=each, recent=1.0) for each in (False, True)]
    without_comments = re.sub(r"^ *--.*$", "", end_transaction.ACT, flags=re.MULTILINE)
    forced = (log_standby_snapshot.FACTS, log_standby_snapshot.WARM_UP, *acts)
    names = ("FACTS", "RECENT_ACTS", "POSITION", "FORCE")
    asked = [*(getattr(end_transaction, name) for name in names), checkpoints.CHECKPOINT]
    for sql in (*forced, *asked, *ender.STATEMENTS, without_comments):
        assert_functions_qualified(sql)
        assert re.findall(r"::(?!pg_catalog\.)\w+", sql) == [], "a domain of that name could run somebody else's check"


def assert_functions_qualified(sql: str) -> None:
    without_strings = re.sub(r"'[^']*'", "''", sql)
    assert re.findall(r"(?<![\w.])pg_(?!catalog\.)\w+", without_strings) == []


def test_tests_import_their_helpers_from_support_and_not_from_other_tests() -> None:
    """A helper in a test module ties tests together that have nothing to do with one another."""
    imported = {
        f"{file.relative_to(ROOT)} imports {module}"
        for file in (ROOT / "tests").rglob("*.py")
        for item in nodes(file)
        for module in modules_of(item)
        if module.startswith("tests.") and any(part.startswith("test_") for part in module.split("."))
    }
    assert imported == set()


def modules_of(item: ast.AST) -> Iterator[str]:
    if isinstance(item, ast.Import):
        yield from (alias.name for alias in item.names)
    elif isinstance(item, ast.ImportFrom) and item.module:
        yield from (f"{item.module}.{alias.name}" for alias in item.names)


PRIVATE_IS_READ_BY = {
    "tests/docs/test_readme.py",  # argparse has no public list of a parser's options
}
"""Files whose seams are still to be made: it only gets shorter."""


def test_tests_read_no_private_attributes() -> None:
    readers = {
        file.relative_to(ROOT).as_posix(): sorted(names)
        for file in (ROOT / "tests").rglob("*.py")
        if (names := set(private_names(file)))
    }
    assert {file: names for file, names in readers.items() if file not in PRIVATE_IS_READ_BY} == {}


def private_names(file: Path) -> Iterator[str]:
    """Return the private names that are imported, or read of anything but `self`; a named tuple's are public."""
    public = {"_replace", "_asdict", "_fields", "_exit"}
    for item in nodes(file):
        if isinstance(item, ast.ImportFrom):
            yield from (alias.name for alias in item.names if re.match("_(?!_)", alias.name))
        elif (
            isinstance(item, ast.Attribute)
            and re.match("_(?!_)", item.attr)
            and item.attr not in public
            and ast.unparse(item.value) not in ("self", "cls", "super()")
        ):
            yield ast.unparse(item)


def test_probe_files_are_shipped() -> None:
    folder = Path(pgslot.snapshot.queries.__file__).parent
    assert {file.stem for file in folder.glob("*.sql")} == {
        probe.name for probe in (*QUERIES, *WAL_QUERIES, *PREFLIGHT_QUERIES, SERVICE_SIGNS, SLOT_USERS)
    }
