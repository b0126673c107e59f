"""
`--test-alert`: sends a marked alert to each receiver that is or may be the healer's, and sees which of them arrive.

The healer notes test alerts by receiver and does nothing else about them (`TEST_LABEL`).
"""

import asyncio
import json
import secrets
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from healer.doctor.checks.healer import HealerSamples, fetch_metrics
from healer.doctor.checks.receivers import Evidence, Receiver
from healer.doctor.checks.routing import GROUP_BY_ALL, Route, matching_routes
from healer.webhook.alertmanager_api import AlertmanagerClient
from healer.webhook.payload import HEAL_LABEL, TEST_LABEL, Action
from pgslot.httpclient import HttpClient, HttpError

LAST_TEST = "pgslot_heal_receiver_last_test_timestamp_seconds"
WEBHOOKS = "pgslot_heal_webhooks_total"

DELIVERY_SECONDS = 10.0
"""After group_wait, for a webhook that is sent to arrive; later it does not arrive."""
PEER_TIMEOUT_SECONDS = 15.0
"""How long an Alertmanager of a cluster waits for each one before it; the default of --cluster.peer-timeout."""
MAX_WAIT_SECONDS = 60.0
"""How long the doctor waits at most."""
POLL_SECONDS = 0.3
"""Between two requests for the healer's metrics."""

ANNOTATIONS = {
    "summary": "A test of the path to pg-slot-healer: nothing is wrong, and there is nothing to do.",
    "description": "pg-slot-healer doctor --test-alert sent this alert, and ends it within a minute.",
}


@dataclass(frozen=True, slots=True)
class TestAlert:
    """The alert that is to arrive through one receiver."""

    receiver: str
    labels: Mapping[str, str]
    due: float | None
    """Seconds until it has arrived if it ever does. None: it may take longer than MAX_WAIT_SECONDS."""


@dataclass(frozen=True, slots=True)
class TestPlan:
    """Which alerts to send, and when enough of them have arrived."""

    tests: tuple[TestAlert, ...]
    receiver_sets: frozenset[frozenset[str]]
    """For each alert for the healer, the receivers that it may come through: one of them is enough."""

    def pending(self, arrived: Collection[str]) -> tuple[TestAlert, ...]:
        """Return the tests that still matter when these receivers are proven."""
        unproven = {name for names in self.receiver_sets if names.isdisjoint(arrived) for name in names}
        return tuple(test for test in self.tests if test.receiver in unproven)


def plan_tests(
    root: Route, alerts: Iterable[Mapping[str, str]], receivers: Mapping[str, Receiver], mark: str, peers: int
) -> TestPlan:
    """
    Choose one alert for each receiver with a webhook that the healer's alerts go to; pure.

    `mark`: the value of TEST_LABEL, different in each run. `peers`: the number of Alertmanagers in the cluster. Raises
    RoutingError.
    """
    tests: dict[str, TestAlert] = {}
    receiver_sets = set()
    # A receiver that heals is tested with an alert that asks for that, not with the heartbeat.
    for alert in sorted(alerts, key=lambda alert: HEAL_LABEL not in alert):
        labels = {**alert, TEST_LABEL: mark}
        routes = [route for route in matching_routes(root, labels) if _may_be_healer(receivers[route.receiver])]
        for route in routes:
            tests.setdefault(route.receiver, TestAlert(route.receiver, labels, _due(route, peers)))
        if routes:
            receiver_sets.add(frozenset(route.receiver for route in routes))
    return TestPlan(tuple(tests.values()), frozenset(receiver_sets))


def _may_be_healer(receiver: Receiver) -> bool:
    return bool(receiver.with_alerts_url or receiver.with_hidden_url)


def _due(route: Route, peers: int) -> float | None:
    due = route.group_wait + DELIVERY_SECONDS + PEER_TIMEOUT_SECONDS * max(0, peers - 1)
    alone_in_group = route.group_by == GROUP_BY_ALL
    return due if alone_in_group and not route.time_intervals and due <= MAX_WAIT_SECONDS else None


def supports_test_alerts(metrics: HealerSamples) -> bool:
    """Return whether this healer recognises test alerts; an older one would take them for real ones."""
    return Action.IGNORED_TEST in metrics.labels("pgslot_heal_alerts_total", "action")


def new_mark() -> str:
    return secrets.token_hex(8)


async def run_tests(alertmanager: AlertmanagerClient, healer: HttpClient, plan: TestPlan) -> dict[str, Evidence]:
    """
    Send the alerts, wait until they arrive at the healer, end them; return the evidence by receiver.

    Raises HttpError when Alertmanager does not accept them.
    """
    tests = plan.tests
    metrics = await fetch_metrics(healer)
    before, refused_before = metrics.by_label(LAST_TEST, "receiver"), _refused(metrics)
    alerts = list({json.dumps(test.labels): dict(test.labels) for test in tests}.values())
    started = time.monotonic()
    await alertmanager.post_alerts([{"labels": labels, "annotations": ANNOTATIONS} for labels in alerts])
    try:
        arrived = await _wait_for_arrival(healer, plan, before, started)
        waited = time.monotonic() - started
        held = await _held_back(alertmanager, tests) if plan.pending(arrived) else {}
        refused = bool(plan.pending(arrived)) and _refused(await fetch_metrics(healer)) > refused_before
    finally:
        ended = datetime.now(UTC).isoformat()
        await alertmanager.post_alerts(
            [{"labels": labels, "annotations": ANNOTATIONS, "endsAt": ended} for labels in alerts]
        )
    return {
        test.receiver: judge_delivery(
            test, arrived.get(test.receiver), waited, held.get(test.receiver), refused=refused
        )
        for test in tests
    }


def _refused(metrics: HealerSamples) -> float:
    """Return how many webhooks the healer has refused with 401, for their token."""
    return metrics.by_label(WEBHOOKS, "code").get("401", 0.0)


def judge_delivery(
    test: TestAlert, seconds: float | None, waited: float, held: str | None, *, refused: bool = False
) -> Evidence:
    """
    Return what a test proves; pure.

    `seconds`: until it arrived, None if it did not within `waited`. `held`: by what Alertmanager holds it back.
    `refused`: meanwhile the healer has refused webhooks with 401.
    """
    if seconds is not None:
        return Evidence(delivered=True, text=f"this healer: a test alert arrived through it within {seconds:.1f} s")
    if held is not None:
        return Evidence(None, f"Alertmanager suppresses the test alert ({held})")
    if refused:
        return Evidence(delivered=False, text="its webhook arrived and was refused with 401", refused=True)
    if test.due is None or waited < test.due:
        return Evidence(None, f"no test alert had arrived through it after {waited:.0f} s: it may wait in its group")
    return Evidence(delivered=False, text=f"no test alert arrived through it within {waited:.0f} s")


async def _wait_for_arrival(
    healer: HttpClient, plan: TestPlan, before: Mapping[str, float], started: float
) -> dict[str, float]:
    """Return the seconds until arrival by receiver, as soon as nothing is pending or all of it is overdue."""
    arrived: dict[str, float] = {}
    while pending := plan.pending(arrived):
        if time.monotonic() - started >= max(MAX_WAIT_SECONDS if test.due is None else test.due for test in pending):
            break
        await asyncio.sleep(POLL_SECONDS)
        try:
            now = (await fetch_metrics(healer)).by_label(LAST_TEST, "receiver")
        except HttpError:
            continue
        for test in plan.tests:
            if now.get(test.receiver) != before.get(test.receiver):
                arrived.setdefault(test.receiver, time.monotonic() - started)
    return arrived


async def _held_back(alertmanager: AlertmanagerClient, tests: Sequence[TestAlert]) -> dict[str, str]:
    """Return by receiver what holds its test alert back in Alertmanager: silences, other alerts, times."""
    mark = tests[0].labels[TEST_LABEL]
    held: dict[str, str] = {}
    for alert in await alertmanager.alerts(f'{TEST_LABEL}="{mark}"'):
        by = [f"{key} {', '.join(map(str, alert['status'][key]))}" for key in _HOLDERS if alert["status"].get(key)]
        for test in tests if by else ():
            if test.labels == alert["labels"]:
                held[test.receiver] = "; ".join(by)
    return held


_HOLDERS = ("silencedBy", "inhibitedBy", "mutedBy")
