"""The healer's own metrics."""

import contextlib
from collections.abc import Callable, Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from healer.remedies.attempt import Attempt, AttemptResult, Capability, Unavailable
from healer.remedies.base import AnyRemedy
from healer.remedies.progress import WELL, Outcome
from healer.remedies.registry import REMEDIES
from healer.remedies.slot_state import SlotKey
from healer.webhook.payload import Action
from pgslot.config.model import HealerConfig

MAX_POLICY_CHARACTERS = 1000

WEBHOOK_CODES = (200, 400, 401, 413, 503)

MAX_FAILED_SLOTS = 100
"""Slots with a series of their own because their heal failed; the one that failed first is dropped first."""

FAILURES = frozenset({Outcome.NO_EFFECT, Outcome.GAVE_UP, Outcome.ERROR})
"""Outcomes after which a person has to help the slot, see PgSlotHealNoEffect."""

_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600)
"""Upper bounds in seconds."""


SETTINGS_IN_FORCE = ("enabled", "dry_run", "policy")
"""Labels of pgslot_heal_remedy_info: settings whose difference to the file matters at 3 a.m."""


def settings_in_force(remedy: AnyRemedy, target: HealerConfig) -> tuple[str, ...]:
    """Return the values of SETTINGS_IN_FORCE for a remedy of a cluster."""
    enabled, dry_run = (str(value).lower() for value in (target.enabled, target.dry_run))
    return enabled, dry_run, remedy.policy(target)[:MAX_POLICY_CHARACTERS]


class HealerMetrics:
    """Counters and gauges, with a series for each known label value from the start."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # A `_created` series for each counter would add nothing to process_start_time_seconds.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.capability = Gauge(
            "pgslot_heal_capability_unavailable",
            "1 for the reason why the healer would be unable to act on the cluster now; all 0 if it could act.",
            ["cluster", "remedy", "reason"],
            registry=registry,
        )
        self.calls = Counter(
            "pgslot_heal_calls", "Attempts to act, by their result.", ["cluster", "remedy", "result"], registry=registry
        )
        self.episodes = Counter(
            "pgslot_heal_episodes",
            "Slots that the healer has finished with, by outcome. Every slot of an episode adds one, and adds one more "
            "each time it needs help again.",
            ["cluster", "remedy", "outcome"],
            registry=registry,
        )
        self.last_failure = Gauge(
            "pgslot_heal_last_failure_timestamp_seconds",
            "Unix time at which the last attempt to heal this slot ended with no_effect, gave_up or error. Absent once"
            f" a later attempt ends with healed or resolved_itself. Only for the last {MAX_FAILED_SLOTS} slots.",
            ["cluster", "remedy", "node", "slot_name", "outcome"],
            registry=registry,
        )
        self._failed: dict[tuple[str, str, SlotKey], Outcome] = {}
        """The slots with a series in `last_failure`, the one that failed first at the beginning."""
        self.refusals = Counter(
            "pgslot_heal_refusals",
            "Attempts that a safety check (guard) refused, by guard. Only remedies that have guards have this series.",
            ["cluster", "remedy", "guard"],
            registry=registry,
        )
        self.active = Gauge(
            "pgslot_heal_episode_active",
            "1 while an episode (the healer's work on one cluster, from the first alert to the last slot's outcome) "
            "runs, 0 otherwise.",
            ["cluster", "remedy"],
            registry=registry,
        )
        self.started = Gauge(
            "pgslot_heal_episode_start_timestamp_seconds",
            "Unix time at which the running episode began. Absent while none runs.",
            ["cluster", "remedy"],
            registry=registry,
        )
        self.deadline = Gauge(
            "pgslot_heal_episode_deadline_timestamp_seconds",
            "Unix time at which the running episode gives up on the slot whose deadline comes first (give_up_after). "
            "Absent while none runs.",
            ["cluster", "remedy"],
            registry=registry,
        )
        self.calls_remaining = Gauge(
            "pgslot_heal_calls_remaining",
            "Calls that the budget still allows. hour: for the cluster, counted over the last hour. episode: every "
            "slot of an episode has a budget of its own, and this is the largest remainder of them; absent while no "
            "episode runs.",
            ["cluster", "remedy", "budget"],
            registry=registry,
        )
        self.clusters_remaining = Gauge(
            "pgslot_heal_clusters_remaining",
            "How many more clusters the healer may act on at the same time. Clusters that it only observes do not"
            " count.",
            registry=registry,
        )
        self.disabled = Gauge(
            "pgslot_heal_disabled_info",
            "1 while the healer is switched off, with the switch (cluster or all) and the configured reason as labels.",
            ["cluster", "scope", "why"],
            registry=registry,
        )
        self.remedy = Gauge(
            "pgslot_heal_remedy_info",
            "1 for each remedy of a cluster, with the settings that the running healer applies.",
            ["cluster", "remedy", *SETTINGS_IN_FORCE],
            registry=registry,
        )
        self._in_force: dict[tuple[str, str], tuple[str, ...]] = {}
        """The values of SETTINGS_IN_FORCE that are shown, by cluster and remedy."""
        self.last_webhook = Gauge(
            "pgslot_heal_last_webhook_timestamp_seconds",
            "Unix time of the last webhook that passed authentication. Before the first one, the start time of "
            "the process.",
            registry=registry,
        )
        self.last_webhook.set_to_current_time()
        self.receiver_webhook = Gauge(
            "pgslot_heal_receiver_last_webhook_timestamp_seconds",
            "Unix time of the last webhook from this receiver of Alertmanager's configuration. Absent before the "
            "first. Only for the last 20 receivers.",
            ["receiver"],
            registry=registry,
        )
        self.receiver_test = Gauge(
            "pgslot_heal_receiver_last_test_timestamp_seconds",
            "Unix time of the last webhook from this receiver that carried an alert from `pg-slot-healer doctor"
            " --test-alert`. Absent before the first.",
            ["receiver"],
            registry=registry,
        )
        self._registry = registry
        self._removed: set[str] = set()
        """Clusters no longer in the configuration: an episode that ends after that must not bring a series back."""
        self._alertmanager_up: Gauge | None = None
        self.seconds = Histogram(
            "pgslot_heal_seconds",
            "Time from the first call for a slot to its effect. Healed slots only.",
            ["remedy"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.last_call = Gauge(
            "pgslot_heal_last_call_timestamp_seconds",
            "Unix time of the last call that wrote a record or ended a transaction. Absent before the first.",
            ["cluster", "remedy"],
            registry=registry,
        )
        self.webhooks = Counter(
            "pgslot_heal_webhooks", "Answers to webhooks, by HTTP status code.", ["code"], registry=registry
        )
        self.alerts = Counter(
            "pgslot_heal_alerts",
            "Alerts received in webhooks, by what the healer did with them.",
            ["action"],
            registry=registry,
        )
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
        self._remove_in_force(cluster, remedy)
        for reason in Unavailable:
            remove(self.capability, cluster, remedy, reason)
        for gauge in (self.active, self.last_call, self.started, self.deadline):
            remove(gauge, cluster, remedy)
        for budget in ("hour", "episode"):
            remove(self.calls_remaining, cluster, remedy, budget)
        for failed in [key for key in self._failed if key[:2] == (cluster, remedy)]:
            self._forget_failure(failed)

    def set_in_force(self, cluster: str, remedy: AnyRemedy, target: HealerConfig) -> None:
        """Show the settings that apply to a remedy of a cluster from now on."""
        self._remove_in_force(cluster, remedy.name)
        values = settings_in_force(remedy, target)
        self._in_force[cluster, remedy.name] = values
        self.remedy.labels(cluster, remedy.name, *values).set(1)

    def _remove_in_force(self, cluster: str, remedy: str) -> None:
        before = self._in_force.pop((cluster, remedy), None)
        if before is not None:
            remove(self.remedy, cluster, remedy, *before)

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

    def slot_ended(
        self, cluster: str, remedy: str, slot: SlotKey, outcome: Outcome, heal_seconds: float | None
    ) -> None:
        self.episodes.labels(cluster, remedy, outcome).inc()
        if outcome in WELL | FAILURES:
            self._forget_failure((cluster, remedy, slot))
        if outcome in FAILURES and cluster not in self._removed:
            self._failed[cluster, remedy, slot] = outcome
            self.last_failure.labels(cluster, remedy, slot.node, slot.slot_name, outcome).set_to_current_time()
            if len(self._failed) > MAX_FAILED_SLOTS:
                self._forget_failure(next(iter(self._failed)))
        if heal_seconds is not None:
            self.seconds.labels(remedy).observe(heal_seconds)

    def _forget_failure(self, failed: tuple[str, str, SlotKey]) -> None:
        outcome = self._failed.pop(failed, None)
        if outcome is not None:
            cluster, remedy, slot = failed
            remove(self.last_failure, cluster, remedy, slot.node, slot.slot_name, outcome)

    def set_alertmanager_up(self, *, up: bool) -> None:
        """Set whether Alertmanager's last answer was good; a healer without alertmanager_url has no such series."""
        if self._alertmanager_up is None:
            self._alertmanager_up = Gauge(
                "pgslot_heal_alertmanager_up",
                "1 if Alertmanager's API gave a valid answer to the last request, 0 if it did not. Absent without "
                "alertmanager_url.",
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
