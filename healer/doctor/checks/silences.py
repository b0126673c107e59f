"""Silences that keep alerts from the healer."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from healer.doctor.checks.routing import Matcher
from healer.doctor.http import Client, NoAnswerError
from healer.doctor.result import CheckStatus, Finding

_SLOT_LABELS = frozenset({"slot_name", "database", "job", "instance"})
"""Labels of which only the real alert knows the value."""

_REMEDY = "Meanwhile the healer leaves alone what it covers. To end it: amtool silence expire ID."

Alerts = Sequence[Mapping[str, str]]


def judge_silences(client: Client, alerts: Alerts) -> Iterator[Finding]:
    """
    Name the silences that cover alerts for the healer, those that begin later among them.

    Raises KeyError, TypeError or AttributeError when an answer is not what the API promises.
    """
    try:
        silences = client.get_json("/api/v2/silences")
    except NoAnswerError as error:
        yield from _judge_by_alerts(client, alerts, str(error))
        return
    found = False
    for silence in silences:
        if silence["status"]["state"] == "expired":
            continue
        names = dict.fromkeys(alert["alertname"] for alert in alerts if _covers(silence["matchers"], alert))
        if names:
            found = True
            when = f"{silence['status']['state']} until {silence['endsAt']}"
            text = f"{', '.join(names)}: {when}, by {silence['createdBy']}: {silence['comment']}"
            yield Finding("silence", str(silence["id"]), CheckStatus.WARNING, text, _REMEDY)
    if not found:
        yield Finding("silence", client.shown, CheckStatus.OK, "none covers an alert for the healer")


def _judge_by_alerts(client: Client, alerts: Alerts, why: str) -> Iterator[Finding]:
    """
    Say what can be said without a list of the silences: by which of them an alert is silenced that fires now.

    As soon as one silence has several matcher sets (Alertmanager 0.32 and newer), API v2 lists none of them. To alerts
    they all apply, and each of these knows the silences that it is under.
    """
    found = f"cannot be listed, so that only of alerts which fire now is known whether one is silenced: {why}"
    remedy = "API v2 lists none while one has several matcher sets: see there, by the API that it was made with."
    yield Finding("silence", client.shown, CheckStatus.UNKNOWN, found, remedy)
    names = {alert["alertname"] for alert in alerts}
    under: dict[str, dict[str, None]] = {}
    try:
        for alert in client.get_json("/api/v2/alerts"):
            if alert["labels"].get("alertname") in names:
                for silence in alert["status"]["silencedBy"]:
                    under.setdefault(str(silence), {})[alert["labels"]["alertname"]] = None
    except NoAnswerError as error:
        yield Finding("silence", client.shown, CheckStatus.FAILED, str(error), "See Alertmanager's log.")
    for silence, silenced in under.items():
        yield Finding("silence", silence, CheckStatus.WARNING, f"{', '.join(silenced)}: active now", _REMEDY)


def _covers(matchers: Any, alert: Mapping[str, str]) -> bool:
    """Return whether the silence covers such alerts, be it for one slot only. One without matchers covers nothing."""
    return bool(matchers) and all(
        _silence_matcher(each).accepts(alert) for each in matchers if each["name"] not in _SLOT_LABELS
    )


def _silence_matcher(data: Any) -> Matcher:
    operator = ("=~" if data["isRegex"] else "=") if data.get("isEqual", True) else "!~" if data["isRegex"] else "!="
    return Matcher(data["name"], operator, data["value"])
