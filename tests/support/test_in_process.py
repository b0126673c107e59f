"""A command that runs in the tests' process leaves no trace in it."""

import logging
from pathlib import Path

import pytest

from pgslot.cli.logging import get_logger
from tests.support import in_process


def test_tests_after_a_command_still_read_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """They read nothing: doctor and rehearse log from the level error on, for the rest of the process."""
    config = tmp_path / "pgslot.yml"
    config.write_text("clusters: {shop: {nodes: {a: {conninfo: host=127.0.0.1 port=1}}}}")
    levels = {name: logging.getLogger(name).level for name in ("", "psycopg", "markdown_it")}
    done = in_process.run("pg-slot-exporter", f"--config.file={config}", "rehearse", "shop")
    assert done.returncode in {1, 3}, done
    get_logger("exporter").warning("a warning")
    assert [record.message for record in caplog.records] == ["a warning"]
    assert {name: logging.getLogger(name).level for name in levels} == levels
