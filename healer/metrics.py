"""The healer's own metrics."""

import contextlib
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from healer.remedies.attempt import Attempt, AttemptResult, Capability, Unavailable
from healer.remedies.progress import Outcome
from healer.remedies.registry import REMEDIES
from healer.webhook.payload import Action
from pgslot.config.model import HealerConfig

WEBHOOK_CODES = (200, 400, 401, 413, 503)

_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
"""Upper bounds in seconds."""


class HealerMetrics:
    """Counters and gauges, with a series for each known label value from the start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # A `_created` series for each counter would add nothing to process_start_time_seconds.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.capability = Gauge(
            "pgslot_heal_capability_unavailable",
            "1 for why the healer could not act on the cluster if it had to; all 0 when it could.",
            ["cluster", "remedy", "reason"],
            registry=registry,
        )
        self.calls = Counter(
            "pgslot_heal_calls", "Attempts to act.", ["cluster", "remedy", "result"], registry=registry
        )
        self.episodes = Counter(
            "pgslot_heal_episodes",
            "Heals that ended: one for each slot of an episode, by what became of it.",
            ["cluster", "remedy", "outcome"],
            registry=registry,
        )
        self.refusals = Counter(
            "pgslot_heal_refusals",
            "Attempts that a guard has refused, by the guard; of remedies that have such.",
            ["cluster", "remedy", "guard"],
            registry=registry,
        )
        self.active = Gauge(
            "pgslot_heal_episode_active", "Whether an episode runs.", ["cluster", "remedy"], registry=registry
        )
        self.started = Gauge(
            "pgslot_heal_episode_start_timestamp_seconds",
            "Unix time at which the running episode began; absent while none runs.",
            ["cluster", "remedy"],
            registry=registry,
        )
        self.deadline = Gauge(
            "pgslot_heal_episode_deadline_timestamp_seconds",
            "Unix time by which the running episode gives its next slot up (give_up_after); absent while none runs.",
            ["cluster", "remedy"],
            registry=registry,
        )
        self.calls_remaining = Gauge(
            "pgslot_heal_calls_remaining",
            "Calls that the budget still allows: of the cluster within an hour, and while an episode runs of its slot"
            " with most of them left.",
            ["cluster", "remedy", "budget"],
            registry=registry,
        )
        self.clusters_remaining = Gauge(
            "pgslot_heal_clusters_remaining",
            "How many more clusters may be acted on at the same time; those that are only looked at do not count.",
            registry=registry,
        )
        self.disabled = Gauge(
            "pgslot_heal_disabled_info",
            "1 while the healer is switched off: by whose switch (cluster, all), and why in its owner's words.",
            ["cluster", "scope", "why"],
            registry=registry,
        )
        self.last_webhook = Gauge(
            "pgslot_heal_last_webhook_timestamp_seconds",
            "Unix time of the last webhook that was let in; the start of the process before the first.",
            registry=registry,
        )
        self.last_webhook.set_to_current_time()
        self.receiver_webhook = Gauge(
            "pgslot_heal_receiver_last_webhook_timestamp_seconds",
            "Unix time of the last webhook that Alertmanager sent to this receiver of its configuration; absent before"
            " the first. The last 20 receivers.",
            ["receiver"],
            registry=registry,
        )
        self.receiver_test = Gauge(
            "pgslot_heal_receiver_last_test_timestamp_seconds",
            "Unix time of the last webhook of this receiver with an alert of `pg-slot-healer doctor --test-alert`;"
            " absent before the first.",
            ["receiver"],
            registry=registry,
        )
        self._registry = registry
        self._removed: set[str] = set()
        """Clusters no longer in the configuration: an episode that ends after that must not bring a series back."""
        self._alertmanager_up: Gauge | None = None
        self.seconds = Histogram(
            "pgslot_heal_seconds",
            "Time from a slot's first call to its effect; healed slots only.",
            ["remedy"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.last_call = Gauge(
            "pgslot_heal_last_call_timestamp_seconds",
            "Unix time of the last call that wrote a record, or ended a transaction; absent before the first.",
            ["cluster", "remedy"],
            registry=registry,
        )
        self.webhooks = Counter("pgslot_heal_webhooks", "Answers to webhooks.", ["code"], registry=registry)
        self.alerts = Counter("pgslot_heal_alerts", "Alerts by what was done with them.", ["action"], registry=registry)
        for code in WEBHOOK_CODES:
            self.webhooks.labels(str(code))
        for action in Action:
            self.alerts.labels(action)
        for remedy in REMEDIES:
            self.seconds.labels(remedy)

    def add_cluster(self, cluster: str, remedies: Iterable[str], target: HealerConfig) -> None:
        """Create a cluster's series, at 0."""
        self._removed.discard(cluster)
        for remedy in remedies:
            self.active.labels(cluster, remedy)
            for outcome in Outcome:
                self.episodes.labels(cluster, remedy, outcome)
            for result in AttemptResult:
                self.calls.labels(cluster, remedy, result)
            for guard in REMEDIES[remedy].guards:
                self.refusals.labels(cluster, remedy, guard)
        if not target.enabled:
            self.disabled.labels(cluster, *_disabled_labels(target)).set(1)

    def remove_cluster(self, cluster: str, remedies: Iterable[str], target: HealerConfig) -> None:
        """Remove the gauges of a cluster; counters stay."""
        self._removed.add(cluster)
        for remedy in remedies:
            self.remove_remedy(cluster, remedy)
        self.remove_disabled(cluster, target)

    def remove_remedy(self, cluster: str, remedy: str) -> None:
        """Remove the gauges of a remedy that is no longer configured for a cluster; counters stay."""
        for reason in Unavailable:
            remove(self.capability, cluster, remedy, reason)
        for gauge in (self.active, self.last_call, self.started, self.deadline):
            remove(gauge, cluster, remedy)
        for budget in ("hour", "episode"):
            remove(self.calls_remaining, cluster, remedy, budget)

    def remove_disabled(self, cluster: str, target: HealerConfig) -> None:
        """Remove the series that says why the cluster was switched off."""
        remove(self.disabled, cluster, *_disabled_labels(target))

    def budget(self, cluster: str, remedy: str, left: Callable[[], int]) -> None:
        """Show the calls that the cluster's hourly budget still allows; `left` is called at each scrape."""
        self.calls_remaining.labels(cluster, remedy, "hour").set_function(left)

    def episode_began(
        self, cluster: str, remedy: str, calls_left: Callable[[], int], deadline: Callable[[], float]
    ) -> None:
        self.active.labels(cluster, remedy).set(1)
        self.started.labels(cluster, remedy).set_to_current_time()
        self.deadline.labels(cluster, remedy).set_function(deadline)
        self.calls_remaining.labels(cluster, remedy, "episode").set_function(calls_left)

    def episode_ended(self, cluster: str, remedy: str) -> None:
        if cluster not in self._removed:
            self.active.labels(cluster, remedy).set(0)
        remove(self.started, cluster, remedy)
        remove(self.deadline, cluster, remedy)
        remove(self.calls_remaining, cluster, remedy, "episode")

    def slot_ended(self, cluster: str, remedy: str, outcome: Outcome, heal_seconds: float | None) -> None:
        self.episodes.labels(cluster, remedy, outcome).inc()
        if heal_seconds is not None:
            self.seconds.labels(remedy).observe(heal_seconds)

    def set_alertmanager_up(self, *, up: bool) -> None:
        """Set whether Alertmanager's last answer was good; a healer without alertmanager_url has no such series."""
        if self._alertmanager_up is None:
            self._alertmanager_up = Gauge(
                "pgslot_heal_alertmanager_up",
                "Whether Alertmanager's API gave a proper answer when last asked; absent without alertmanager_url.",
                registry=self._registry,
            )
        self._alertmanager_up.set(up)

    def set_capability(self, cluster: str, remedy: str, capability: Capability) -> None:
        for reason in Unavailable:
            self.capability.labels(cluster, remedy, reason).set(reason is capability.reason)

    def count_attempt(self, cluster: str, remedy: str, attempt: Attempt) -> None:
        self.calls.labels(cluster, remedy, attempt.result).inc()
        if attempt.refusal is not None:
            self.refusals.labels(cluster, remedy, attempt.refusal).inc()
        if attempt.acted and cluster not in self._removed:
            self.last_call.labels(cluster, remedy).set_to_current_time()


def _disabled_labels(target: HealerConfig) -> tuple[str, str]:
    """Return `scope` and `why`."""
    return "all" if target.disabled_everywhere else "cluster", target.disabled_reason


def remove(gauge: Gauge, *labels: str) -> None:
    """Remove a series if it exists."""
    # Older versions of prometheus-client raise KeyError if it does not.
    with contextlib.suppress(KeyError):
        gauge.remove(*labels)
