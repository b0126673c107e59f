"""How soon Prometheus tells of a creation: from its API's targets and rules."""

from typing import Any

import pytest

from healer.doctor.checks.scrape_interval import LATER, SOON, judge
from healer.doctor.checks.shipped_rules import rules
from healer.doctor.result import CheckStatus

PART = "http://exporter:9877/metrics?collect%5B%5D=creations"
PROBED = "http://exporter:9877/probe?cluster=c&collect%5B%5D=creations&node=n"
WHOLE = "http://exporter:9877/metrics"


def target(url: str, interval: str | None, job: str = "pgslot-exporter") -> dict[str, Any]:
    return {"labels": {"job": job}, "scrapeUrl": url} | ({} if interval is None else {"scrapeInterval": interval})


def group(interval: float, *names: str) -> dict[str, Any]:
    return {
        "interval": interval,
        "rules": [{"name": r.name, "query": r.expression} for r in rules() if r.name in names],
    }


@pytest.mark.parametrize(
    ("targets", "groups", "status", "found"),
    [
        pytest.param(
            [target(WHOLE, "15s"), target(PART, "2s", job="pgslot-creations")],
            [group(15, LATER, "PgSlotLost"), group(2, SOON)],
            CheckStatus.OK,
            f"within 6 s: {SOON} after 2 s, scraped each 2 s, evaluated each 2 s",
            id="as shipped",
        ),
        pytest.param([target(PROBED, "1s", "any")], [group(2, SOON)], CheckStatus.OK, "within 5 s", id="node by node"),
        pytest.param(
            [target(WHOLE, "15s")], [group(2, SOON)], CheckStatus.OK, "within 19 s", id="without the second job"
        ),
        pytest.param([target(WHOLE, "1m")], [group(2, SOON)], CheckStatus.WARNING, "within 64 s", id="seldom"),
        pytest.param(
            [target(WHOLE, "1m30s")], [group(2, SOON)], CheckStatus.WARNING, "scraped each 90 s", id="two units"
        ),
        pytest.param(
            [target(WHOLE, "15s")],
            [group(15, LATER)],
            CheckStatus.WARNING,
            f"within 60 s: {LATER} after 30 s",
            id="rules of before",
        ),
        pytest.param(
            [target("http://other:9100/metrics", "1s", "node"), target(PART.replace("creations", "slots"), "1s")],
            [group(2, SOON)],
            CheckStatus.SKIPPED,
            "scrapes no exporter's creations",
            id="nothing of ours",
        ),
        pytest.param(
            [target(WHOLE, None)], [group(2, SOON)], CheckStatus.SKIPPED, "does not tell how often", id="an old one"
        ),
        pytest.param(
            [target(WHOLE, "15s")], [group(15, "PgSlotLost")], CheckStatus.SKIPPED, "has neither", id="no rules"
        ),
        pytest.param([target(WHOLE, "often")], [group(2, SOON)], CheckStatus.SKIPPED, "found 'often'", id="nonsense"),
    ],
)
def test_how_soon(targets: list[dict[str, Any]], groups: list[dict[str, Any]], status: CheckStatus, found: str) -> None:
    finding = judge("http://prometheus:9090", targets, groups)
    assert (finding.status, found in finding.found) == (status, True), finding
    assert bool(finding.advice) == (status is CheckStatus.WARNING)
