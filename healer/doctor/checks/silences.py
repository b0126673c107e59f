"""Silences that keep alerts from the healer."""

from collections.abc import Mapping, Sequence
from typing import Any

from healer.doctor.checks.routing import Matcher
from healer.doctor.http import describe
from healer.doctor.result import CheckStatus, Finding
from healer.webhook.alertmanager_api import AlertmanagerClient
from pgslot.httpclient import HttpError

SLOT_LABELS = frozenset({"slot_name", "database", "job", "instance"})
"""Labels whose value only the real alert has."""

_ADVICE = "While it lasts, the healer does not act on these alerts. To end it: amtool silence expire ID."

Alerts = Sequence[Mapping[str, str]]
"""Labels of the alerts for the healer."""


async def check_silences(alertmanager: AlertmanagerClient, shown: str, alerts: Alerts) -> list[Finding]:
    """
    Name the silences that cover alerts for the healer, those that begin later included.

    `shown`: Alertmanager's URL. Raises KeyError, TypeError or AttributeError when an answer is not what the API
    promises.
    """
    try:
        silences = await alertmanager.silences()
    except HttpError as error:
        return await _check_firing_alerts(alertmanager, shown, alerts, describe(error))
    findings = []
    for silence in silences:
        if silence["status"]["state"] == "expired":
            continue
        names = dict.fromkeys(alert["alertname"] for alert in alerts if _covers(silence["matchers"], alert))
        if names:
            when = f"{silence['status']['state']} until {silence['endsAt']}"
            text = f"{', '.join(names)}: {when}, by {silence['createdBy']}: {silence['comment']}"
            findings.append(Finding("silence", str(silence["id"]), CheckStatus.WARNING, text, _ADVICE))
    return findings or [Finding("silence", shown, CheckStatus.OK, "none covers an alert for the healer")]


async def _check_firing_alerts(alertmanager: AlertmanagerClient, shown: str, alerts: Alerts, why: str) -> list[Finding]:
    """
    Name the silences of the alerts that fire now, if a list of all silences is missing; `why`: the reason.

    As soon as one silence has several matcher sets (Alertmanager 0.32 and newer), API v2 lists no silence at all. All
    of them apply to alerts, and an alert has the silences that it is under.
    """
    found = f"silences cannot be listed; only alerts that fire now can be checked for one: {why}"
    advice = "API v2 lists none while one of them has several matcher sets: list them with the API that created it."
    findings = [Finding("silence", shown, CheckStatus.UNKNOWN, found, advice)]
    alert_names = {alert["alertname"] for alert in alerts}
    silenced: dict[str, dict[str, None]] = {}
    try:
        for alert in await alertmanager.alerts():
            if alert["labels"].get("alertname") in alert_names:
                for silence in alert["status"]["silencedBy"]:
                    silenced.setdefault(str(silence), {})[alert["labels"]["alertname"]] = None
    except HttpError as error:
        findings.append(Finding("silence", shown, CheckStatus.FAILED, describe(error), "See Alertmanager's log."))
    for silence, names in silenced.items():
        text = f"{', '.join(names)}: active now"
        findings.append(Finding("silence", silence, CheckStatus.WARNING, text, _ADVICE))
    return findings


def _covers(matchers: Any, alert: Mapping[str, str]) -> bool:
    """Return whether a silence covers such alerts, even for one slot only. Without matchers it covers nothing."""
    return bool(matchers) and all(
        _parse_matcher(matcher).accepts(alert) for matcher in matchers if matcher["name"] not in SLOT_LABELS
    )


def _parse_matcher(data: Any) -> Matcher:
    """Return a matcher of a silence; `isEqual` is absent before Alertmanager 0.22."""
    operator = ("=~" if data["isRegex"] else "=") if data.get("isEqual", True) else "!~" if data["isRegex"] else "!="
    return Matcher(data["name"], operator, data["value"])
