"""The findings as people and as scripts read them."""

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
UNKNOWN_EXIT = 3
"""2 is bad input."""
_WIDTH = max(map(len, _WORDS.values()))


def exit_code(findings: Sequence[Finding]) -> int:
    """Return 1 if something failed, else 3 if something is unknown; what was skipped, and warnings, do not count."""
    found = {finding.status for finding in findings}
    return 1 if CheckStatus.FAILED in found else UNKNOWN_EXIT if CheckStatus.UNKNOWN in found else 0


def as_json(findings: Sequence[Finding]) -> str:
    """Return a list of objects: check, subject, status, found, remedy (the advice); in ASCII, for a terminal's sake."""
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
    """Return one aligned line a finding, each remedy below its own, and a line that counts them."""
    checks = max((len(finding.check) for finding in findings), default=0)
    subjects = max((len(_plain(finding.subject)) for finding in findings), default=0)
    lines = []
    for finding in findings:
        word = f"{_WORDS[finding.status]:<{_WIDTH}}"
        shown = f"\x1b[{_COLOURS[finding.status]}m{word}\x1b[0m" if colour else word
        line = f"{shown}  {finding.check:<{checks}}  {_plain(finding.subject):<{subjects}}  {_plain(finding.found)}"
        lines.append(line.rstrip())
        if finding.advice:
            lines.append(f"{'':<{_WIDTH}}  -> {_plain(finding.advice)}")
    counts = Counter(finding.status for finding in findings)
    lines.append(f"{len(findings)} checks: {', '.join(f'{counts[status]} {_WORDS[status]}' for status in CheckStatus)}")
    return "\n".join(lines)


def wants_colour(stream: TextIO) -> bool:
    """Return whether to colour: on a terminal that can, unless NO_COLOR is set."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM", "dumb") != "dumb"


def _plain(text: str) -> str:
    """One line without control characters: much of it comes from servers, and a terminal would act on them."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
