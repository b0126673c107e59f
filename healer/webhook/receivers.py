"""
Which of Alertmanager's receivers webhooks came from, for `pg-slot-healer doctor`.

Newer Alertmanagers redact the URLs of their webhooks in the API, so that only an arriving webhook proves where a
receiver leads.
"""

from healer.metrics import HealerMetrics, remove
from healer.webhook.payload import Webhook

MAX_RECEIVERS = 20
MAX_NAME_LENGTH = 200
"""Characters; a receiver with a longer name is not recorded."""


class RecentReceivers:
    """The latest MAX_RECEIVERS receivers, as metrics; the one that has been silent for longest is dropped first."""

    def __init__(self, metrics: HealerMetrics) -> None:
        self._metrics = metrics
        self._names: dict[str, None] = {}
        """The latest comes last."""

    def record(self, webhook: Webhook) -> None:
        """Record the receiver of an authenticated webhook. One without alerts is the doctor's, and proves nothing."""
        name = webhook.receiver
        if name is None or len(name) > MAX_NAME_LENGTH or not webhook.alerts:
            return
        self._names.pop(name, None)
        self._names[name] = None
        self._metrics.receiver_webhook.labels(name).set_to_current_time()
        if webhook.has_test_alert:
            self._metrics.receiver_test.labels(name).set_to_current_time()
        if len(self._names) > MAX_RECEIVERS:
            oldest = next(iter(self._names))
            del self._names[oldest]
            remove(self._metrics.receiver_webhook, oldest)
            remove(self._metrics.receiver_test, oldest)
