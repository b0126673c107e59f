"""The status page: it reads well on a phone, and is complete without its script, which only refreshes it."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from healer.episodes.report import Report
from healer.remedies.attempt import Capability, Unavailable
from healer.remedies.base import BudgetLimit
from healer.remedies.progress import Outcome
from healer.webhook.reconcile import AlertmanagerStatus
from pgslot import __version__
from pgslot.pages.frame import REFRESH_SECONDS, environment

_OUTCOME_CLASSES = {None: "busy", Outcome.HEALED: "good", Outcome.RESOLVED_ITSELF: "good", Outcome.DRY_RUN: "busy"}
"""CSS class of an outcome, None: the episode runs; all other outcomes are bad."""

MAX_MUTED = 20
"""Silenced and inhibited alerts on the page; the page says how many more there are."""

_TEMPLATES = environment("healer")


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """A remedy of a cluster, as the page shows it."""

    name: str
    remedy: str
    plan: str
    """What the remedy does, in words."""
    capability: Capability | None
    """None: not checked yet."""
    calls_left: int
    limit: BudgetLimit
    dry_run: bool
    fallback: bool

    @property
    def switched_off(self) -> bool:
        """It is off because its owner has said so, which is not a fault."""
        return self.capability is not None and self.capability.reason is Unavailable.DISABLED


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the healer depends on besides the clusters."""

    loaded_at: float
    """Unix time at which the configuration in force was loaded."""
    reload_error: str | None
    """Why the last reload failed; None: it did not."""
    alertmanager: AlertmanagerStatus | None
    """None: the configuration has no alertmanager_url."""


def status_page(
    surroundings: Surroundings,
    clusters: Iterable[ClusterStatus],
    episodes: Iterable[Report],
    older: int | None,
) -> str:
    """
    Return the page, all values escaped; `pgslot.pages.frame.REFRESHING_HEADERS` go with it.

    `older`: offset of the page with older episodes; None: there are none.
    """
    now = time.time()
    return _TEMPLATES.get_template("status.html").render(
        version=__version__,
        now=_utc(now),
        surroundings=surroundings,
        max_muted=MAX_MUTED,
        clusters=list(clusters),
        episodes=list(episodes),
        older=older,
        refresh_seconds=REFRESH_SECONDS,
        outcome_classes=_OUTCOME_CLASSES,
        utc=_utc,
        ago=lambda unix_time: duration(now - unix_time),
        duration=duration,
    )


def duration(seconds: float) -> str:
    """Return a duration for people, in one unit or two."""
    if seconds < 0.9995:
        return f"{max(0.0, seconds) * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    days, hours, minutes = int(seconds // 86400), int(seconds // 3600 % 24), int(seconds // 60 % 60)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {int(seconds % 60)} s"


def _utc(unix_time: float) -> str:
    return f"{datetime.fromtimestamp(unix_time, UTC):%Y-%m-%d %H:%M:%S} UTC"
