"""How soon Prometheus tells of a slot that hangs in its creation, by the intervals at which it looks."""

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from healer.doctor.checks.routing import RoutingError, parse_seconds
from healer.doctor.checks.shipped_rules import EXPORTER_JOB
from healer.doctor.result import CheckStatus, Finding

SOON = "PgSlotCreationWaiting"
LATER = "PgSlotCreationStuck"
LONGEST = 30.0
"""Seconds that nobody should have to wait for; consumers that help themselves look each 10 s."""

_PART = "creations"
_AGE = re.compile(r"pgslot_creation_wait_seconds\)?\s*>\s*(\d+)")
_REMEDY = (
    "Scrape /metrics?collect[]=creations of the exporter each 2 s, in a job of its own as in alerts/prometheus.yml, and"
    " load the output of `pg-slot-exporter rules` with its group pgslot-creations."
)


def judge(shown: str, targets: Sequence[dict[str, Any]], groups: Sequence[dict[str, Any]]) -> Finding:
    """
    Say within how many seconds an alert about a creation reaches Alertmanager at the latest.

    `targets` as Prometheus' API has them (2.28 and newer tell the interval), `groups` those of its rules.
    """
    try:
        scraped = sorted(_scrapes(targets))
        told = sorted(_rules(groups))
    except RoutingError as error:
        return Finding("heal time", shown, CheckStatus.SKIPPED, str(error))
    if not scraped or not told:
        missing = "scrapes no exporter's creations" if not scraped else f"has neither {SOON} nor {LATER}"
        return Finding(
            "heal time", shown, CheckStatus.SKIPPED, f"not known: Prometheus {missing}, or does not tell how often"
        )
    interval, (_, name, age, each) = scraped[0], told[0]
    latest = age + interval + each
    found = (
        f"a creation on a standby is told within {latest:g} s: {name} after {age:g} s, scraped each {interval:g} s, "
        f"evaluated each {each:g} s; Alertmanager and healer add a second, and any group_wait of the route"
    )
    if latest > LONGEST:
        return Finding("heal time", shown, CheckStatus.WARNING, found, _REMEDY)
    return Finding("heal time", shown, CheckStatus.OK, found)


def _scrapes(targets: Sequence[dict[str, Any]]) -> Iterator[float]:
    """Yield the intervals, in seconds, of what shows creations: the exporter's whole, or that part of it."""
    for target in targets:
        parts = parse_qs(urlsplit(target["scrapeUrl"]).query).get("collect[]", [])
        ours = target["labels"].get("job") == EXPORTER_JOB if not parts else _PART in parts
        if ours and "scrapeInterval" in target:
            yield parse_seconds(target["scrapeInterval"])


def _rules(groups: Sequence[dict[str, Any]]) -> Iterator[tuple[float, str, float, float]]:
    """Yield delay, name, threshold and interval of the rules about creations, in seconds."""
    for group in groups:
        for rule in group["rules"]:
            age = _AGE.search(rule["query"]) if rule["name"] in (SOON, LATER) else None
            if age is not None:
                threshold, each = float(age[1]), float(group["interval"])
                yield threshold + each, rule["name"], threshold, each
