"""Which alerts have been taken in already, so that whoever asks Alertmanager brings only news."""

import time
from collections.abc import Set as AbstractSet

MAX_SEEN = 100_000
"""Fingerprints; beyond them an alert is taken in twice, which changes nothing."""
RETRY_AFTER = 300.0
"""Seconds from the end of its heal until an alert that still fires is news again; webhooks come as often."""


class SeenAlerts:
    """Fingerprints of firing alerts that were taken in."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def __contains__(self, fingerprint: str) -> bool:
        return time.monotonic() < self._until.get(fingerprint, 0.0)

    @property
    def current(self) -> set[str]:
        """All of them that are no news at this moment."""
        moment = time.monotonic()
        return {fingerprint for fingerprint, until in self._until.items() if moment < until}

    def add(self, fingerprint: str) -> None:
        """It takes part in an episode."""
        if fingerprint in self._until or len(self._until) < MAX_SEEN:
            self._until[fingerprint] = float("inf")

    def retry_later(self, fingerprint: str) -> None:
        """The heal that it asked for has ended, and it still fires."""
        if fingerprint in self._until:
            self._until[fingerprint] = time.monotonic() + RETRY_AFTER

    def forget(self, fingerprint: str) -> None:
        """It was not taken in after all."""
        self._until.pop(fingerprint, None)

    def retain(self, fingerprints: AbstractSet[str]) -> None:
        """Forget all others: what is not listed any more, or is muted, is news when it comes back."""
        self._until = {each: until for each, until in self._until.items() if each in fingerprints}

    def clear(self) -> None:
        self._until.clear()
