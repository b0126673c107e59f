"""Prints findings: aligned text for people, JSON for scripts."""

import json
import os
from collections import Counter
from collections.abc import Sequence
from typing import TextIO

from healer.doctor.result import CheckStatus, Finding

_WORDS = {
    CheckStatus.OK: "ok",
    CheckStatus.WARNING: "warn",
    CheckStatus.FAILED: "FAIL",
    CheckStatus.UNKNOWN: "unknown",
    CheckStatus.SKIPPED: "skipped",
}
_COLOURS = {
    CheckStatus.OK: "32",
    CheckStatus.WARNING: "33",
    CheckStatus.FAILED: "1;31",
    CheckStatus.UNKNOWN: "35",
    CheckStatus.SKIPPED: "2",
}
UNKNOWN_EXIT_CODE = 3
"""1 is a failed check, 2 bad input."""
_WORD_WIDTH = max(map(len, _WORDS.values()))


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 if a check failed, else 3 if one is unknown, else 0: warnings and skipped checks do not count."""
    statuses = {finding.status for finding in findings}
    return 1 if CheckStatus.FAILED in statuses else UNKNOWN_EXIT_CODE if CheckStatus.UNKNOWN in statuses else 0


def as_json(findings: Sequence[Finding]) -> str:
    """Return a list of objects: check, subject, status, found, remedy (the advice); in ASCII, safe on a terminal."""
    return json.dumps([_as_object(finding) for finding in findings], indent=2)


def _as_object(finding: Finding) -> dict[str, str]:
    return {
        "check": finding.check,
        "subject": finding.subject,
        "status": finding.status,
        "found": finding.found,
        "remedy": finding.advice,
    }


def as_text(findings: Sequence[Finding], *, colour: bool) -> str:
    """Return an aligned line for each finding, its advice below it, and a last line with the counts."""
    check_width = max((len(finding.check) for finding in findings), default=0)
    subject_width = max((len(_plain(finding.subject)) for finding in findings), default=0)
    lines = []
    for finding in findings:
        word = f"{_WORDS[finding.status]:<{_WORD_WIDTH}}"
        status = f"\x1b[{_COLOURS[finding.status]}m{word}\x1b[0m" if colour else word
        subject = f"{_plain(finding.subject):<{subject_width}}"
        lines.append(f"{status}  {finding.check:<{check_width}}  {subject}  {_plain(finding.found)}".rstrip())
        if finding.advice:
            lines.append(f"{'':<{_WORD_WIDTH}}  -> {_plain(finding.advice)}")
    counts = Counter(finding.status for finding in findings)
    lines.append(f"{len(findings)} checks: {', '.join(f'{counts[status]} {_WORDS[status]}' for status in CheckStatus)}")
    return "\n".join(lines)


def wants_colour(stream: TextIO) -> bool:
    """Return whether to colour: on a terminal that supports it, unless NO_COLOR is set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def _plain(text: str) -> str:
    """Return one line without control characters: servers sent much of it, and a terminal would act on them."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
