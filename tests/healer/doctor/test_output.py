"""The doctor's report: text, colour, JSON and exit codes."""

import io
import json
from dataclasses import replace

import pytest

from healer.doctor.output import as_json, as_text, exit_code, wants_colour
from healer.doctor.result import CheckStatus, Finding

FINDINGS = [
    Finding("a", "one", CheckStatus.OK, "fine"),
    Finding("longer", "two", CheckStatus.FAILED, "bad\n\x1b[31mred", "do this"),
    Finding("b", "", CheckStatus.SKIPPED, "why"),
]


def test_text_is_aligned_plain_and_counted() -> None:
    assert as_text(FINDINGS, colour=False).splitlines() == [
        "ok       a       one  fine",
        "FAIL     longer  two  bad [31mred",
        "         -> do this",
        "skipped  b            why",
        "3 checks: 1 ok, 0 warn, 1 FAIL, 0 unknown, 1 skipped",
    ]


def test_only_the_status_is_coloured() -> None:
    plain, coloured = as_text(FINDINGS, colour=False), as_text(FINDINGS, colour=True)
    assert coloured.count("\x1b[") == 2 * len(FINDINGS)
    for code in ("\x1b[0m", "\x1b[32m", "\x1b[1;31m", "\x1b[2m"):
        coloured = coloured.replace(code, "")
    assert coloured == plain


def test_colour_needs_a_terminal_and_no_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert wants_colour(Terminal())
    assert not wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())


def test_json_has_the_published_keys_and_only_ascii() -> None:
    assert json.loads(as_json(FINDINGS))[1] == {
        "check": "longer",
        "subject": "two",
        "status": "failed",
        "found": "bad\n\x1b[31mred",
        "remedy": "do this",
    }
    raw = replace(FINDINGS[0], found="ä \x9b31m\u202e")
    assert as_json([raw]).replace("\n", "").isprintable()
    assert json.loads(as_json([raw]))[0]["found"] == raw.found


def test_exit_code_is_1_if_a_check_failed_and_3_if_one_is_unknown() -> None:
    assert exit_code(FINDINGS) == 1
    without = [replace(FINDINGS[0], status=status) for status in CheckStatus if status is not CheckStatus.FAILED]
    assert exit_code(without) == 3
    assert exit_code([finding for finding in without if finding.status is not CheckStatus.UNKNOWN]) == 0
