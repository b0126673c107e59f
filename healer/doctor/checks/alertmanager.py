"""
Alertmanager: routes the alerts for the healer to this healer, soon enough, and nobody has silenced them.

The routing itself is in `routing.py`, what a receiver leads to in `receivers.py`, `--test-alert` in
`alert_delivery.py`, silences in `silences.py`.
"""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import yaml

from healer.doctor.checks.alert_delivery import (
    TestPlan,
    new_mark,
    plan_tests,
    run_tests,
    supports_test_alerts,
)
from healer.doctor.checks.healer import MAX_WEBHOOK_AGE, HealerSamples
from healer.doctor.checks.inhibition import judge_inhibitions
from healer.doctor.checks.notifications import judge_notifications
from healer.doctor.checks.people import alerts_for_people, always_firing, judge_people
from healer.doctor.checks.receivers import (
    GET_PROOF,
    SEE_EXAMPLE,
    Destination,
    Evidence,
    Receiver,
    check_destination,
    evidence_from_webhooks,
    judge_webhooks,
    parse_receivers,
)
from healer.doctor.checks.route_advice import RoutedAlerts, route_advice
from healer.doctor.checks.routing import GROUP_BY_ALL, Route, RoutingError, matching_routes, parse_route
from healer.doctor.checks.shipped_rules import alerts_for_healer
from healer.doctor.checks.silences import check_silences
from healer.doctor.http import Client, describe
from healer.doctor.result import CheckStatus, Finding
from healer.webhook.alertmanager_api import AlertmanagerClient
from healer.webhook.payload import HEAL_LABEL
from pgslot.config.model import Config
from pgslot.httpclient import HttpError

MAX_GROUP_WAIT = 30.0
MAX_GROUP_INTERVAL = 60.0
MAX_REPEAT_INTERVAL = 3600.0
"""Seconds that a route to the healer should not exceed; the shipped one has 0, 30 and 300."""

GROUPING_LABELS = {"alertname", "cluster", "node", "slot_name"}
"""Labels that a route has to group by, so that alerts about two slots are in two groups."""

_LOADED = "alertmanager_config_last_reload_success_timestamp_seconds"


async def check_alertmanager(
    client: Client,
    config: Config,
    external_labels: Mapping[str, str],
    healer: Client,
    metrics: HealerSamples | None,
    *,
    test_alert: bool = False,
    connect: Callable[[str], Client] = Client,
) -> list[Finding]:
    """
    Check one Alertmanager.

    `external_labels`: what Prometheus adds to its alerts. `metrics`: those of `healer`, None when it is away.
    `test_alert`: send a marked alert along each route, and see whether it arrives. `connect`: makes the client for a
    webhook's base URL.
    """
    shown = client.shown
    alertmanager = AlertmanagerClient(client)
    try:
        status = await alertmanager.status()
        version, state = status["versionInfo"]["version"], status["cluster"]["status"]
        findings = [Finding("alertmanager", shown, CheckStatus.OK, f"version {version}, cluster {state}")]
        data = yaml.safe_load(status["config"]["original"])
    except HttpError as error:
        advice = "Check that --alertmanager.url (or healer.alertmanager_url) is its address as seen from here."
        return [Finding("alertmanager", shown, CheckStatus.FAILED, describe(error), advice)]
    except (KeyError, TypeError, yaml.YAMLError) as error:
        found = f"its answer does not match Alertmanager's API: {type(error).__name__} {error}"
        advice = "Check that the URL belongs to an Alertmanager."
        return [Finding("alertmanager", shown, CheckStatus.FAILED, found, advice)]
    try:
        alerts = [{**external_labels, **alert} for alert in alerts_for_healer(config)]
        root = parse_route(data["route"])
        own_metrics = await fetch_own_metrics(alertmanager)
        loaded_at = config_loaded_at(own_metrics)
        names = [str(receiver["name"]) for receiver in data["receivers"]]
        evidence = {name: evidence_from_webhooks(name, metrics, loaded_at, time.time()) for name in names}
        if test_alert:
            peers = len(status["cluster"].get("peers") or ())
            plan = plan_tests(root, alerts, parse_receivers(data, evidence), new_mark(), peers)
            evidence_from_tests, test_findings = await _test(alertmanager, shown, healer, metrics, plan)
            evidence |= evidence_from_tests
            findings += test_findings
        receivers = parse_receivers(data, evidence)
        routed = [(alert, matching_routes(root, alert)) for alert in alerts]
        findings += [*judge_routes(routed, receivers), *judge_timing(routed, receivers)]
        people = [{**external_labels, **alert} for alert in alerts_for_people(config)]
        findings += await _check_people(alertmanager, shown, data, people, receivers)
        to_healer = healer_receivers(routed, receivers)
        findings += judge_notifications(shown, own_metrics, metrics, [receivers[name] for name in to_healer])
        for name in to_healer:
            if receivers[name].destination is Destination.HEALER:
                token = config.healer.webhook_token_file is not None
                findings += judge_webhooks(receivers[name], token=token)
            findings.append(await check_destination(receivers[name], healer, metrics, connect))
        findings += judge_inhibitions(data, alerts, shown)
        findings += await check_silences(alertmanager, shown, alerts)
    except RoutingError as error:
        findings.append(Finding("route", shown, CheckStatus.SKIPPED, f"cannot be evaluated here: {error}"))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        found = f"cannot be evaluated here: {type(error).__name__} {error}"
        findings.append(Finding("route", shown, CheckStatus.SKIPPED, found))
    return findings


async def _check_people(
    alertmanager: AlertmanagerClient,
    shown: str,
    data: Any,
    alerts: Sequence[Mapping[str, str]],
    receivers: Mapping[str, Receiver],
) -> list[Finding]:
    """Report alerts that no person hears of. Raises what `judge_people` and `always_firing` raise."""
    now = datetime.now(UTC)
    try:
        sources = always_firing(await alertmanager.alerts(), now)
    except HttpError as error:
        return [Finding("people", shown, CheckStatus.UNKNOWN, describe(error), "See Alertmanager's log.")]
    return list(judge_people(data, parse_route(data["route"]), alerts, receivers, sources=sources, now=now))


async def fetch_own_metrics(alertmanager: AlertmanagerClient) -> str:
    """Return Alertmanager's metrics; empty when it does not answer."""
    try:
        return await alertmanager.metrics()
    except HttpError:
        return ""


def config_loaded_at(metrics: str) -> float | None:
    """Return the Unix time at which Alertmanager loaded its configuration; None when it does not say."""
    sample = re.search(rf"^{_LOADED} (\S+)$", metrics, re.MULTILINE)
    try:
        return float(sample[1]) if sample is not None else None
    except ValueError:
        return None


async def _test(
    alertmanager: AlertmanagerClient, shown: str, healer: Client, metrics: HealerSamples | None, plan: TestPlan
) -> tuple[dict[str, Evidence], list[Finding]]:
    """Return the evidence of the test alerts by receiver, and a finding if they could not be sent."""
    why = None
    if metrics is None:
        why = "there is no healer to receive it"
    elif not supports_test_alerts(metrics):
        why = "this healer is older, and would treat it as a real alert"
    elif not plan.tests:
        why = "no route leads to a webhook"
    if why is not None:
        return {}, [Finding("test alert", shown, CheckStatus.SKIPPED, f"not sent: {why}")]
    try:
        return await run_tests(alertmanager, healer, plan), []
    except HttpError as error:
        return {}, [Finding("test alert", shown, CheckStatus.FAILED, describe(error), "See Alertmanager's log.")]


def healer_receivers(routed: RoutedAlerts, receivers: Mapping[str, Receiver]) -> list[str]:
    """
    Return the receivers that send alerts to the healer, and those that may, for an alert that no other one sends.

    A receiver that may be somebody else's is left out where another one of the alert leads to the healer.
    """
    names = set()
    for _, routes in routed:
        destinations = {route.receiver: receivers[route.receiver].destination for route in routes}
        best = Destination.HEALER if Destination.HEALER in destinations.values() else Destination.UNKNOWN
        names |= {name for name, destination in destinations.items() if destination is best}
    return sorted(names)


def judge_routes(routed: RoutedAlerts, receivers: Mapping[str, Receiver]) -> Iterator[Finding]:
    """Report for each alert name whether the healer receives it."""
    for name in dict.fromkeys(alert["alertname"] for alert, _ in routed):
        lost: list[str] = []
        unknown: list[str] = []
        reached: set[str] = set()
        refusing: dict[str, None] = {}
        for alert, routes in routed:
            if alert["alertname"] != name:
                continue
            reachable = [receivers[receiver] for receiver in dict.fromkeys(route.receiver for route in routes)]
            destinations = {receiver.destination for receiver in reachable}
            if Destination.HEALER in destinations:
                reached |= {receiver.name for receiver in reachable if receiver.destination is Destination.HEALER}
                continue
            refusing |= {receiver.name: None for receiver in reachable if receiver.evidence.refused}
            node = "/".join(filter(None, (alert.get("cluster"), alert.get("node"))))
            only = f"it goes only to {', '.join(map(_name_and_disproof, reachable))}"
            (unknown if Destination.UNKNOWN in destinations else lost).append(f"for {node}, {only}" if node else only)
        if lost:
            found = f"does not reach a webhook whose URL ends in /alerts; {'; '.join(lost)}"
            if refusing:
                found = f"arrives, but this healer refuses it with 401: receiver {', '.join(refusing)}"
            yield Finding("route", name, CheckStatus.FAILED, found, route_advice(name, routed, receivers))
        if unknown:
            found = f"Alertmanager hides the URL, and nothing proves that it leads to this healer; {'; '.join(unknown)}"
            yield Finding("route", name, CheckStatus.UNKNOWN, found, GET_PROOF)
        if not lost and not unknown:
            yield Finding("route", name, CheckStatus.OK, f"to receiver {', '.join(sorted(reached))}")


def _name_and_disproof(receiver: Receiver) -> str:
    return f"{receiver.name} ({receiver.evidence.text})" if receiver.evidence.delivered is False else receiver.name


def judge_timing(routed: RoutedAlerts, receivers: Mapping[str, Receiver]) -> Iterator[Finding]:
    """Report which routes to the healer are too slow, or too rare for the heartbeat."""
    healing: dict[Route, None] = {}
    heartbeat: dict[Route, None] = {}
    for alert, routes in routed:
        to_healer = [route for route in routes if receivers[route.receiver].destination is Destination.HEALER]
        (healing if HEAL_LABEL in alert else heartbeat).update(dict.fromkeys(to_healer))
    for route in healing:
        for found, advice in delays(route):
            yield Finding("pace", f"route to {route.receiver}", CheckStatus.WARNING, found, f"{advice} {SEE_EXAMPLE}")
    for route in heartbeat:
        if max(route.repeat_interval, route.group_interval) >= MAX_WEBHOOK_AGE:
            found = f"the heartbeat comes every {route.repeat_interval:.0f} s: too rarely for PgSlotHealerDown"
            advice = f"repeat_interval: 5m. {SEE_EXAMPLE}"
            yield Finding("pace", f"route to {route.receiver}", CheckStatus.WARNING, found, advice)


def delays(route: Route) -> Iterator[tuple[str, str]]:
    """Return what makes a route reach the healer late, with advice."""
    if route.group_by != GROUP_BY_ALL and not set(route.group_by) >= GROUPING_LABELS:
        grouped = ", ".join(route.group_by) or "nothing"
        found = f"group_by {grouped}: the next alert of a group waits up to {route.group_interval:.0f} s"
        yield found, 'Set group_by: ["..."].'
    if route.group_wait > MAX_GROUP_WAIT:
        yield (
            f"group_wait {route.group_wait:.0f} s: the healer receives every alert that much later",
            "Set group_wait: 0s.",
        )
    if route.group_interval > MAX_GROUP_INTERVAL:
        found = f"group_interval {route.group_interval:.0f} s: the healer learns of an alert's end that much later"
        yield found, "Set group_interval: 5s."
    if route.repeat_interval > MAX_REPEAT_INTERVAL:
        seconds = f"{route.repeat_interval:.0f} s"
        found = f"repeat_interval {seconds}: a healer that gave up waits that long for the next webhook"
        yield found, "Set repeat_interval: 5m."
    if route.time_intervals:
        yield f"nothing is sent at some times: {', '.join(route.time_intervals)}", "Remove the time intervals."
