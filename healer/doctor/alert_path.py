"""
The way of a slot's alerts from Prometheus over Alertmanager to the healer, for `pg-slot-healer why`.

I/O first (`follow`), then pure functions of what the three programs answered (`explain_path`).
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

from healer.doctor.checks.alertmanager import config_loaded_at, fetch_own_metrics
from healer.doctor.checks.healer import HealerSamples, fetch_metrics
from healer.doctor.checks.prometheus import fetch_external_labels
from healer.doctor.checks.receivers import Destination, Receiver, evidence_from_webhooks, parse_receivers
from healer.doctor.checks.routing import Route, RoutingError, matching_routes, parse_route
from healer.doctor.http import Client, describe
from healer.remedies.registry import REMEDIES
from healer.webhook.alertmanager_api import AlertmanagerClient
from healer.webhook.payload import HEAL_LABEL
from healer.why import Sentence, Verdict, utc
from pgslot.httpclient import HttpError

WINDOW = "1d"
"""How far back Prometheus is asked."""
STEP_SECONDS = 5
"""How exact the times from Prometheus are. An alert that fired for less time may be missing."""
FIRES_SECONDS = 60.0
"""An alert whose rule was evaluated within this time, and fired, fires now."""
SKEW_SECONDS = 60.0
"""By which the clocks of Prometheus and the healer may differ."""
MAX_ALERTS = 50
"""That the answer names; it says when there are more."""
IDENTITY = ("alertname", "cluster", "node", "slot_name")
"""Labels that all three programs have of an alert of the shipped rules."""

_MUTES = (("silencedBy", "silenced"), ("inhibitedBy", "inhibited"), ("mutedBy", "muted"))


@dataclass(frozen=True, slots=True)
class FiredAlert:
    """An alert that fired within the window, or that Alertmanager lists."""

    labels: Mapping[str, str]
    first_at: float | None = None
    """Unix time at which Prometheus saw it first; None: Prometheus does not have it, or was not asked."""
    last_at: float | None = None
    listed: bool | None = None
    """Alertmanager has it now; None: Alertmanager was not asked."""
    muted: str = ""
    """What silences or inhibits it now, in words; empty: nothing."""
    destinations: Mapping[str, Destination] | None = None
    """Where its receivers lead, by name; None: not known."""

    @property
    def name(self) -> str:
        return self.labels.get("alertname", "an alert without a name")

    @property
    def identity(self) -> tuple[str, ...]:
        return tuple(self.labels.get(label, "") for label in IDENTITY)


@dataclass(frozen=True, slots=True)
class AlertPath:
    """What Prometheus and Alertmanager answered about one slot."""

    alerts: tuple[FiredAlert, ...] = ()
    prometheus: str | None = None
    """Why Prometheus gave no answer; empty: it did; None: it was not asked."""
    alertmanager: str | None = None
    """The same of Alertmanager."""
    routing_error: str = ""
    """Why it is not known where Alertmanager sends the alerts; empty: it is."""
    left_off: int = 0
    """Alerts beyond MAX_ALERTS."""


@dataclass(frozen=True, slots=True)
class Arrived:
    """An alert about the slot that reached the healer."""

    alertname: str
    node: str
    cluster: str
    last_at: float
    """Unix time."""


async def follow(
    slot: str, cluster: str | None, healer: Client, prometheus: Client | None, alertmanager: Client | None
) -> AlertPath:
    """Ask Prometheus and Alertmanager about the alerts of this slot; None: that one is not asked."""
    path = AlertPath()
    external_labels: dict[str, str] = {}
    if prometheus is not None:
        path = await _ask_prometheus(prometheus, slot, cluster, path)
        external_labels = await fetch_external_labels(prometheus)
    if alertmanager is not None:
        path = await _ask_alertmanager(AlertmanagerClient(alertmanager), slot, cluster, path)
        path = await _route(AlertmanagerClient(alertmanager), healer, external_labels, path)
    left_off = max(0, len(path.alerts) - MAX_ALERTS)
    return replace(path, alerts=path.alerts[:MAX_ALERTS], left_off=left_off)


async def _ask_prometheus(client: Client, slot: str, cluster: str | None, path: AlertPath) -> AlertPath:
    wanted = {"slot_name": slot} | ({} if cluster is None else {"cluster": cluster})
    # JSON's escapes are those of PromQL.
    matchers = ",".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in wanted.items())
    times = f'timestamp(ALERTS{{alertstate="firing",{matchers}}})[{WINDOW}:{STEP_SECONDS}s]'
    found: list[dict[str, float]] = []
    try:
        for function in ("min_over_time", "max_over_time"):
            data = await client.get_json("/api/v1/query", {"query": f"{function}({times})"})
            found.append({_key(series["metric"]): float(series["value"][1]) for series in data["data"]["result"]})
    except HttpError as error:
        return replace(path, prometheus=describe(error))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return replace(path, prometheus=f"its answer does not match Prometheus' API: {type(error).__name__} {error}")
    first, last = found
    alerts = [
        FiredAlert(json.loads(key), first[key], last.get(key, first[key]))
        for key in sorted(first, key=first.__getitem__)
    ]
    return replace(path, prometheus="", alerts=tuple(alerts))


def _key(metric: Any) -> str:
    """Return the labels of an alert's series as text. Raises AttributeError when it has none."""
    labels = {str(name): str(value) for name, value in metric.items() if name not in ("__name__", "alertstate")}
    return json.dumps(labels, sort_keys=True)


async def _ask_alertmanager(client: AlertmanagerClient, slot: str, cluster: str | None, path: AlertPath) -> AlertPath:
    try:
        items = await client.alerts(f"slot_name={json.dumps(slot, ensure_ascii=False)}")
        listed = [_listed(item) for item in items]
    except HttpError as error:
        return replace(path, alertmanager=describe(error))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        found = f"its answer does not match Alertmanager's API: {type(error).__name__} {error}"
        return replace(path, alertmanager=found)
    by_identity = {alert.identity: alert for alert in listed if cluster in (None, alert.labels.get("cluster"))}
    alerts = []
    for alert in path.alerts:
        known = by_identity.pop(alert.identity, None)
        alerts.append(replace(alert, listed=known is not None, muted=known.muted if known is not None else ""))
    return replace(path, alertmanager="", alerts=(*alerts, *by_identity.values()))


def _listed(item: Any) -> FiredAlert:
    """Raises KeyError, TypeError, ValueError or AttributeError when it is not what the API promises."""
    labels = {str(name): str(value) for name, value in item["labels"].items()}
    mutes = ((word, item["status"].get(key)) for key, word in _MUTES)
    muted = next((f"{word} (by {', '.join(map(str, by))[:200]})" for word, by in mutes if by), "")
    return FiredAlert(labels, listed=True, muted=muted)


async def _route(
    alertmanager: AlertmanagerClient, healer: Client, external_labels: Mapping[str, str], path: AlertPath
) -> AlertPath:
    """Fill in where Alertmanager's configuration sends each alert."""
    metrics: HealerSamples | None = None
    try:
        metrics = await fetch_metrics(healer)
    except HttpError:
        # Then nothing proves where a receiver with a hidden URL leads, which the destination says.
        metrics = None
    try:
        data = yaml.safe_load((await alertmanager.status())["config"]["original"])
        root = parse_route(data["route"])
        loaded_at = config_loaded_at(await fetch_own_metrics(alertmanager))
        names = [str(receiver["name"]) for receiver in data["receivers"]]
        evidence = {name: evidence_from_webhooks(name, metrics, loaded_at, time.time()) for name in names}
        receivers = parse_receivers(data, evidence)
        alerts = tuple(
            replace(alert, destinations=_destinations(root, receivers, {**external_labels, **alert.labels}))
            for alert in path.alerts
        )
    except HttpError as error:
        return replace(path, routing_error=describe(error))
    except (RoutingError, yaml.YAMLError, KeyError, TypeError, AttributeError, ValueError) as error:
        return replace(path, routing_error=f"its routes cannot be evaluated here: {error}")
    return replace(path, alerts=alerts)


def _destinations(root: Route, receivers: Mapping[str, Receiver], labels: Mapping[str, str]) -> dict[str, Destination]:
    return {route.receiver: receivers[route.receiver].destination for route in matching_routes(root, labels)}


def explain_path(
    path: AlertPath, arrived: Sequence[Arrived], known_since: float | None, now: float
) -> tuple[Verdict | None, list[Sentence]]:
    """
    Return a sentence for each alert that did not reach the healer, and for what is not known; and what that means.

    `arrived`: as the healer remembers them since `known_since`; None: the healer gave no answer. A verdict of None
    changes nothing about the healer's own.
    """
    sentences: list[Sentence] = []
    verdicts: list[Verdict] = []
    for alert in path.alerts:
        verdict, text = _explain(alert, arrived, known_since, now)
        sentences.append(Sentence(text, alert.first_at))
        if verdict is not None:
            verdicts.append(verdict)
    sentences += [Sentence(text) for text in _gaps(path)]
    if path.prometheus == "" and not any(map(_is_for_healer, path.alerts)):
        verdicts.append(Verdict.WELL)
    worst = next(
        (verdict for verdict in (Verdict.NOT_ACTED, Verdict.UNKNOWN, Verdict.WELL) if verdict in verdicts), None
    )
    return worst, sentences


def _gaps(path: AlertPath) -> Iterator[str]:
    if path.prometheus is None:
        yield "whether other alerts fired is not known: Prometheus was not asked (--prometheus.url)"
    elif path.prometheus:
        yield f"whether other alerts fired is not known: Prometheus gives no answer: {path.prometheus}"
    elif not path.alerts:
        yield "Prometheus: no alert about this slot has fired within the last day, as far as its data goes back"
    if path.alertmanager is None:
        yield "where Alertmanager sends the alerts is not known: it was not asked (--alertmanager.url)"
    elif path.alertmanager or path.routing_error:
        yield f"where Alertmanager sends the alerts is not known: {path.alertmanager or path.routing_error}"
    if path.left_off:
        yield f"and {path.left_off} more alerts"


def _explain(
    alert: FiredAlert, arrived: Sequence[Arrived], known_since: float | None, now: float
) -> tuple[Verdict | None, str]:
    """Return what became of one alert, and what that means; None: nothing for the verdict."""
    subject = f"{alert.name} about the slot{_where(alert)} {_when(alert, now)}"
    if not _is_for_healer(alert):
        return None, f"{subject}: it is for people, as it lacks the label heal"
    if _has_arrived(alert, arrived):
        return None, f"{subject}, and reached this healer"
    if alert.muted:
        return Verdict.NOT_ACTED, f"{subject}, but Alertmanager does not send it: it is {alert.muted}"
    if alert.listed is False and _fires(alert, now):
        elsewhere = "Prometheus sends its alerts to another Alertmanager, or cannot reach this one"
        return Verdict.NOT_ACTED, f"{subject}, but Alertmanager does not have it: {elsewhere}"
    maybe = ""
    if known_since is None:
        maybe = "; whether it arrived is not known, as the healer gives no answer"
    elif alert.first_at is not None and alert.first_at < known_since:
        maybe = f"; whether it arrived before {utc(known_since)} is not known"
    verdict = Verdict.UNKNOWN if maybe else Verdict.NOT_ACTED
    if alert.destinations is None:
        return verdict, f"{subject}, and did not reach this healer{maybe}"
    names = ", ".join(alert.destinations) or "nobody"
    if Destination.HEALER in alert.destinations.values():
        receiver = next(name for name, to in alert.destinations.items() if to is Destination.HEALER)
        routed = f"{subject}; it is routed to this healer (receiver {receiver}), and did not arrive"
        return verdict, f"{routed}: it waits for its group, or its webhooks fail, which doctor checks{maybe}"
    if Destination.UNKNOWN in alert.destinations.values():
        unproven = f"{subject}; nothing proves that it is routed to this healer: its receivers are {names}"
        return Verdict.UNKNOWN, f"{unproven}, and pg-slot-healer doctor --test-alert shows where they lead{maybe}"
    return Verdict.NOT_ACTED, f"{subject}; it is not routed here: Alertmanager sends it only to {names}"


def _is_for_healer(alert: FiredAlert) -> bool:
    return alert.labels.get(HEAL_LABEL, "") in REMEDIES


def _has_arrived(alert: FiredAlert, arrived: Sequence[Arrived]) -> bool:
    begin = -1.0 if alert.first_at is None else alert.first_at - SKEW_SECONDS
    _, cluster, node, _ = alert.identity
    return any(
        (one.alertname, one.node, one.cluster) == (alert.name, node, cluster) and one.last_at >= begin
        for one in arrived
    )


def _fires(alert: FiredAlert, now: float) -> bool:
    return alert.last_at is None or now - alert.last_at < FIRES_SECONDS


def _where(alert: FiredAlert) -> str:
    place = "/".join(filter(None, (alert.labels.get("cluster"), alert.labels.get("node"))))
    return f" on {place}" if place else ""


def _when(alert: FiredAlert, now: float) -> str:
    if alert.first_at is None:
        return "fires now"
    if alert.last_at is None or _fires(alert, now):
        return f"has fired since {utc(alert.first_at)}"
    return f"fired from {utc(alert.first_at)} until {utc(alert.last_at)}"
