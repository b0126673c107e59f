"""On the whole stack every alert fires with its incident and ends with it, and every name that rules use exists."""

from collections.abc import Iterator

import pytest

from exporter.catalogue import CATALOGUE
from tests.support import incidents
from tests.support.alert_rules import ALERT_RULES, RECORDING_RULES, each_alert, shipped_rules
from tests.support.incident_on_19 import last_slot_on_primary
from tests.support.incidents import Incidents
from tests.support.promql import Selector, grouping_labels, selectors, template_queries
from tests.support.servers.stack import Stack
from tests.support.thresholds import THRESHOLDS

# The first test waits about 150 seconds for all incidents.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NEVER_ENDS = {"PgSlotWatchdog"}


@pytest.fixture(scope="module")
def observed() -> Iterator[Incidents]:
    with Stack(thresholds=THRESHOLDS) as stack:
        observed = incidents.run_all_incidents(stack)
        last_slot_on_primary(observed)
        yield observed


@each_alert
def test_alert_fires_on_its_incident(observed: Incidents, name: str) -> None:
    [fired] = [fired for (alert, _), fired in observed.fired.items() if alert == name]
    description = " ".join(fired["annotations"]["description"].split())
    assert "unknown" not in description, description
    assert "<no value>" not in description, description


@each_alert
def test_alert_resolves_with_its_incident(observed: Incidents, name: str) -> None:
    assert (name in observed.ended) == (name not in NEVER_ENDS)


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
def test_description_names_the_cause(observed: Incidents, alert: str, slot: str, named: str) -> None:
    assert named in observed.fired[alert, slot]["annotations"]["description"]


def test_redundant_alerts_are_inhibited(observed: Incidents) -> None:
    assert observed.inhibited == {
        ("PgSlotPinnedByTransaction", "cdc"),
        ("PgSlotInactive", "unused"),
        ("PgSlotWalHeadroomLow", "unused"),
        ("PgSlotNotFailoverReady", "protected"),
    }


def rule_queries() -> Iterator[tuple[str, str]]:
    """Return (name of the rule, query) for all queries in the expressions and the texts of rules."""
    for rule in shipped_rules():
        name = str(rule.get("alert", rule.get("record")))
        yield name, rule["expr"]
        for text in rule.get("annotations", {}).values():
            for query in template_queries(text):
                yield name, query


ALL_SELECTORS = sorted(
    {(name, f"{selector}", selector) for name, query in rule_queries() for selector in selectors(query)}, key=str
)
each_selector = pytest.mark.parametrize("selector", [pytest.param(s, id=f"{n}: {t}") for n, t, s in ALL_SELECTORS])


@each_selector
def test_selectors_of_rules_match_existing_series(observed: Incidents, selector: Selector) -> None:
    query = observed.stack.prometheus.query
    assert query(f"present_over_time({selector}[1h])"), f"{selector} was never there"
    for label in selector.labels:
        assert query(f'present_over_time({selector.metric}{{{label}!=""}}[1h])'), f"{selector.metric} has no {label}"


@pytest.mark.parametrize(("name", "query"), sorted({(name, query) for name, query in rule_queries()}))
def test_grouping_labels_of_rules_exist(observed: Incidents, name: str, query: str) -> None:
    grouping = grouping_labels(query)
    metrics = {selector.metric for selector in selectors(query)}
    existing = {
        label
        for metric in metrics
        for series in observed.stack.prometheus.query(f"present_over_time({metric}[1h])")
        for label in series["metric"]
    }
    assert grouping <= existing, f"{name}: {grouping - existing} on none of {metrics}"


def test_rules_read_only_documented_metrics() -> None:
    """The catalogue does not cover the healer's metrics; the selectors above are checked against its scrape."""
    metrics = {selector.metric for _, query in rule_queries() for selector in selectors(query)}
    exporter_metrics = {
        metric for metric in metrics if metric.startswith("pgslot_") and not metric.startswith("pgslot_heal_")
    }
    assert exporter_metrics <= set(CATALOGUE)
    assert {metric for metric in metrics if ":" in metric} == set(RECORDING_RULES)
    assert len(ALL_SELECTORS) > len(ALERT_RULES)
