"""Which firing alerts were taken already, so that reconciliation submits only those that were not."""

import time
from collections.abc import Set as AbstractSet

from healer.webhook import deadlines

MAX_SEEN = 100_000
"""Fingerprints; an alert beyond them is submitted again, which changes nothing."""


class SeenAlerts:
    """
    Fingerprints of firing alerts that were taken.

    They are bounded by MAX_SEEN. A fingerprint whose heal has ended expires after `deadlines.RETRY_AFTER_SECONDS`.
    """

    def __init__(self) -> None:
        self._expiry: dict[str, float] = {}
        """By fingerprint, on the monotonic clock; infinite while the alert takes part in an episode."""

    def __contains__(self, fingerprint: str) -> bool:
        return time.monotonic() < self._expiry.get(fingerprint, 0.0)

    @property
    def current(self) -> set[str]:
        """The fingerprints that have not expired."""
        now = time.monotonic()
        return {fingerprint for fingerprint, expiry in self._expiry.items() if now < expiry}

    def add(self, fingerprint: str) -> None:
        """Record an alert that takes part in an episode."""
        if fingerprint in self._expiry or len(self._expiry) < MAX_SEEN:
            self._expiry[fingerprint] = float("inf")

    def retry_later(self, fingerprint: str) -> None:
        """Let an alert expire whose heal has ended while it still fires."""
        if fingerprint in self._expiry:
            self._expiry[fingerprint] = time.monotonic() + deadlines.RETRY_AFTER_SECONDS

    def forget(self, fingerprint: str) -> None:
        """Remove an alert that was not taken after all."""
        self._expiry.pop(fingerprint, None)

    def retain(self, fingerprints: AbstractSet[str]) -> None:
        """Forget all but these: an alert that is no longer listed, or is muted, is new when it comes back."""
        self._expiry = {
            fingerprint: expiry for fingerprint, expiry in self._expiry.items() if fingerprint in fingerprints
        }

    def clear(self) -> None:
        self._expiry.clear()
