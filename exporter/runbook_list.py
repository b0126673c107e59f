"""The runbooks by the severity of their alerts, each with what its alert says."""

import re
from functools import cache
from typing import Any, NamedTuple

import yaml

from exporter.runbooks import runbook_names
from pgslot.alerting_rules import alerting_rules

SEVERITIES = ("critical", "warning", "info", "other")
"""In the order of the page; `other`: runbooks without a shipped alert."""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's, which takes a tenth of the time, where it is there."""


class AlertSummary(NamedTuple):
    """What the list of runbooks says of an alert."""

    severity: str
    summary: str


def runbooks_by_severity() -> list[tuple[str, list[tuple[str, str]]]]:
    """Return each severity that has runbooks, with their names and what their alerts say."""
    summaries, names = alert_summaries(), runbook_names()
    unshipped = AlertSummary("other", "")
    lists = []
    for severity in SEVERITIES:
        alerts = [(name, summaries.get(name, unshipped)) for name in names]
        of_severity = [(name, alert.summary) for name, alert in alerts if alert.severity == severity]
        if of_severity:
            lists.append((severity, of_severity))
    return lists


@cache
def alert_summaries() -> dict[str, AlertSummary]:
    """Return severity and summary of each shipped alert, by name; labels stand for their values."""
    rules: Any = yaml.load(alerting_rules(), Loader=_LOADER)  # noqa: S506 - it is a safe one
    return {
        rule["alert"]: AlertSummary(rule["labels"]["severity"], _without_templates(rule["annotations"]["summary"]))
        for group in rules["groups"]
        for rule in group["rules"]
        if "alert" in rule
    }


def _without_templates(text: str) -> str:
    """Return the text with the name of each label in place of its value, and without other template code."""
    text = re.sub(r"{{-? *\$labels\.(\w+) *-?}}", r"<\1>", text)
    return " ".join(re.sub(r"{{.*?}}", "", re.sub(r"{{-? *else\b.*?}}", " or ", text)).split())
