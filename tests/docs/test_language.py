"""Plain English in everything that people read: patterns that made sentences hard to read do not come back."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

PATTERNS = {
    r"\beach \d": "every 2 s",
    r"\bwhoever\b": "the person who, the team that",
    r"\banew\b": "again",
    r"\bof (?:which|whom)\b": "a sentence of its own",
    r"(?<![Tt]here )\b(?:is|are) no (?!longer\b|more\b|sign\b)": "is not a",
    r"(?<![Tt]here )\b(?:is|are) none\b(?! (?:%|or))": "is not one, does not count",
    r"\btells(?! you\b| \w+ from\b| apart\b)": "shows, reports, logs",
    r"\btold\b": "reported",
    r"\bcan not\b": "cannot",
    r"\blooks (?:at|what|again)\b|\bof the looks\b": "checks, observes, scrapes",
    r"\bfor ever\b": "forever",
    r"\ba defect\b": "a bug",
    r"\bset(?:s|ting)? (?:\w+ )?free\b": "releases",
    r"\bstrangers?\b": "another program",
    r"\bto be had\b|\bat hand\b": "is available",
    r"\b[Hh]e (?:has|is|was|does|looks)\b": "the healer",
    r"\b(?:hold|holds|holding|held) back (?:more )?(?:[\d.]+ \w+ of )?WAL\b": "retains WAL",
    r"\b(?:[Aa]ll of this|[Tt]his) only reads\b": "is read-only",
    r"\bnow and then\b": "intermittently, at intervals",
    r"\bseldom\b": "rarely",
    r"\bfor want of\b": "because it lacks",
    r"\brests? on\b": "depends on",
    r"\b(?:[Pp]ut|[Pp]uts) (?:[\w']+ ){1,6}right\b": "correct",
    r"\b[Tt]ake (?:\w+ ){1,4}away\b": "remove",
    r"\banswers otherwise\b": "does not match",
    r"\b(?:for|one|each)every\b": "for every",
    r"\bof no use\b": "unusable, useless",
    r"\b(?:it|that|this) (?:is|was) (?:not )?said\b|\bonly says\b": "shows",
}
"""What was written before, and what to write."""

TEXTS = (
    *(
        "README.md",
        "CHANGELOG.md",
        "SECURITY.md",
        "CONTRIBUTING.md",
        "mkdocs.yml",
        "Makefile",
        "docker-compose.yml",
        "Dockerfile",
    ),
    *("docs/**/*.md", "docs/**/*.py", "alerts/*.yml", "alerts/*.md", "alerts/runbooks/*.md", "dashboards/*.py"),
    *("pgslot/**/*.py", "pgslot/**/*.sql", "exporter/**/*.py", "healer/**/*.py", "healer/**/*.sql", "healer/**/*.html"),
    *("deploy/**/*.yaml", "deploy/**/*.yml", "deploy/**/*.sh", "deploy/**/*.py", "deploy/systemd/*"),
)
FILES = sorted({file for pattern in TEXTS for file in ROOT.glob(pattern) if file.is_file()})


@pytest.mark.parametrize("file", [pytest.param(file, id=str(file.relative_to(ROOT))) for file in FILES])
def test_text_is_plain(file: Path) -> None:
    assert list(findings(file.read_text("utf-8"))) == []


def findings(text: str) -> Iterator[str]:
    """Yield each line that has a pattern, with what to write."""
    for number, line in enumerate(text.splitlines(), 1):
        for pattern, instead in PATTERNS.items():
            if re.search(pattern, line):
                yield f"line {number}: {line.strip()} -> {instead}"


@pytest.mark.parametrize(
    "sentence",
    [
        "asked each 2 s",
        "whoever reads this",
        "a burst is no trend",
        "PgSlotStalled tells when",
        "the healer is told",
        "it can not be healed",
        "the healer looks what it waits for",
        "the slot holds back 24 MB of WAL",
        "All of this only reads.",
        "a server that answers now and then",
        "put the URL right",
        "take the time interval away",
        "run the healer forevery cluster",
    ],
)
def test_earlier_sentences_are_found(sentence: str) -> None:
    """Checks the check above."""
    assert list(findings(sentence))
