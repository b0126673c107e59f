"""What the webhook and the reconciliation hand alerts to: an interface, which the episode manager implements."""

from collections.abc import Mapping
from typing import Protocol

from healer.webhook.deduplication import SeenAlerts
from healer.webhook.payload import Action, Alert


class AlertHandler(Protocol):
    """Acts on alerts (`healer.episodes.manager.EpisodeManager`)."""

    @property
    def closing(self) -> bool:
        """The healer is shutting down: an alert submitted now would be lost."""
        ...

    @property
    def seen(self) -> SeenAlerts:
        """The firing alerts that were taken."""
        ...

    @property
    def active(self) -> Mapping[str, str]:
        """Cluster, by fingerprint, of each alert that takes part in an episode or waits for the next one."""
        ...

    def submit(self, alert: Alert) -> Action:
        """Act on one alert without waiting for anything; return what was done with it."""
        ...

    def withdraw(self, fingerprint: str, cluster: str, why: str = ...) -> bool:
        """Take an alert out of the cluster's episodes; return whether it was in one."""
        ...
