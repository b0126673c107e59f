"""Whether a person hears of the alerts: a route to a receiver that sends something, not muted or inhibited for good."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from healer.doctor.checks.inhibition import Inhibition, parse_inhibitions
from healer.doctor.checks.receivers import SEE_EXAMPLE, Destination, Receiver
from healer.doctor.checks.routing import Route, matching_routes
from healer.doctor.checks.shipped_rules import ANY_SLOT, rules
from healer.doctor.result import CheckStatus, Finding
from pgslot.config.model import Config

MAX_NAMED = 5
"""Alerts that a finding names."""
ALWAYS_FIRING_SECONDS = 86400.0
"""An alert that has fired for so long inhibits for good."""

_ANY_TIME: Mapping[str, frozenset[str]] = {
    "weekdays": frozenset({"sunday:saturday", "monday:sunday"}),
    "days_of_month": frozenset({"1:31", "1:-1", "-31:-1"}),
    "months": frozenset({"1:12", "january:december"}),
}
"""Ranges of Alertmanager's time intervals that exclude nothing; any other may exclude something."""


def alerts_for_people(config: Config) -> Iterator[dict[str, str]]:
    """Return the labels of each alert that a person has to hear of, for one node of each cluster."""
    for rule in rules():
        labels = dict(rule.labels)
        if not rule.annotations or rule.heartbeat or "audience" in labels:
            continue
        for cluster in config.clusters:
            node = {"node": cluster.nodes[0].name} if cluster.nodes else {}
            yield {
                "alertname": rule.name,
                "cluster": cluster.name,
                **node,
                "slot_name": ANY_SLOT,
                "database": "postgres",
                **labels,
            }


def always_firing(alerts: Any, now: datetime) -> list[dict[str, str]]:
    """
    Return the labels of alerts that fire for good: the heartbeat, and alerts of others that have fired for a day.

    `alerts`: as Alertmanager lists them. Raises KeyError, TypeError, AttributeError or ValueError.
    """
    heartbeat = [{"alertname": rule.name, **dict(rule.labels)} for rule in rules() if rule.heartbeat]
    shipped = {rule.name for rule in rules()}
    for alert in alerts:
        started = alert.get("startsAt")
        # An incident of ours that lasts inhibits what it contains, as it should.
        ours = alert["labels"].get("alertname") in shipped
        if started and not ours and (now - datetime.fromisoformat(started)).total_seconds() >= ALWAYS_FIRING_SECONDS:
            heartbeat.append({str(name): str(value) for name, value in alert["labels"].items()})
    return heartbeat


def judge_people(
    data: Any,
    root: Route,
    alerts: Sequence[Mapping[str, str]],
    receivers: Mapping[str, Receiver],
    *,
    sources: Sequence[Mapping[str, str]],
    now: datetime,
) -> Iterator[Finding]:
    """
    Report alerts that no person hears of; pure.

    `data`: Alertmanager's configuration. `alerts`: labels of those for people. `sources`: labels of alerts that fire
    for good. Raises RoutingError, KeyError, TypeError or AttributeError.
    """
    sending = {str(receiver["name"]): _integrations(receiver) for receiver in data["receivers"]}
    never = _never_sending(data, now)
    inhibitions = parse_inhibitions(data)
    unheard: dict[tuple[str, str], dict[str, None]] = {}
    for alert in alerts:
        problem = _problem(matching_routes(root, alert), receivers, sending, never) or _inhibited(
            alert, inhibitions, sources
        )
        if problem is not None:
            unheard.setdefault(problem, {})[alert["alertname"]] = None
    for (found, advice), names in unheard.items():
        yield Finding("people", _first(list(names)), CheckStatus.WARNING, found, advice)
    if not unheard:
        heard = {
            route.receiver
            for alert in alerts
            for route in matching_routes(root, alert)
            if _tells_people(route, receivers, sending, never)
        }
        yield Finding("people", "all alerts", CheckStatus.OK, f"to receiver {', '.join(sorted(heard)) or 'none'}")


def _problem(
    routes: Sequence[Route],
    receivers: Mapping[str, Receiver],
    sending: Mapping[str, int],
    never: Mapping[str, frozenset[str]],
) -> tuple[str, str] | None:
    """Return why no person hears of an alert with these routes, and the advice; None: one does."""
    if any(_tells_people(route, receivers, sending, never) for route in routes):
        return None
    names = list(dict.fromkeys(route.receiver for route in routes))
    muted = [route.receiver for route in routes if _silent(route, never)]
    people = [name for name in names if not (receivers[name].destination is Destination.HEALER and sending[name])]
    if not people:
        return (
            f"no person is notified: it reaches only the healer (receiver {', '.join(names)})",
            f"Set continue: true on the route to receiver {names[-1]}, and add a route to people after it."
            f" {SEE_EXAMPLE}",
        )
    if muted and all(sending[name] for name in people):
        return (
            f"no person is notified: the route to {', '.join(muted)} is muted at all times",
            f"Remove the time interval from the route to receiver {muted[0]}, or correct it under time_intervals.",
        )
    empty = [name for name in people if not sending[name]]
    return (
        f"no person is notified: receiver {', '.join(empty)} has no integration, and sends nothing",
        f"Give receiver {empty[0]} an integration, such as email_configs, slack_configs or pagerduty_configs.",
    )


def _tells_people(
    route: Route, receivers: Mapping[str, Receiver], sending: Mapping[str, int], never: Mapping[str, frozenset[str]]
) -> bool:
    receiver = receivers[route.receiver]
    healers = len(receiver.candidates) if receiver.destination is Destination.HEALER else 0
    return sending[route.receiver] > healers and not _silent(route, never)


def _silent(route: Route, never: Mapping[str, frozenset[str]]) -> bool:
    return bool(
        set(route.mute_time_intervals) & never["mute"]
        or (route.active_time_intervals and set(route.active_time_intervals) <= never["active"])
    )


def _never_sending(data: Any, now: datetime) -> dict[str, frozenset[str]]:
    """Return the time intervals that include every time (for `mute`), and those that include none from now on."""
    always, over = set(), set()
    for interval in [*(data.get("time_intervals") or ()), *(data.get("mute_time_intervals") or ())]:
        parts = interval.get("time_intervals") or ()
        if any(_includes_every_time(part, now) for part in parts):
            always.add(str(interval["name"]))
        if all(_is_over(part, now) for part in parts):
            over.add(str(interval["name"]))
    return {"mute": frozenset(always), "active": frozenset(over)}


def _includes_every_time(part: Mapping[str, Any], now: datetime) -> bool:
    for key, ranges in part.items():
        if key == "times":
            if not any(times.get("start_time") == "00:00" and times.get("end_time") == "24:00" for times in ranges):
                return False
        elif key == "years":
            if not any(first <= now.year < last for first, last in map(_years, ranges)):
                return False
        elif key != "location" and not {str(text).lower() for text in ranges} & _ANY_TIME.get(key, frozenset()):
            return False
    return True


def _is_over(part: Mapping[str, Any], now: datetime) -> bool:
    return bool(part.get("years")) and all(last < now.year for _, last in map(_years, part["years"]))


def _years(text: Any) -> tuple[int, int]:
    first, _, last = str(text).partition(":")
    return int(first), int(last or first)


def _inhibited(
    alert: Mapping[str, str], inhibitions: Sequence[Inhibition], sources: Sequence[Mapping[str, str]]
) -> tuple[str, str] | None:
    """Return by which alert that fires for good this one is inhibited, and the advice; None: by none."""
    for inhibition in inhibitions:
        for source in sources:
            if inhibition.inhibits(source, alert):
                name = source.get("alertname", "")
                return (
                    f"no person is notified: it is inhibited by {name}, which always fires",
                    f"Narrow the inhibit_rules whose source matches {name}:"
                    " as targets, name only the alerts that it makes redundant.",
                )
    return None


def _integrations(receiver: Mapping[str, Any]) -> int:
    """Return how many ways a receiver has to send: entries of email_configs, slack_configs and the like."""
    return sum(len(value or ()) for key, value in receiver.items() if key.endswith("_configs"))


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{', '.join(names[:MAX_NAMED])}{more}"
