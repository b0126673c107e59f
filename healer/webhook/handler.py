"""Whom the webhook's alerts are handed to; the episode manager is one."""

from typing import Protocol

from healer.webhook.body import Action, Alert
from healer.webhook.deduplication import SeenAlerts


class AlertHandler(Protocol):
    """Takes alerts, and knows which of them it acts on."""

    closing: bool
    """It takes no alert any more."""
    seen: SeenAlerts
    """The firing alerts that it has taken."""

    @property
    def active(self) -> dict[str, str]:
        """The cluster of each alert, by fingerprint, that takes part in an episode or waits for the next one."""
        ...

    def submit(self, alert: Alert) -> Action:
        """Act on one alert without waiting for anything; return what was done with it."""
        ...

    def withdraw(self, fingerprint: str, cluster: str, why: str = ...) -> bool:
        """Take an alert out of the cluster's episodes; return whether it was in one."""
        ...
