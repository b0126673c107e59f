"""The landing page: each node's state from the last scrape, and what each runbook is about."""

import re

import pytest

from exporter.landing import alert_summaries, landing
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerSettings, Node
from pgslot.snapshot.model import NodeSnapshot, QueryStatus
from tests.support.alert_rules import ALERT_RULES
from tests.support.builders.snapshots import node, unreachable_node

CONFIG = Config((Cluster("c", (Node("c", "n", Conninfo("")),), None),), HealerSettings())


def landing_page(snapshot: NodeSnapshot | None) -> str:
    return landing(CONFIG, lambda _cluster, _node: None if snapshot is None else (3.2, snapshot), lifecycle=False)


def with_status(query: str, status: QueryStatus) -> NodeSnapshot:
    snapshot = node("n", recovery=False)
    snapshot.statuses[query] = status
    return snapshot


@pytest.mark.parametrize(
    ("snapshot", "state"),
    [
        (None, "not scraped yet"),
        (node("n", recovery=False), "primary, PostgreSQL 18.6 3 s ago"),
        (node("n", recovery=True), "standby, PostgreSQL 18.6 3 s ago"),
        (unreachable_node("n"), "unreachable 3 s ago"),
        (
            with_status("slots", QueryStatus.PERMISSION_DENIED),
            "primary, PostgreSQL 18.6 slots: permission_denied 3 s ago",
        ),
    ],
)
def test_node_has_its_state_from_the_last_scrape(snapshot: NodeSnapshot | None, state: str) -> None:
    [row] = re.findall("<tr><td>c<td>n<td>(.*?)<td>", landing_page(snapshot))
    assert re.sub("<[^>]+>", "", row) == state


def test_runbooks_are_listed_by_severity_with_what_the_alert_says() -> None:
    page = landing_page(None)
    items = re.findall('<li><a href="/runbooks/[^>]+>(.*?)</a>: (.*?)</li>', page)
    assert {name for name, _ in items} == set(ALERT_RULES)
    assert all(summary.endswith(".") and "{{" not in summary for _, summary in items)
    assert re.findall("<h3>(.*?)</h3>", page) == ["Critical", "Warning", "Info"]
    critical = page.partition("<h3>Critical</h3>")[2].partition("<h3>")[0]
    expected = {name for name, rule in ALERT_RULES.items() if rule["labels"]["severity"] == "critical"}
    assert set(re.findall(r">(PgSlot\w+)</a>", critical)) == expected


def test_each_shipped_alert_has_its_summary() -> None:
    assert alert_summaries().keys() == ALERT_RULES.keys()
