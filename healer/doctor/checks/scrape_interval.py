"""How soon a slot creation that hangs becomes an alert, by the scrape and evaluation intervals of Prometheus."""

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import parse_qs, urlsplit

from healer.doctor.checks.routing import RoutingError, parse_seconds
from healer.doctor.checks.shipped_rules import EXPORTER_JOB
from healer.doctor.result import CheckStatus, Finding

FAST_RULE = "PgSlotCreationWaiting"
SLOW_RULE = "PgSlotCreationStuck"
MAX_LATENCY = 30.0
"""Seconds until an alert that are still acceptable; consumers that help themselves look every 10 s."""

_COLLECTOR = "creations"
_AGE = re.compile(r"pgslot_creation_wait_seconds\)?\s*>\s*(\d+)")
_ADVICE = (
    "Scrape /metrics?collect[]=creations of the exporter every 2 s, in a job of its own as in alerts/prometheus.yml,"
    " and load the output of `pg-slot-exporter rules` with its group pgslot-creations."
)


def judge_scrape_interval(shown: str, targets: Sequence[dict[str, Any]], groups: Sequence[dict[str, Any]]) -> Finding:
    """
    Report after how many seconds an alert about a creation reaches Alertmanager at the latest.

    `targets`: from Prometheus' API, which has their interval from 2.28 on; `groups`: of its rules.
    """
    try:
        scrape_intervals = sorted(_creation_scrape_intervals(targets))
        creation_rules = sorted(_creation_rules(groups))
    except RoutingError as error:
        return Finding("heal time", shown, CheckStatus.SKIPPED, str(error))
    if not scrape_intervals or not creation_rules:
        lacks_rules = f"has neither {FAST_RULE} nor {SLOW_RULE}"
        missing = lacks_rules if scrape_intervals else "scrapes no exporter's creations"
        return Finding(
            "heal time", shown, CheckStatus.SKIPPED, f"unknown: Prometheus {missing}, or does not report how often"
        )
    scraped, (_, name, age, evaluated) = scrape_intervals[0], creation_rules[0]
    latest = age + scraped + evaluated
    found = (
        f"the healer learns of a creation on a standby within {latest:g} s: {name} after {age:g} s,"
        f" scraped every {scraped:g} s, evaluated every {evaluated:g} s; Alertmanager and healer add a second,"
        " and any group_wait of the route"
    )
    if latest > MAX_LATENCY:
        return Finding("heal time", shown, CheckStatus.WARNING, found, _ADVICE)
    return Finding("heal time", shown, CheckStatus.OK, found)


def _creation_scrape_intervals(targets: Sequence[dict[str, Any]]) -> Iterator[float]:
    """Yield the intervals, in seconds, of scrapes that show creations: all of the exporter, or collect[]=creations."""
    for target in targets:
        collectors = parse_qs(urlsplit(target["scrapeUrl"]).query).get("collect[]", [])
        shows_creations = _COLLECTOR in collectors if collectors else target["labels"].get("job") == EXPORTER_JOB
        if shows_creations and "scrapeInterval" in target:
            yield parse_seconds(target["scrapeInterval"])


def _creation_rules(groups: Sequence[dict[str, Any]]) -> Iterator[tuple[float, str, float, float]]:
    """Yield delay, name, threshold and interval of the rules about creations, in seconds."""
    for group in groups:
        for rule in group["rules"]:
            age = _AGE.search(rule["query"]) if rule["name"] in (FAST_RULE, SLOW_RULE) else None
            if age is not None:
                threshold, interval = float(age[1]), float(group["interval"])
                yield threshold + interval, rule["name"], threshold, interval
