"""What no log of our programs may have in it, and what the healer's claims in it have to bear."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from healer.remedies.progress import WELL, Outcome
from tests.simulations.day.violation import Violation

INVARIANT = "the programs' logs are without defects"
_DEFECTS = (
    *("Traceback", "never awaited", "never retrieved", "was destroyed but it is pending", "Unclosed"),
    *("a defect", "internal error"),
)


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


def claims(text: str, given: Mapping[str, bool | None], most_calls: int) -> Iterator[Violation]:
    """
    Return the heals that ended as they cannot have.

    `given`: by slot, whether its client got it; None where nobody can tell. Whoever says that a slot is well, by its
    own doing or not, says that it was made; a slot that its client was not given was not.
    """
    for event in events(text):
        if event["msg"] != "heal ended":
            continue
        if event["outcome"] == Outcome.ERROR:
            yield Violation("no heal ends by a defect", "another outcome", f"{event}")
        if event["outcome"] in WELL and given.get(event["slot"]) is False:
            yield Violation("what is told healed is made", f"{event['slot']} given to its client", f"{event}")
        if event["calls"] > most_calls:
            yield Violation("calls stay in budget", f"at most {most_calls} for a slot", f"{event}")
