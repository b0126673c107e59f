"""`--test-alert`: a marked alert along each route that is the healer's or may be, and which of them arrive."""

import json
import secrets
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from healer.doctor.checks.healer import HealerSamples, read_metrics
from healer.doctor.checks.receivers import Evidence, Receiver
from healer.doctor.checks.routing import EACH_BY_ITSELF, Route, matching
from healer.doctor.http import Client, NoAnswerError
from healer.webhook.body import TEST_LABEL, Action

LAST_TEST = "pgslot_heal_receiver_last_test_timestamp_seconds"

DELIVERY = 10.0
"""Seconds beyond group_wait within which a webhook that is sent has arrived, or does not arrive."""
PEER_TIMEOUT = 15.0
"""Seconds that one Alertmanager of a cluster waits for each that comes before it; --cluster.peer-timeout's default."""
LONGEST_WAIT = 60.0
PACE = 0.3

ANNOTATIONS = {
    "summary": "A test of the way to pg-slot-healer: nothing is wrong, and nothing is to be done.",
    "description": "pg-slot-healer doctor --test-alert sent it, and ends it within a minute.",
}


@dataclass(frozen=True, slots=True)
class TestAlert:
    """One receiver, and the alert that is to come through it."""

    receiver: str
    labels: Mapping[str, str]
    due: float | None
    """Seconds after which it has arrived if it ever does. None: it may wait longer than the doctor does."""


@dataclass(frozen=True, slots=True)
class TestPlan:
    """What is to be tried, and when enough is known."""

    tests: tuple[TestAlert, ...]
    receiver_sets: frozenset[frozenset[str]]
    """Of each alert for the healer, the receivers by which it may come: one of them is enough."""

    def open_after(self, arrived: Collection[str]) -> tuple[TestAlert, ...]:
        """Return the trials that still matter when these receivers are proven."""
        left = {name for way in self.receiver_sets if way.isdisjoint(arrived) for name in way}
        return tuple(trial for trial in self.tests if trial.receiver in left)


def plan(
    root: Route, alerts: Iterable[Mapping[str, str]], receivers: Mapping[str, Receiver], mark: str, peers: int
) -> TestPlan:
    """
    Choose one alert for each receiver with a webhook that the healer's alerts go to; pure.

    `mark` tells these alerts from those of other runs, `peers` is the number of Alertmanagers in the cluster. Raises
    RoutingError.
    """
    found: dict[str, TestAlert] = {}
    ways = set()
    for alert in alerts:
        labels = {**alert, TEST_LABEL: mark}
        routes = [route for route in matching(root, labels) if _may_lead(receivers[route.receiver])]
        for route in routes:
            found.setdefault(route.receiver, TestAlert(route.receiver, labels, _due(route, peers)))
        if routes:
            ways.add(frozenset(route.receiver for route in routes))
    return TestPlan(tuple(found.values()), frozenset(ways))


def _may_lead(receiver: Receiver) -> bool:
    return bool(receiver.shown or receiver.hidden)


def _due(route: Route, peers: int) -> float | None:
    due = route.group_wait + DELIVERY + PEER_TIMEOUT * max(0, peers - 1)
    alone = route.group_by == EACH_BY_ITSELF
    return due if alone and not route.time_intervals and due <= LONGEST_WAIT else None


def understood(metrics: HealerSamples) -> bool:
    """Return whether this healer knows such alerts; an older one would take them for real."""
    return Action.IGNORED_TEST in metrics.labels("pgslot_heal_alerts_total", "action")


def new_mark() -> str:
    return secrets.token_hex(8)


def send(alertmanager: Client, healer: Client, planned: TestPlan) -> dict[str, Evidence]:
    """
    Send the alerts, wait for them at the healer, end them; return what that says of each receiver.

    Raises NoAnswerError when Alertmanager does not take them.
    """
    trials = planned.tests
    before = read_metrics(healer).by_label(LAST_TEST, "receiver")
    alerts = list({json.dumps(trial.labels): dict(trial.labels) for trial in trials}.values())
    started = time.monotonic()
    _post(alertmanager, [{"labels": labels, "annotations": ANNOTATIONS} for labels in alerts])
    try:
        arrived = _await(healer, planned, before, started)
        waited = time.monotonic() - started
        held = _held_back(alertmanager, trials) if planned.open_after(arrived) else {}
    finally:
        ended = datetime.now(UTC).isoformat()
        _post(alertmanager, [{"labels": labels, "annotations": ANNOTATIONS, "endsAt": ended} for labels in alerts])
    return {each.receiver: judge(each, arrived.get(each.receiver), waited, held.get(each.receiver)) for each in trials}


def judge(test: TestAlert, seconds: float | None, waited: float, held: str | None) -> Evidence:
    """
    Say what a test proves; pure.

    `seconds`: after which it arrived, None if it did not within `waited`; `held`: what Alertmanager holds it back by.
    """
    if seconds is not None:
        return Evidence(delivered=True, text=f"this healer: a test alert came through it within {seconds:.1f} s")
    if held is not None:
        return Evidence(None, f"Alertmanager holds the test alert back ({held})")
    if test.due is None or waited < test.due:
        return Evidence(None, f"a test alert had not come through it after {waited:.0f} s, and may wait in its group")
    return Evidence(delivered=False, text=f"a test alert did not come through it within {waited:.0f} s")


def _await(healer: Client, planned: TestPlan, before: Mapping[str, float], started: float) -> dict[str, float]:
    """Return after how many seconds each arrived, as soon as no more has to be known."""
    arrived: dict[str, float] = {}
    while left := planned.open_after(arrived):
        if time.monotonic() - started >= max(LONGEST_WAIT if each.due is None else each.due for each in left):
            break
        time.sleep(PACE)
        try:
            now = read_metrics(healer).by_label(LAST_TEST, "receiver")
        except NoAnswerError:
            continue
        for trial in planned.tests:
            if now.get(trial.receiver) != before.get(trial.receiver):
                arrived.setdefault(trial.receiver, time.monotonic() - started)
    return arrived


def _held_back(alertmanager: Client, tests: Sequence[TestAlert]) -> dict[str, str]:
    """Return by what Alertmanager holds the alert of a receiver back: silences, other alerts, times."""
    mark = tests[0].labels[TEST_LABEL]
    held: dict[str, str] = {}
    for alert in alertmanager.get_json("/api/v2/alerts", filter=f'{TEST_LABEL}="{mark}"'):
        by = [f"{key} {', '.join(map(str, alert['status'][key]))}" for key in _HOLDERS if alert["status"].get(key)]
        for test in tests if by else ():
            if test.labels == alert["labels"]:
                held[test.receiver] = "; ".join(by)
    return held


_HOLDERS = ("silencedBy", "inhibitedBy", "mutedBy")


def _post(alertmanager: Client, alerts: list[dict[str, Any]]) -> None:
    answer = alertmanager.post_as_user("/api/v2/alerts", json.dumps(alerts))
    if answer.status != 200:
        raise NoAnswerError(f"/api/v2/alerts: expected status 200, found {answer.status}: {answer.text.strip()[:200]}")
