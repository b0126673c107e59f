"""What the healer says of itself to Prometheus."""

import contextlib
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from healer.remedies.attempt import Attempt, AttemptResult, Capability, Unavailable
from healer.remedies.progress import Outcome
from healer.remedies.registry import REMEDIES
from healer.webhook.body import Action
from pgslot.config.model import HealerConfig

WEBHOOK_CODES = (200, 400, 401, 413, 503)

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)


class HealerMetrics:
    """The healer's own counters and gauges, each label value there from the start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # A creation timestamp for each series would tell no more than process_start_time_seconds does.
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
        self._gone: set[str] = set()
        """Clusters that the configuration has no more: whatever still ends for them brings no series back."""
        self._alertmanager_up: Gauge | None = None
        self.seconds = Histogram(
            "pgslot_heal_seconds",
            "Time from a slot's first call to its effect; healed slots only.",
            ["remedy"],
            buckets=_SECONDS,
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

    def expect(self, cluster: str, remedies: Iterable[str], target: HealerConfig) -> None:
        """Have a cluster's series there from the start, at 0."""
        self._gone.discard(cluster)
        for remedy in remedies:
            self.active.labels(cluster, remedy)
            for outcome in Outcome:
                self.episodes.labels(cluster, remedy, outcome)
            for result in AttemptResult:
                self.calls.labels(cluster, remedy, result)
            for guard in REMEDIES[remedy].guards:
                self.refusals.labels(cluster, remedy, guard)
        if not target.enabled:
            self.disabled.labels(cluster, *_switch(target)).set(1)

    def forget(self, cluster: str, remedies: Iterable[str], target: HealerConfig) -> None:
        """Take away what says how a cluster is now; what was counted stays counted."""
        self._gone.add(cluster)
        for remedy in remedies:
            self.no_remedy(cluster, remedy)
        self.enabled_again(cluster, target)

    def no_remedy(self, cluster: str, remedy: str) -> None:
        """Take away what says how a remedy of a cluster is now: it is set up there no more."""
        for reason in Unavailable:
            remove(self.capability, cluster, remedy, reason)
        for gauge in (self.active, self.last_call, self.started, self.deadline):
            remove(gauge, cluster, remedy)
        for budget in ("hour", "episode"):
            remove(self.calls_remaining, cluster, remedy, budget)

    def enabled_again(self, cluster: str, target: HealerConfig) -> None:
        """Take away why it was switched off."""
        remove(self.disabled, cluster, *_switch(target))

    def budget(self, cluster: str, remedy: str, left: Callable[[], int]) -> None:
        """Show what is left of the cluster's hour, from now on."""
        self.calls_remaining.labels(cluster, remedy, "hour").set_function(left)

    def episode_began(
        self, cluster: str, remedy: str, calls_left: Callable[[], int], deadline: Callable[[], float]
    ) -> None:
        self.active.labels(cluster, remedy).set(1)
        self.started.labels(cluster, remedy).set_to_current_time()
        self.deadline.labels(cluster, remedy).set_function(deadline)
        self.calls_remaining.labels(cluster, remedy, "episode").set_function(calls_left)

    def episode_ended(self, cluster: str, remedy: str) -> None:
        if cluster not in self._gone:
            self.active.labels(cluster, remedy).set(0)
        remove(self.started, cluster, remedy)
        remove(self.deadline, cluster, remedy)
        remove(self.calls_remaining, cluster, remedy, "episode")

    def slot_ended(self, cluster: str, remedy: str, outcome: Outcome, heal_seconds: float | None) -> None:
        self.episodes.labels(cluster, remedy, outcome).inc()
        if heal_seconds is not None:
            self.seconds.labels(remedy).observe(heal_seconds)

    def set_alertmanager_up(self, *, up: bool) -> None:
        """Say whether Alertmanager answered when it was last asked; a healer that asks none has no such series."""
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
        if attempt.acted and cluster not in self._gone:
            self.last_call.labels(cluster, remedy).set_to_current_time()


def _switch(target: HealerConfig) -> tuple[str, str]:
    """Return by whose switch it is off, and why."""
    return "all" if target.disabled_everywhere else "cluster", target.disabled_reason


def remove(gauge: Gauge, *labels: str) -> None:
    """Take a series away, if there is one."""
    # Older versions of prometheus-client raise where there is nothing to remove.
    with contextlib.suppress(KeyError):
        gauge.remove(*labels)
