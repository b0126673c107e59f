"""Which firing alerts were taken already, so that reconciliation submits only those that were not."""

import math
import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime

from healer.webhook import deadlines
from healer.webhook.payload import Alert

MAX_SEEN = 100_000
"""Fingerprints; an alert beyond them is submitted again, which changes nothing."""


@dataclass(frozen=True, slots=True)
class SeenAlert:
    """A firing alert that was taken; times on the monotonic clock."""

    starts_at: datetime | None
    """The alert's `startsAt`; None: not known."""
    taken_at: float
    expiry: float
    """From then on it may be taken again although it has not changed; infinite while it takes part in an episode."""


class SeenAlerts:
    """
    Firing alerts that were taken, by fingerprint.

    They are bounded by MAX_SEEN. One whose heal has ended expires after `deadlines.RETRY_AFTER_SECONDS`.
    """

    def __init__(self) -> None:
        self._alerts: dict[str, SeenAlert] = {}

    def __contains__(self, fingerprint: str) -> bool:
        seen = self._alerts.get(fingerprint)
        return seen is not None and time.monotonic() < seen.expiry

    @property
    def current(self) -> dict[str, datetime | None]:
        """`startsAt` of the alerts that have not expired, by fingerprint."""
        now = time.monotonic()
        return {fingerprint: seen.starts_at for fingerprint, seen in self._alerts.items() if now < seen.expiry}

    def add(self, alert: Alert, seconds: float = math.inf) -> None:
        """Record an alert that takes part in an episode, or, for so many seconds, one that was not taken."""
        before = self._alerts.get(alert.fingerprint)
        if before is not None or len(self._alerts) < MAX_SEEN:
            # The same alert as another Alertmanager knows it may have an earlier start.
            starts_at = _later(alert.starts_at, before.starts_at if before is not None else None)
            now = time.monotonic()
            self._alerts[alert.fingerprint] = SeenAlert(starts_at, now, now + seconds)

    def is_superseded(self, resolved: Alert) -> bool:
        """
        Return whether the alert has begun to fire again after this end of it, about which the webhook came late.

        Its start proves nothing: two Prometheus servers have a start each, and Alertmanager keeps the earlier start.
        """
        seen = self._alerts.get(resolved.fingerprint)
        if seen is None or seen.starts_at is None or resolved.ends_at is None:
            return False
        return resolved.ends_at <= seen.starts_at

    def retry_later(self, fingerprint: str) -> None:
        """Let an alert expire whose heal has ended while it still fires."""
        if (seen := self._alerts.get(fingerprint)) is not None:
            self._alerts[fingerprint] = replace(seen, expiry=time.monotonic() + deadlines.RETRY_AFTER_SECONDS)

    def forget(self, fingerprint: str) -> None:
        """Remove an alert that has ended, or was not taken after all."""
        self._alerts.pop(fingerprint, None)

    def retain(self, fingerprints: AbstractSet[str], as_of: float) -> None:
        """
        Forget all but these: an alert that is no longer listed, or is muted, is new when it comes back.

        `as_of`: monotonic time at which the listing was asked for; alerts that were taken since then may be missing.
        """
        self._alerts = {
            fingerprint: seen
            for fingerprint, seen in self._alerts.items()
            if fingerprint in fingerprints or seen.taken_at >= as_of
        }

    def clear(self) -> None:
        self._alerts.clear()


def fires_again(starts_at: datetime | None, before: datetime | None) -> bool:
    """
    Return whether an alert that starts at `starts_at` has ended and begun again since it was seen with `before`.

    An earlier start is the same alert as another Prometheus or Alertmanager knows it. None: not known.
    """
    return starts_at is not None and before is not None and starts_at > before


def is_new(alert: Alert, active: AbstractSet[str], seen: Mapping[str, datetime | None]) -> bool:
    """Return whether a listed alert has to be submitted; `active`: fingerprints of alerts that are in an episode."""
    if alert.fingerprint in seen:
        return fires_again(alert.starts_at, seen[alert.fingerprint])
    return alert.fingerprint not in active


def _later(one: datetime | None, another: datetime | None) -> datetime | None:
    return max((time for time in (one, another) if time is not None), default=None)
