"""
Reconciles the episodes with what Alertmanager lists.

A webhook reports a change; the API lists the state. This submits alerts that no webhook reported: those that fired
before a restart, whose webhook was lost, or that ended and fired again between two flushes of their group. It withdraws
those that are silenced or resolved: an alert that resolves while it is silenced, or while Alertmanager restarts, sends
no webhook at all.
"""

import asyncio
import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from datetime import datetime

from healer.metrics import HealerMetrics
from healer.webhook import deadlines
from healer.webhook.alert_handler import AlertHandler
from healer.webhook.alertmanager_api import AlertListing, AlertmanagerError, ListedAlerts
from healer.webhook.deduplication import is_new
from healer.webhook.payload import REFUSED, Action, Alert
from pgslot.cli.logging import get_logger

log = get_logger(__name__)

_TAKEN = frozenset({Action.STARTED, Action.JOINED})
_NOT_NOW = REFUSED | {Action.IGNORED_UNMEASURED}
"""An alert that was not taken for one of these may be taken soon; all others depend on the configuration."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a listing asks for."""

    submit: tuple[Alert, ...]
    """Firing alerts that no webhook reported."""
    withdraw: Mapping[str, str]
    """By fingerprint, why an alert of a running episode should leave it."""
    absent: frozenset[str]
    """Alerts of running episodes that are listed no more: resolved, if the listing is complete."""


@dataclass(frozen=True, slots=True)
class AlertmanagerStatus:
    """How Alertmanager's API answers, and what it lists for the healer."""

    up: bool | None
    """Whether the last answer was good; None: it has not answered yet."""
    since: float
    """Unix time from which on it is so."""
    error: str = ""
    """Why the last answer was not good."""
    alerts: int = 0
    """Firing alerts with the healer's label in the last good answer."""
    muted: tuple[tuple[Alert, str], ...] = ()
    """Those of them on which the healer does not act, with what silences or inhibits each."""


def compare(
    listing: AlertListing,
    active: AbstractSet[str],
    seen: Mapping[str, datetime | None],
    listed_before: AbstractSet[str],
) -> Changes:
    """
    Compare a listing with the fingerprints of active alerts, and with `startsAt` of those that were seen.

    An active alert that is not listed can only have resolved if it was listed before; otherwise it may be another
    Alertmanager's.
    """
    return Changes(
        submit=tuple(
            alert
            for fingerprint, alert in listing.alerts.items()
            if fingerprint not in listing.muted and is_new(alert, active, seen)
        ),
        withdraw={fingerprint: why for fingerprint, why in listing.muted.items() if fingerprint in active},
        absent=frozenset((active & listed_before) - listing.alerts.keys()),
    )


def pause(seconds: float, failures: int) -> float:
    """
    Return how long to wait before the next listing.

    `seconds`: how long the last listing took; `failures`: how many have failed in a row.
    """
    if failures:
        # The exponent is bounded: an Alertmanager may be away for weeks.
        return min(deadlines.LISTING_INTERVAL_SECONDS * 2.0 ** min(failures - 1, 10), deadlines.LISTING_RETRY_SECONDS)
    unhurried = min(seconds / deadlines.LISTING_SHARE, deadlines.MAX_LISTING_INTERVAL_SECONDS)
    return max(deadlines.LISTING_INTERVAL_SECONDS, unhurried)


class Reconciler:
    """Lists Alertmanager's alerts at start and at the intervals of deadlines.py, and applies the changes."""

    def __init__(self, url: str, handler: AlertHandler, metrics: HealerMetrics) -> None:
        self._url = url
        self._handler = handler
        self._metrics = metrics
        self._listed: set[str] = set()
        """Fingerprints of the last listing, and of active alerts in the listings before."""
        self.status = AlertmanagerStatus(up=None, since=time.time())

    async def run(self) -> None:
        """Reconcile until cancelled; a failure shows as a gauge, and is logged when it begins and ends."""
        failures = 0
        async with ListedAlerts(self._url) as listed_alerts:
            while True:
                began = time.monotonic()
                failures = 0 if await self._reconcile(listed_alerts) else failures + 1
                await asyncio.sleep(pause(time.monotonic() - began, failures))

    async def _reconcile(self, listed_alerts: ListedAlerts) -> bool:
        """Apply one listing; return whether Alertmanager answered as it should."""
        as_of = time.monotonic()
        try:
            listing = await listed_alerts.fetch()
            # What happened to an alert while Alertmanager answered shows in the next listing.
            absent = self._changes(listing).absent
            resolved = absent if absent and await listed_alerts.complete() else frozenset[str]()
        except AlertmanagerError as error:
            self._set_down(str(error))
            return False
        except Exception:
            self._set_down("internal error: see the healer's log")
            log.exception("internal error while processing Alertmanager's answer")
            return False
        self._set_up(listing)
        self._apply(listing, resolved, as_of)
        return True

    def _changes(self, listing: AlertListing) -> Changes:
        return compare(listing, self._handler.active.keys(), self._handler.seen.current, self._listed)

    def _apply(self, listing: AlertListing, resolved: AbstractSet[str], as_of: float) -> None:
        """Withdraw and submit what a listing asks for; `resolved`: absent alerts of a complete listing."""
        active, changes, seen = self._handler.active, self._changes(listing), self._handler.seen
        # An alert that is no longer listed, or is muted now, is new when it is listed unmuted again.
        seen.retain(listing.alerts.keys() - listing.muted.keys(), as_of)
        self._listed = (self._listed & active.keys()) | listing.alerts.keys()
        ended = dict.fromkeys(changes.absent & resolved, "resolved, and no webhook said so")
        for fingerprint, why in {**changes.withdraw, **ended}.items():
            self._handler.withdraw(fingerprint, active[fingerprint], why)
        actions: dict[str, int] = {}
        for alert in changes.submit:
            action = self._handler.submit(alert)
            if action not in _TAKEN:
                again = deadlines.RESUBMIT_AFTER_SECONDS if action in _NOT_NOW else deadlines.RETRY_AFTER_SECONDS
                seen.add(alert, again)
            actions[action] = actions.get(action, 0) + 1
        # A refused alert comes back every few seconds.
        if _TAKEN & actions.keys():
            log.info("alerts taken from Alertmanager's list", alerts=len(changes.submit), **actions)

    def _set_up(self, listing: AlertListing) -> None:
        self._metrics.set_alertmanager_up(up=True)
        before, now = self.status, time.time()
        if not before.up:
            log.info("asked Alertmanager for running alerts", alerts=len(listing.alerts))
        self.status = AlertmanagerStatus(
            up=True,
            since=before.since if before.up else now,
            alerts=len(listing.alerts),
            muted=tuple((listing.alerts[fingerprint], why) for fingerprint, why in listing.muted.items()),
        )

    def _set_down(self, error: str) -> None:
        self._metrics.set_alertmanager_up(up=False)
        before = self.status
        if before.up is not False:
            log.warning("cannot ask Alertmanager for running alerts", error=error)
            before = replace(before, up=False, since=time.time())
        self.status = replace(before, error=error)
