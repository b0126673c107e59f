"""
Keeps in step with Alertmanager: what still fires after a restart or was never delivered, what ended unsaid, silences.

A webhook says what changed; the API says what is. An alert that resolves while it is silenced, or while Alertmanager
restarts, sends no webhook at all.
"""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass

from healer.metrics import HealerMetrics
from healer.webhook.alertmanager import AlertListing, AlertmanagerError, fetch_listing
from healer.webhook.body import Alert
from healer.webhook.handler import AlertHandler
from pgslot.cli.logging import get_logger

INTERVAL = 60.0
BUSY_INTERVAL = 5.0
"""While an episode runs, so that a silence stops it soon; and until Alertmanager has answered in full."""

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Changes:
    """What follows from a listing."""

    take: tuple[Alert, ...]
    """Fires, and nobody has told us."""
    leave: Mapping[str, str]
    """Takes part in an episode, by fingerprint, and should not any more: why."""


def compare(listing: AlertListing, joined: set[str], heard: set[str], listed_before: set[str]) -> Changes:
    """
    Compare what Alertmanager says with what we go by.

    An alert that it does not list has ended only if it listed it before (or else it may be another Alertmanager's), and
    if its list is complete.
    """
    leave = {fingerprint: why for fingerprint, why in listing.muted.items() if fingerprint in joined}
    if listing.complete:
        ended = (joined & listed_before) - listing.alerts.keys()
        leave |= dict.fromkeys(ended, "resolved, and no webhook said so")
    active = [alert for fingerprint, alert in listing.alerts.items() if fingerprint not in listing.muted]
    return Changes(tuple(alert for alert in active if alert.fingerprint not in heard | joined), leave)


class Reconciler:
    """Asks Alertmanager at start, and from then on."""

    def __init__(self, url: str, handler: AlertHandler, metrics: HealerMetrics) -> None:
        self._url = url
        self._handler = handler
        self._metrics = metrics
        self._listed: set[str] = set()
        self._answered: bool | None = None

    async def run(self) -> None:
        """Ask for ever; a failure is logged once per change, and shown as a gauge."""
        while True:
            complete = await self._ask()
            for _ in range(int(INTERVAL / BUSY_INTERVAL)):
                await asyncio.sleep(BUSY_INTERVAL)
                if self._handler.active or not complete:
                    break

    async def _ask(self) -> bool:
        try:
            listing = await fetch_listing(self._url)
        except AlertmanagerError as error:
            self._note(answered=False, error=str(error))
            return False
        except Exception:
            self._note(answered=False, error="a defect of the healer")
            log.exception("Alertmanager's answer could not be taken in")
            return False
        self._note(answered=True, alerts=len(listing.alerts), complete=listing.complete)
        joined = self._handler.active
        changes = compare(listing, set(joined), self._handler.seen.current, self._listed)
        # What is not listed any more may come back, and is news then. What is muted is news when it no longer is.
        self._handler.seen.retain(listing.alerts.keys() - listing.muted.keys())
        self._listed = (self._listed & joined.keys()) | listing.alerts.keys()
        for fingerprint, why in changes.leave.items():
            self._handler.withdraw(fingerprint, joined[fingerprint], why)
        for alert in changes.take:
            self._handler.submit(alert)
        return listing.complete

    def _note(self, *, answered: bool, **fields: object) -> None:
        self._metrics.set_alertmanager_up(up=answered)
        if answered is not self._answered:
            level = logging.INFO if answered else logging.WARNING
            what = "asked Alertmanager for running alerts" if answered else "cannot ask Alertmanager for running alerts"
            log.log(level, what, **fields)
        self._answered = answered
