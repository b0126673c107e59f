"""Alertmanager: sends what is for the healer to this healer, soon enough, and nobody has silenced it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import yaml

from exporter.config import Config
from healer.alerts import HEAL_ACTION, HEAL_LABEL
from healer.doctor.client import Client, NoAnswerError
from healer.doctor.finding import Finding, Status
from healer.doctor.receiver import LONGEST_SILENCE, Metrics, OtherProgramError, read_metrics
from healer.doctor.routing import EACH_BY_ITSELF, Matcher, Route, RoutingError, matching, parse_route
from healer.doctor.shipped import alerts_for_healer

LONGEST_WAIT = 30.0
LONGEST_INTERVAL = 60.0
LONGEST_REPEAT = 3600.0
"""Seconds that a route of the healer should not exceed; the shipped one has 0, 30 and 300."""

TELLS_APART = {"alertname", "cluster", "node", "slot_name"}
"""Labels by which a route has to group, so that alerts about two slots are not one group."""

HIDDEN = "<secret>"
_SLOT_LABELS = frozenset({"slot_name", "database", "job", "instance"})
"""Labels of which only the real alert knows the value."""

_SEE = "See alerts/alertmanager.yml."
_ROUTE = (
    "Add a receiver with webhook_configs: [url: http://HEALER:9878/alerts] and, before other routes, a route with"
    f""" matchers: ['{HEAL_LABEL}="{HEAL_ACTION}"'], group_by: ["..."], group_wait: 0s, continue: true. {_SEE}"""
)

Webhook = Mapping[str, Any]


def examine(
    client: Client, config: Config, labels: Mapping[str, str], healer: Client, metrics: Metrics | None
) -> list[Finding]:
    """
    Examine one Alertmanager.

    `labels` are what Prometheus adds to its alerts; `metrics` those of the healer at `healer`, None when it is away.
    """
    shown = client.shown
    try:
        status = client.get_json("/api/v2/status")
        version, state = status["versionInfo"]["version"], status["cluster"]["status"]
        findings = [Finding("alertmanager", shown, Status.OK, f"version {version}, cluster {state}")]
        data = yaml.safe_load(status["config"]["original"])
        silences = client.get_json("/api/v2/silences")
    except NoAnswerError as error:
        remedy = "Is --alertmanager.url (or healer.alertmanager_url) its address as seen from here?"
        return [Finding("alertmanager", shown, Status.FAILED, str(error), remedy)]
    except (KeyError, TypeError, yaml.YAMLError) as error:
        found = f"answers otherwise than Alertmanager's API promises: {type(error).__name__} {error}"
        return [Finding("alertmanager", shown, Status.FAILED, found, "Is the URL that of an Alertmanager?")]
    try:
        alerts = [{**labels, **alert} for alert in alerts_for_healer(config)]
        webhooks = {
            str(receiver["name"]): [each for each in receiver.get("webhook_configs") or () if _may_lead(each)]
            for receiver in data["receivers"]
        }
        taken = [(alert, matching(parse_route(data["route"]), alert)) for alert in alerts]
        findings += judge_routes(taken, webhooks)
        used = {route.receiver for _, routes in taken for route in routes if webhooks[route.receiver]}
        for receiver in sorted(used):
            findings += judge_webhooks(receiver, webhooks[receiver], token=config.healer.webhook_token_file is not None)
            findings.append(_judge_address(receiver, webhooks[receiver], healer, metrics))
        findings += judge_silences(shown, silences, alerts)
    except RoutingError as error:
        findings.append(Finding("route", shown, Status.SKIPPED, f"cannot be evaluated here: {error}"))
    except (KeyError, TypeError, AttributeError) as error:
        found = f"cannot be evaluated here: {type(error).__name__} {error}"
        findings.append(Finding("route", shown, Status.SKIPPED, found))
    return findings


def _may_lead(webhook: Webhook) -> bool:
    """Return whether it could be the healer's; newer Alertmanagers hide webhooks' URLs."""
    url = str(webhook.get("url", HIDDEN))
    return url == HIDDEN or urlsplit(url).path.endswith("/alerts")


def judge_routes(
    taken: Sequence[tuple[Mapping[str, str], Sequence[Route]]], webhooks: Mapping[str, Sequence[Webhook]]
) -> Iterator[Finding]:
    """Say for each alert's name whether the healer hears of it, and then how soon."""
    leading: dict[Route, None] = {}
    beating: dict[Route, None] = {}
    for name in dict.fromkeys(alert["alertname"] for alert, _ in taken):
        lost, receivers = [], set()
        for alert, routes in taken:
            if alert["alertname"] != name:
                continue
            to_healer = [route for route in routes if webhooks[route.receiver]]
            (leading if HEAL_LABEL in alert else beating).update(dict.fromkeys(to_healer))
            receivers |= {route.receiver for route in to_healer}
            if not to_healer:
                others = ", ".join(dict.fromkeys(route.receiver for route in routes))
                place = "/".join(filter(None, (alert.get("cluster"), alert.get("node"))))
                lost.append(f"{place} only to {others}" if place else f"only to {others}")
        if lost:
            found = f"does not reach a webhook that ends in /alerts: {'; '.join(lost)}"
            yield Finding("route", name, Status.FAILED, found, _ROUTE)
        else:
            yield Finding("route", name, Status.OK, f"to receiver {', '.join(sorted(receivers))}")
    for route in leading:
        for found, remedy in slow(route):
            yield Finding("pace", f"route to {route.receiver}", Status.WARNING, found, f"{remedy} {_SEE}")
    for route in beating:
        if max(route.repeat_interval, route.group_interval) >= LONGEST_SILENCE:
            found = f"the heartbeat comes every {route.repeat_interval:.0f} s: too seldom for PgSlotHealerDown"
            yield Finding("pace", f"route to {route.receiver}", Status.WARNING, found, f"repeat_interval: 5m. {_SEE}")


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


def judge_webhooks(receiver: str, webhooks: Sequence[Webhook], *, token: bool) -> Iterator[Finding]:
    """Say what is wrong with how a receiver sends; `token`: the healer wants one."""
    subject = f"receiver {receiver}"
    for webhook in webhooks:
        http = webhook.get("http_config") or {}
        if token and not (http.get("authorization") or http.get("basic_auth") or http.get("oauth2")):
            remedy = f"Set http_config.authorization.credentials_file to a copy of webhook_token_file. {_SEE}"
            yield Finding("webhook", subject, Status.FAILED, "sends no token: each webhook is refused", remedy)
        if not webhook.get("send_resolved", True):
            remedy = "Set send_resolved: true."
            found = "send_resolved: false: the healer does not hear that an alert has ended"
            yield Finding("webhook", subject, Status.WARNING, found, remedy)
        if webhook.get("max_alerts"):
            found = f"max_alerts {webhook['max_alerts']}: alerts beyond that are cut off, firing ones among them"
            yield Finding("webhook", subject, Status.WARNING, found, "Take max_alerts away.")


def _judge_address(receiver: str, webhooks: Sequence[Webhook], healer: Client, metrics: Metrics | None) -> Finding:
    """Does one of the webhooks lead to the healer that was examined?"""
    subject = f"receiver {receiver}"
    if metrics is None:
        return Finding("leads to", subject, Status.SKIPPED, f"there is no healer at {healer.shown} to compare with")
    others: list[str] = []
    unknown: list[str] = []
    for webhook in webhooks:
        url = str(webhook.get("url", HIDDEN))
        if url == HIDDEN:
            unknown.append("Alertmanager hides the URL: see arrivals")
            continue
        there = Client(urlsplit(url)._replace(path=urlsplit(url).path.removesuffix("/alerts"), query="").geturl())
        if there.shown == healer.shown:
            return Finding("leads to", subject, Status.OK, f"{there.shown}/alerts, this healer")
        try:
            process = read_metrics(there).process
        except OtherProgramError:
            others.append(f"{there.shown} (no healer)")
            continue
        except NoAnswerError as error:
            unknown.append(f"{there.shown} cannot be asked from here ({error}): see arrivals")
            continue
        if process is not None and process == metrics.process:
            return Finding("leads to", subject, Status.OK, f"{there.shown}/alerts, this healer by another name")
        others.append(there.shown)
    if unknown:
        return Finding("leads to", subject, Status.SKIPPED, "; ".join(unknown))
    remedy = "Put the URL right, or examine that healer: --healer.url."
    found = f"leads elsewhere than to {healer.shown}: {', '.join(others)}"
    return Finding("leads to", subject, Status.FAILED, found, remedy)


def judge_silences(shown: str, silences: Any, alerts: Sequence[Mapping[str, str]]) -> Iterator[Finding]:
    """Name the silences that keep alerts from the healer, those that begin later among them."""
    found = False
    for silence in silences:
        if silence["status"]["state"] == "expired":
            continue
        names = dict.fromkeys(alert["alertname"] for alert in alerts if _covers(silence["matchers"], alert))
        if names:
            found = True
            when = f"{silence['status']['state']} until {silence['endsAt']}"
            text = f"{', '.join(names)}: {when}, by {silence['createdBy']}: {silence['comment']}"
            remedy = "Meanwhile the healer leaves alone what it covers. To end it: amtool silence expire ID."
            yield Finding("silence", str(silence["id"]), Status.WARNING, text, remedy)
    if not found:
        yield Finding("silence", shown, Status.OK, "none covers an alert for the healer")


def _covers(matchers: Any, alert: Mapping[str, str]) -> bool:
    """Return whether the silence covers such alerts, be it for one slot only."""
    return all(_silence_matcher(each).accepts(alert) for each in matchers if each["name"] not in _SLOT_LABELS)


def _silence_matcher(data: Any) -> Matcher:
    operator = ("=~" if data["isRegex"] else "=") if data.get("isEqual", True) else "!~" if data["isRegex"] else "!="
    return Matcher(data["name"], operator, data["value"])
