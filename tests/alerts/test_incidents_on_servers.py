"""Every alert on the whole stack: fired by its incident, ended with it; and every name that rules use."""

from collections.abc import Iterator

import pytest

from exporter.catalogue import CATALOGUE
from tests.support import incidents
from tests.support.alert_rules import ALERT_RULES, RECORDING_RULES, each_alert, shipped_rules
from tests.support.incident_on_19 import a_slot_that_is_the_last
from tests.support.incidents import Incidents
from tests.support.promql import Selector, grouping_labels, selectors, template_queries
from tests.support.servers.stack import Stack
from tests.support.thresholds import THRESHOLDS

# About two and a half minutes for all of them, whichever test asks first.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NEVER_ENDS = {"PgSlotWatchdog"}


@pytest.fixture(scope="module")
def told() -> Iterator[Incidents]:
    with Stack(thresholds=THRESHOLDS) as stack:
        found = incidents.all_of_them(stack)
        a_slot_that_is_the_last(found)
        yield found


@each_alert
def test_alert_fires_on_its_incident(told: Incidents, name: str) -> None:
    [found] = [found for (alert, _), found in told.fired.items() if alert == name]
    description = " ".join(found["annotations"]["description"].split())
    assert "unknown" not in description, description
    assert "<no value>" not in description, description


@each_alert
def test_alert_resolves_with_its_incident(told: Incidents, name: str) -> None:
    assert (name in told.ended) == (name not in NEVER_ENDS)


@pytest.mark.parametrize(
    ("alert", "slot", "named"),
    [
        ("PgSlotCreationBlocked", "blocked", "gid order-7"),
        ("PgSlotPinnedByTransaction", "cdc", "gid order-7"),
        ("PgSlotPreparedTransactionForgotten", "", "gid order-7, database postgres, owner postgres"),
        ("PgSlotLost", "unused", "wal_removed"),
        ("PgSlotDependsOnLastSlot", "at_stake", "It has one: last on primary,"),
        ("PgSlotLossPredicted", "unused", "inactive"),
        ("PgSlotNotFailoverReady", "protected", "On demo-2: sync_replication_slots is off."),
        ("PgSlotNotFailoverReady", "protected", "Missing there: primary_conninfo_dbname sync_replication_slots."),
        ("PgSlotNotPersisted", "protected", "Its consumer is away"),
        (
            "PgSlotPatroniSilent",
            "",
            "for cluster silent answers pgslot-exporter as it should. It goes on with the members of",
        ),
        ("PgSlotHealNoEffect", "", "with gave_up within two hours for cluster demo"),
        ("PgSlotHealNoEffect", "", "blocked on demo-1"),
    ],
)
def test_description_names_the_cause(told: Incidents, alert: str, slot: str, named: str) -> None:
    assert named in told.fired[alert, slot]["annotations"]["description"]


def test_redundant_alerts_are_inhibited(told: Incidents) -> None:
    assert told.inhibited == {
        ("PgSlotPinnedByTransaction", "cdc"),
        ("PgSlotInactive", "unused"),
        ("PgSlotWalHeadroomLow", "unused"),
        ("PgSlotNotFailoverReady", "protected"),
    }


def used() -> Iterator[tuple[str, str]]:
    """(name of the rule, expression) for all that rules ask: in their expressions and in their texts."""
    for rule in shipped_rules():
        name = str(rule.get("alert", rule.get("record")))
        yield name, rule["expr"]
        for text in rule.get("annotations", {}).values():
            for query in template_queries(text):
                yield name, query


ALL_SELECTORS = sorted({(name, f"{one}", one) for name, query in used() for one in selectors(query)}, key=str)
each_selector = pytest.mark.parametrize("selector", [pytest.param(s, id=f"{n}: {t}") for n, t, s in ALL_SELECTORS])


@each_selector
def test_selectors_of_rules_match_existing_series(told: Incidents, selector: Selector) -> None:
    ask = told.stack.prometheus.query
    assert ask(f"present_over_time({selector}[1h])"), f"{selector} was never there"
    for label in selector.labels:
        assert ask(f'present_over_time({selector.metric}{{{label}!=""}}[1h])'), f"{selector.metric} has no {label}"


@pytest.mark.parametrize(("name", "query"), sorted({(name, query) for name, query in used()}))
def test_grouping_labels_of_rules_exist(told: Incidents, name: str, query: str) -> None:
    wanted = grouping_labels(query)
    metrics = {selector.metric for selector in selectors(query)}
    found = {
        label
        for metric in metrics
        for series in told.stack.prometheus.query(f"present_over_time({metric}[1h])")
        for label in series["metric"]
    }
    assert wanted <= found, f"{name}: {wanted - found} on none of {metrics}"


def test_rules_read_only_documented_metrics() -> None:
    """What is left is the healer's, whose names the stack's scrape proves."""
    metrics = {selector.metric for _, query in used() for selector in selectors(query)}
    ours = {metric for metric in metrics if metric.startswith("pgslot_") and not metric.startswith("pgslot_heal_")}
    assert ours <= set(CATALOGUE)
    assert {metric for metric in metrics if ":" in metric} == set(RECORDING_RULES)
    assert len(ALL_SELECTORS) > len(ALERT_RULES)
