"""The logs of the exporter and the healer: lines that must not occur, and whether the healer's claims are true."""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from healer.remedies.progress import WELL, Outcome
from healer.remedies.terminate.remedy import EndTransaction
from tests.simulations.day.violation import Violation

INVARIANT = "the programs' logs are without defects"
_DEFECTS = (
    *("Traceback", "never awaited", "never retrieved", "was destroyed but it is pending", "Unclosed"),
    *("a defect", "internal error"),
)


def events(text: str) -> Iterator[dict[str, Any]]:
    """Return the events of a log; the last line may be incomplete if the program was killed."""
    for line in text.splitlines(keepends=True):
        if line.startswith("{") and line.endswith("}\n"):
            yield json.loads(line)


def defects(name: str, text: str) -> Iterator[Violation]:
    """Return the lines that are not events, or report an exception or another internal error."""
    for line in text.splitlines(keepends=True):
        if not line.endswith("\n"):
            continue
        is_defect = not line.startswith("{") or any(word in line for word in _DEFECTS)
        if not is_defect:
            event = json.loads(line)
            is_defect = "exception" in event or event["level"] == "critical" or event["logger"] == "asyncio"
        if is_defect:
            yield Violation(INVARIANT, "events, and no exceptions", f"{name}: {line.strip()[:2000]}")


def claimed_endings(text: str, ended_for: Collection[str]) -> Iterator[Violation]:
    """Return the claims to have healed a slot by ending a transaction, where no session was ended for the slot."""
    for event in events(text):
        claimed = (event["msg"], event.get("heal"), event.get("outcome"))
        if claimed == ("heal ended", EndTransaction.name, Outcome.HEALED) and event["slot"] not in ended_for:
            yield Violation("a claim of healing rests on an act", f"a session ended for {event['slot']}", f"{event}")


def claims(text: str, got_slot: Mapping[str, bool | None], max_calls: int) -> Iterator[Violation]:
    """
    Return the heals with an impossible outcome.

    `got_slot`: whether the client got its slot, by slot; None: unknown. An outcome of success, by the healer or not,
    claims that the slot was made, which is false if the client did not get it.
    """
    for event in events(text):
        if event["msg"] != "heal ended":
            continue
        if event["outcome"] == Outcome.ERROR:
            yield Violation("no heal ends by a defect", "another outcome", f"{event}")
        if event["outcome"] in WELL and got_slot.get(event["slot"]) is False:
            yield Violation(
                "a slot that is reported healed was created", f"{event['slot']} given to its client", f"{event}"
            )
        if event["calls"] > max_calls:
            yield Violation("calls stay in budget", f"at most {max_calls} for a slot", f"{event}")
