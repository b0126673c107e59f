"""Alertmanager: sends what is for the healer to this healer, soon enough, and nobody has silenced it."""

import re
import time
from collections.abc import Iterator, Mapping, Sequence

import yaml

from healer.doctor.checks.healer import MAX_WEBHOOK_AGE, HealerSamples
from healer.doctor.checks.receivers import Destination, Evidence, Receiver, receivers_of, remembered
from healer.doctor.checks.routing import EACH_BY_ITSELF, Route, RoutingError, matching, parse_route
from healer.doctor.checks.shipped_rules import alerts_for_healer
from healer.doctor.checks.silences import judge_silences
from healer.doctor.checks.test_alert import TestPlan, new_mark, plan, send, understood
from healer.doctor.checks.webhooks import PROOF, SEE, judge_address, judge_webhooks
from healer.doctor.http import Client, NoAnswerError
from healer.doctor.result import CheckStatus, Finding
from healer.remedies.registry import REMEDIES
from healer.webhook.body import HEAL_LABEL
from pgslot.config.model import Config

LONGEST_WAIT = 30.0
LONGEST_INTERVAL = 60.0
LONGEST_REPEAT = 3600.0
"""Seconds that a route of the healer should not exceed; the shipped one has 0, 30 and 300."""

TELLS_APART = {"alertname", "cluster", "node", "slot_name"}
"""Labels by which a route has to group, so that alerts about two slots are not one group."""

_LOADED = "alertmanager_config_last_reload_success_timestamp_seconds"

_ROUTE = (
    "Add a receiver with webhook_configs: [url: http://HEALER:9878/alerts] and, before other routes, a route with"
    f""" matchers: ['{HEAL_LABEL}=~"{"|".join(REMEDIES)}"'], group_by: ["..."], group_wait: 0s, continue: true. {SEE}"""
)


def check_alertmanager(
    client: Client,
    config: Config,
    labels: Mapping[str, str],
    healer: Client,
    metrics: HealerSamples | None,
    *,
    test_alert: bool = False,
) -> list[Finding]:
    """
    Examine one Alertmanager.

    `labels` are what Prometheus adds to its alerts; `metrics` those of the healer at `healer`, None when it is away;
    `test_alert`: send a marked alert along each route, and see whether it arrives.
    """
    shown = client.shown
    try:
        status = client.get_json("/api/v2/status")
        version, state = status["versionInfo"]["version"], status["cluster"]["status"]
        findings = [Finding("alertmanager", shown, CheckStatus.OK, f"version {version}, cluster {state}")]
        data = yaml.safe_load(status["config"]["original"])
    except NoAnswerError as error:
        remedy = "Is --alertmanager.url (or healer.alertmanager_url) its address as seen from here?"
        return [Finding("alertmanager", shown, CheckStatus.FAILED, str(error), remedy)]
    except (KeyError, TypeError, yaml.YAMLError) as error:
        found = f"answers otherwise than Alertmanager's API promises: {type(error).__name__} {error}"
        return [Finding("alertmanager", shown, CheckStatus.FAILED, found, "Is the URL that of an Alertmanager?")]
    try:
        alerts = [{**labels, **alert} for alert in alerts_for_healer(config)]
        root = parse_route(data["route"])
        loaded_at = _loaded_at(client)
        names = [str(receiver["name"]) for receiver in data["receivers"]]
        evidence = {name: remembered(name, metrics, loaded_at, time.time()) for name in names}
        if test_alert:
            peers = len(status["cluster"].get("peers") or ())
            planned = plan(root, alerts, receivers_of(data, evidence), new_mark(), peers)
            tested, finding = _test(client, healer, metrics, planned)
            evidence |= tested
            findings += finding
        receivers = receivers_of(data, evidence)
        taken = [(alert, matching(root, alert)) for alert in alerts]
        findings += [*judge_routes(taken, receivers), *judge_paces(taken, receivers)]
        for name in used(taken, receivers):
            if receivers[name].destination is Destination.HEALER:
                token = config.healer.webhook_token_file is not None
                findings += judge_webhooks(receivers[name], token=token)
            findings.append(judge_address(receivers[name], healer, metrics))
        findings += judge_silences(client, alerts)
    except RoutingError as error:
        findings.append(Finding("route", shown, CheckStatus.SKIPPED, f"cannot be evaluated here: {error}"))
    except (KeyError, TypeError, AttributeError) as error:
        found = f"cannot be evaluated here: {type(error).__name__} {error}"
        findings.append(Finding("route", shown, CheckStatus.SKIPPED, found))
    return findings


def _loaded_at(client: Client) -> float | None:
    """Return the Unix time at which this Alertmanager took its configuration into use; None when it does not say."""
    try:
        answer = client.get("/metrics")
    except NoAnswerError:
        return None
    found = re.search(rf"^{_LOADED} (\S+)$", answer.text, re.MULTILINE)
    try:
        return float(found[1]) if answer.status == 200 and found is not None else None
    except ValueError:
        return None


def _test(
    client: Client, healer: Client, metrics: HealerSamples | None, planned: TestPlan
) -> tuple[dict[str, Evidence], list[Finding]]:
    """Return what the test alerts prove, and why they could not be sent."""
    why = None
    if metrics is None:
        why = "there is no healer that could hear it"
    elif not understood(metrics):
        why = "this healer is older, and would take it for a real one"
    elif not planned.tests:
        why = "no route leads to a webhook"
    if why is not None:
        return {}, [Finding("test alert", client.shown, CheckStatus.SKIPPED, f"not sent: {why}")]
    try:
        return send(client, healer, planned), []
    except NoAnswerError as error:
        return {}, [Finding("test alert", client.shown, CheckStatus.FAILED, str(error), "See Alertmanager's log.")]


Taken = Sequence[tuple[Mapping[str, str], Sequence[Route]]]
"""Each alert for the healer, and the routes that send it."""


def used(taken: Taken, receivers: Mapping[str, Receiver]) -> list[str]:
    """
    Return the receivers by which the healer is told, and where an alert has none, those by which it may be.

    Of one that may be somebody else's nothing is said where another leads to the healer.
    """
    found = set()
    for _, routes in taken:
        leads = {route.receiver: receivers[route.receiver].destination for route in routes}
        best = Destination.HEALER if Destination.HEALER in leads.values() else Destination.UNKNOWN
        found |= {name for name, lead in leads.items() if lead is best}
    return sorted(found)


def judge_routes(taken: Taken, receivers: Mapping[str, Receiver]) -> Iterator[Finding]:
    """Say for each alert's name whether the healer hears of it."""
    for name in dict.fromkeys(alert["alertname"] for alert, _ in taken):
        lost: list[str] = []
        unknown: list[str] = []
        reached: set[str] = set()
        for alert, routes in taken:
            if alert["alertname"] != name:
                continue
            there = [receivers[each] for each in dict.fromkeys(route.receiver for route in routes)]
            leads = {receiver.destination for receiver in there}
            if Destination.HEALER in leads:
                reached |= {receiver.name for receiver in there if receiver.destination is Destination.HEALER}
                continue
            place = "/".join(filter(None, (alert.get("cluster"), alert.get("node"))))
            only = f"only to {', '.join(map(_told, there))}"
            (unknown if Destination.UNKNOWN in leads else lost).append(f"{place} {only}" if place else only)
        if lost:
            found = f"does not reach a webhook that ends in /alerts: {'; '.join(lost)}"
            yield Finding("route", name, CheckStatus.FAILED, found, _ROUTE)
        if unknown:
            found = f"Alertmanager hides where that leads, and there is no proof: {'; '.join(unknown)}"
            yield Finding("route", name, CheckStatus.UNKNOWN, found, PROOF)
        if not lost and not unknown:
            yield Finding("route", name, CheckStatus.OK, f"to receiver {', '.join(sorted(reached))}")


def judge_paces(taken: Taken, receivers: Mapping[str, Receiver]) -> Iterator[Finding]:
    """Say how soon the healer hears of it, by the routes that lead to it."""
    leading: dict[Route, None] = {}
    beating: dict[Route, None] = {}
    for alert, routes in taken:
        to_healer = [route for route in routes if receivers[route.receiver].destination is Destination.HEALER]
        (leading if HEAL_LABEL in alert else beating).update(dict.fromkeys(to_healer))
    for route in leading:
        for found, remedy in slow(route):
            yield Finding("pace", f"route to {route.receiver}", CheckStatus.WARNING, found, f"{remedy} {SEE}")
    for route in beating:
        if max(route.repeat_interval, route.group_interval) >= MAX_WEBHOOK_AGE:
            found = f"the heartbeat comes every {route.repeat_interval:.0f} s: too seldom for PgSlotHealerDown"
            yield Finding(
                "pace", f"route to {route.receiver}", CheckStatus.WARNING, found, f"repeat_interval: 5m. {SEE}"
            )


def _told(receiver: Receiver) -> str:
    """Return its name, and what refutes that it is the healer's, where something does."""
    return f"{receiver.name} ({receiver.evidence.text})" if receiver.evidence.delivered is False else receiver.name


def slow(route: Route) -> Iterator[tuple[str, str]]:
    """Return what makes the healer hear late, and what to do about it."""
    swallows = route.group_by != EACH_BY_ITSELF and not set(route.group_by) >= TELLS_APART
    if swallows:
        grouped = ", ".join(route.group_by) or "nothing"
        found = f"group_by {grouped}: a further alert of a group waits for up to {route.group_interval:.0f} s"
        yield found, 'Set group_by: ["..."].'
    if route.group_wait > LONGEST_WAIT:
        yield (
            f"group_wait {route.group_wait:.0f} s: so long the healer does not hear of an alert",
            "Set group_wait: 0s.",
        )
    if route.group_interval > LONGEST_INTERVAL:
        found = f"group_interval {route.group_interval:.0f} s: so long the healer does not hear that an alert has ended"
        yield found, "Set group_interval: 30s."
    if route.repeat_interval > LONGEST_REPEAT:
        found = f"repeat_interval {route.repeat_interval:.0f} s: so long a healer that gave up is not told again"
        yield found, "Set repeat_interval: 5m."
    if route.time_intervals:
        yield f"nothing is sent at some times: {', '.join(route.time_intervals)}", "Take the time intervals away."
