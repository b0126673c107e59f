"""What the healer says of itself to Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from healer.alerts import Action
from healer.policy import Outcome
from healer.primary import Call, CallResult, Capability, Unavailable

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
            ["cluster", "reason"],
            registry=registry,
        )
        self.calls = Counter(
            "pgslot_heal_calls", "Attempts to call the function.", ["cluster", "result"], registry=registry
        )
        self.episodes = Counter(
            "pgslot_heal_episodes", "Episodes that ended.", ["cluster", "outcome"], registry=registry
        )
        self.active = Gauge("pgslot_heal_episode_active", "Whether an episode runs.", ["cluster"], registry=registry)
        self.seconds = Histogram(
            "pgslot_heal_seconds",
            "Time from an episode's first call to its effect; healed episodes only.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.last_call = Gauge(
            "pgslot_heal_last_call_timestamp_seconds",
            "Unix time of the last call that wrote a record; absent before the first.",
            ["cluster"],
            registry=registry,
        )
        self.webhooks = Counter("pgslot_heal_webhooks", "Answers to webhooks.", ["code"], registry=registry)
        self.alerts = Counter("pgslot_heal_alerts", "Alerts by what was done with them.", ["action"], registry=registry)
        for code in WEBHOOK_CODES:
            self.webhooks.labels(str(code))
        for action in Action:
            self.alerts.labels(action)

    def expect(self, cluster: str) -> None:
        """Have a cluster's series there from the start, at 0."""
        self.active.labels(cluster)
        for outcome in Outcome:
            self.episodes.labels(cluster, outcome)
        for result in CallResult:
            self.calls.labels(cluster, result)

    def forget(self, cluster: str) -> None:
        """Take away what says how a cluster is now; what was counted stays counted."""
        for reason in Unavailable:
            self.capability.remove(cluster, reason)
        self.active.remove(cluster)

    def set_capability(self, cluster: str, capability: Capability) -> None:
        for reason in Unavailable:
            self.capability.labels(cluster, reason).set(reason is capability.reason)

    def count_call(self, cluster: str, call: Call) -> None:
        self.calls.labels(cluster, call.result).inc()
        if call.result is CallResult.OK:
            self.last_call.labels(cluster).set_to_current_time()
