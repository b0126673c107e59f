"""What a check found out."""

from dataclasses import dataclass
from enum import StrEnum


class CheckStatus(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """It works, and somebody may want it otherwise."""
    FAILED = "failed"
    UNKNOWN = "unknown"
    """It may be as it should, and may not: there is no proof. `found` says what is missing."""
    SKIPPED = "skipped"
    """Not looked for; `found` says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    check: str
    subject: str
    """What was checked: a file, cluster/node, a URL, an alert."""
    status: CheckStatus
    found: str
    advice: str = ""
    """What to do about it; empty when there is nothing to do."""
