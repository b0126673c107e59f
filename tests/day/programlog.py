"""What no log of our programs may have in it."""

import json
from collections.abc import Iterator
from typing import Any

from tests.day.violation import Violation

INVARIANT = "the programs' logs are without defects"
_DEFECTS = ("Traceback", "never awaited", "never retrieved", "was destroyed but it is pending", "Unclosed", "a defect")


def events(text: str) -> Iterator[dict[str, Any]]:
    """Return the lines that are events; the last one may be cut short, where its program was killed."""
    for line in text.splitlines(keepends=True):
        if line.startswith("{") and line.endswith("}\n"):
            yield json.loads(line)


def defects(name: str, text: str) -> Iterator[Violation]:
    """Return the lines that a sound program does not write: each is one event, and none has an exception."""
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            continue
        wrong = not line.startswith("{") or any(word in line for word in _DEFECTS)
        if not wrong:
            event = json.loads(line)
            wrong = "exception" in event or event["level"] == "critical" or event["logger"] == "asyncio"
        if wrong:
            yield Violation(INVARIANT, "events, and no exceptions", f"{name}: {line.strip()[:2000]}")
