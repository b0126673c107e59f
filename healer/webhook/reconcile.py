"""
Reconciles the episodes with what Alertmanager lists.

A webhook reports a change; the API lists the state. This submits alerts that fired before a restart or whose webhook
was lost, and withdraws those that are silenced or resolved: an alert that resolves while it is silenced, or while
Alertmanager restarts, sends no webhook at all.
"""

import asyncio
import logging
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from healer.metrics import HealerMetrics
from healer.webhook import deadlines
from healer.webhook.alert_handler import AlertHandler
from healer.webhook.alertmanager_api import AlertListing, AlertmanagerError, fetch_listing
from healer.webhook.payload import Alert
from pgslot.cli.logging import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Changes:
    """What a listing asks for."""

    submit: tuple[Alert, ...]
    """Firing alerts that no webhook reported."""
    withdraw: Mapping[str, str]
    """By fingerprint, why an alert of a running episode should leave it."""


def compare(
    listing: AlertListing, active: AbstractSet[str], seen: AbstractSet[str], listed_before: AbstractSet[str]
) -> Changes:
    """
    Compare a listing with the fingerprints of active and seen alerts.

    An active alert that is not listed has resolved only if it was listed before (otherwise it may be another
    Alertmanager's) and if the listing is complete.
    """
    withdraw = {fingerprint: why for fingerprint, why in listing.muted.items() if fingerprint in active}
    if listing.complete:
        resolved = (active & listed_before) - listing.alerts.keys()
        withdraw |= dict.fromkeys(resolved, "resolved, and no webhook said so")
    ignored = seen | active | listing.muted.keys()
    return Changes(
        tuple(alert for fingerprint, alert in listing.alerts.items() if fingerprint not in ignored), withdraw
    )


class Reconciler:
    """Lists Alertmanager's alerts at start and at the intervals of deadlines.py, and applies the changes."""

    def __init__(self, url: str, handler: AlertHandler, metrics: HealerMetrics) -> None:
        self._url = url
        self._handler = handler
        self._metrics = metrics
        self._listed: set[str] = set()
        """Fingerprints of the last listing, and of active alerts in the listings before."""
        self._up: bool | None = None
        """Whether Alertmanager answered last time; None before the first answer."""

    async def run(self) -> None:
        """Reconcile until cancelled; a failure shows as a gauge, and is logged when it begins and ends."""
        busy_interval = deadlines.RECONCILE_BUSY_INTERVAL_SECONDS
        while True:
            complete = await self._reconcile()
            for _ in range(int(deadlines.RECONCILE_INTERVAL_SECONDS / busy_interval)):
                await asyncio.sleep(busy_interval)
                if self._handler.active or not complete:
                    break

    async def _reconcile(self) -> bool:
        """Apply one listing; return whether it was complete."""
        try:
            listing = await fetch_listing(self._url)
        except AlertmanagerError as error:
            self._set_up(up=False, error=str(error))
            return False
        except Exception:
            self._set_up(up=False, error="internal error")
            log.exception("Alertmanager's answer could not be taken in")
            return False
        self._set_up(up=True, alerts=len(listing.alerts), complete=listing.complete)
        active = self._handler.active
        changes = compare(listing, active.keys(), self._handler.seen.current, self._listed)
        # An alert that is no longer listed, or is muted now, is new when it is listed unmuted again.
        self._handler.seen.retain(listing.alerts.keys() - listing.muted.keys())
        self._listed = (self._listed & active.keys()) | listing.alerts.keys()
        for fingerprint, why in changes.withdraw.items():
            self._handler.withdraw(fingerprint, active[fingerprint], why)
        for alert in changes.submit:
            self._handler.submit(alert)
        return listing.complete

    def _set_up(self, *, up: bool, **fields: object) -> None:
        self._metrics.set_alertmanager_up(up=up)
        if up is not self._up:
            level = logging.INFO if up else logging.WARNING
            message = "asked Alertmanager for running alerts" if up else "cannot ask Alertmanager for running alerts"
            log.log(level, message, **fields)
        self._up = up
