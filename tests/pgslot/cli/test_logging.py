"""Log lines in logfmt and JSON."""

import json
import logging
from collections.abc import Iterator

import pytest

from pgslot.cli import logging as log

FIELDS = {
    "plain": "a-b_c.d:1",
    "empty": "",
    "spaces": "two words",
    "quotes": 'say "hi" \\ there',
    "newline": "a\nb",
    "equals": "a=b",
    "umlaut": "ä",
    "yes": True,
    "seconds": 1.23456,
    "slots": ["a", "b"],
    "unknown": None,
}


@pytest.fixture(autouse=True)
def _root_as_before() -> Iterator[None]:
    handlers, level = logging.root.handlers[:], logging.root.level
    yield
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def test_logfmt_quotes_what_is_not_plain(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("info", "logfmt")
    log.get_logger("here").warning("slot seen", **FIELDS)
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    _, _, rest = line.partition(" ")
    assert rest == (
        'level=warn msg="slot seen" logger=here plain=a-b_c.d:1 empty="" spaces="two words"'
        ' quotes="say \\"hi\\" \\\\ there" newline="a\\nb" equals="a=b" umlaut=ä yes=true seconds=1.235 slots=a,b\n'
    )


def test_json_has_the_fields_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("info", "json")
    log.get_logger("here").info("slot seen", **FIELDS)
    line = json.loads(capsys.readouterr().err)
    assert line.pop("ts").endswith("Z")
    known = {name: value for name, value in FIELDS.items() if value is not None}
    assert line == {"level": "info", "msg": "slot seen", "logger": "here"} | known


def test_records_below_the_level_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("warn", "logfmt")
    logging.getLogger("here").info("quiet")
    assert capsys.readouterr().err == ""


def test_a_traceback_stays_on_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    log.setup("info", "logfmt")
    try:
        json.loads("")
    except ValueError:
        logging.getLogger("here").exception("failed")
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    assert "JSONDecodeError: Expecting value" in line


def test_runbooks_renderer_logs_nothing_at_debug(capsys: pytest.CaptureFixture[str]) -> None:
    """It has hundreds of lines for one view, among which all others would be lost."""
    log.setup("debug", "logfmt")
    logging.getLogger("markdown_it.rules_block.table").debug("entering table")
    logging.getLogger("exporter").debug("kept")
    printed = capsys.readouterr().err
    assert "kept" in printed
    assert "entering table" not in printed
