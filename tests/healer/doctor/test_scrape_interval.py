"""How soon a creation that hangs becomes an alert, by the targets and rules of Prometheus' API."""

from typing import Any

import pytest

from healer.doctor.checks.scrape_interval import FAST_RULE, SLOW_RULE, judge_scrape_interval
from healer.doctor.checks.shipped_rules import rules
from healer.doctor.result import CheckStatus

CREATIONS = "http://exporter:9877/metrics?collect%5B%5D=creations"
PROBED = "http://exporter:9877/probe?cluster=c&collect%5B%5D=creations&node=n"
EVERYTHING = "http://exporter:9877/metrics"


def target(url: str, interval: str | None, job: str = "pgslot-exporter") -> dict[str, Any]:
    return {"labels": {"job": job}, "scrapeUrl": url} | ({} if interval is None else {"scrapeInterval": interval})


def group(interval: float, *names: str) -> dict[str, Any]:
    return {
        "interval": interval,
        "rules": [{"name": rule.name, "query": rule.expression} for rule in rules() if rule.name in names],
    }


@pytest.mark.parametrize(
    ("targets", "groups", "status", "found"),
    [
        pytest.param(
            [target(EVERYTHING, "15s"), target(CREATIONS, "2s", job="pgslot-creations")],
            [group(15, SLOW_RULE, "PgSlotLost"), group(2, FAST_RULE)],
            CheckStatus.OK,
            f"within 6 s: {FAST_RULE} after 2 s, scraped every 2 s, evaluated every 2 s",
            id="as shipped",
        ),
        pytest.param(
            [target(PROBED, "1s", "any")], [group(2, FAST_RULE)], CheckStatus.OK, "within 5 s", id="node by node"
        ),
        pytest.param(
            [target(EVERYTHING, "15s")],
            [group(2, FAST_RULE)],
            CheckStatus.OK,
            "within 19 s",
            id="without the second job",
        ),
        pytest.param(
            [target(EVERYTHING, "1m")], [group(2, FAST_RULE)], CheckStatus.WARNING, "within 64 s", id="seldom"
        ),
        pytest.param(
            [target(EVERYTHING, "1m30s")],
            [group(2, FAST_RULE)],
            CheckStatus.WARNING,
            "scraped every 90 s",
            id="two units",
        ),
        pytest.param(
            [target(EVERYTHING, "15s")],
            [group(15, SLOW_RULE)],
            CheckStatus.WARNING,
            f"within 60 s: {SLOW_RULE} after 30 s",
            id="rules of before",
        ),
        pytest.param(
            [target("http://other:9100/metrics", "1s", "node"), target(CREATIONS.replace("creations", "slots"), "1s")],
            [group(2, FAST_RULE)],
            CheckStatus.SKIPPED,
            "scrapes no exporter's creations",
            id="nothing of ours",
        ),
        pytest.param(
            [target(EVERYTHING, None)],
            [group(2, FAST_RULE)],
            CheckStatus.SKIPPED,
            "does not report how often",
            id="an old one",
        ),
        pytest.param(
            [target(EVERYTHING, "15s")], [group(15, "PgSlotLost")], CheckStatus.SKIPPED, "has neither", id="no rules"
        ),
        pytest.param(
            [target(EVERYTHING, "often")], [group(2, FAST_RULE)], CheckStatus.SKIPPED, "found 'often'", id="nonsense"
        ),
    ],
)
def test_latency_of_an_alert_about_a_creation(
    targets: list[dict[str, Any]], groups: list[dict[str, Any]], status: CheckStatus, found: str
) -> None:
    finding = judge_scrape_interval("http://prometheus:9090", targets, groups)
    assert (finding.status, found in finding.found) == (status, True), finding
    assert bool(finding.advice) == (status is CheckStatus.WARNING)
