"""Of which of Alertmanager's receivers webhooks come here: newer Alertmanagers do not say where theirs lead."""

from healer.metrics import HealerMetrics, remove
from healer.webhook.body import Webhook

MAX_RECEIVERS = 20
MAX_NAME_LENGTH = 200
"""Characters; a longer name is not remembered."""


class Receivers:
    """The last ones that were heard from, in the metrics; the one that has been silent for longest makes room."""

    def __init__(self, metrics: HealerMetrics) -> None:
        self._metrics = metrics
        self._names: dict[str, None] = {}
        """The latest comes last."""

    def record(self, webhook: Webhook) -> None:
        """Remember whom a webhook that was let in is for. An empty one is the doctor's, and no proof of anything."""
        name = webhook.receiver
        if name is None or len(name) > MAX_NAME_LENGTH or not webhook.alerts:
            return
        self._names.pop(name, None)
        self._names[name] = None
        self._metrics.receiver_webhook.labels(name).set_to_current_time()
        if webhook.tests:
            self._metrics.receiver_test.labels(name).set_to_current_time()
        if len(self._names) > MAX_RECEIVERS:
            oldest = next(iter(self._names))
            del self._names[oldest]
            remove(self._metrics.receiver_webhook, oldest)
            remove(self._metrics.receiver_test, oldest)
