"""What a check returns: a finding, with its status and advice."""

from dataclasses import dataclass
from enum import StrEnum


class CheckStatus(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    """It works, but may not be what the operator wants."""
    FAILED = "failed"
    UNKNOWN = "unknown"
    """There is no proof either way. `found` says what is missing."""
    SKIPPED = "skipped"
    """Not checked; `found` says why."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report."""

    check: str
    subject: str
    """What was checked: a file, cluster/node, a URL, an alert."""
    status: CheckStatus
    found: str
    """What the check saw, in words."""
    advice: str = ""
    """What to do about it; empty when there is nothing to do."""
