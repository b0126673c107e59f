"""Reads the fenced blocks of the runbooks; has the parsers for the commands in them."""

from collections.abc import Iterator
from dataclasses import dataclass

import exporter.cli
import healer.cli
from tests.support.alert_rules import ALERTS
from tests.support.markdown import fences

RUNBOOKS = ALERTS / "runbooks"
PARSERS = {"pg-slot-exporter": exporter.cli.parser, "pg-slot-healer": healer.cli.parser}


@dataclass(frozen=True)
class RunbookBlock:
    """A fenced block of a runbook: its language, the place where it runs, its section and its text."""

    runbook: str
    language: str
    where: str
    section: str
    text: str

    @property
    def id(self) -> str:
        return f"{self.runbook}, {self.section}: {self.text.split(chr(10))[0][:60]}"


def runbook_blocks(language: str) -> Iterator[RunbookBlock]:
    """Return the blocks in this language from all runbooks."""
    for path in sorted(RUNBOOKS.glob("*.md")):
        for fence in fences(path):
            fence_language, _, where = fence.info.partition(" ")
            if fence_language == language:
                yield RunbookBlock(path.stem, language, where, fence.section, fence.text)
