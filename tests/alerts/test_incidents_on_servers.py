"""On the whole stack every alert fires with its incident and ends with it, and every name that rules use exists."""

from collections.abc import Iterator

import pytest

from exporter.catalogue import CATALOGUE
from tests.support import incidents
from tests.support.alert_rules import ALERT_RULES, DISK_RULES, RECORDING_RULES, rule_queries, shipped_rules
from tests.support.incident_on_19 import last_slot_on_primary
from tests.support.incidents import Incidents
from tests.support.promql import Selector, grouping_labels, selectors
from tests.support.servers.stack import Stack
from tests.support.thresholds import THRESHOLDS

# The first test waits about seven minutes for all incidents.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

NEVER_ENDS = {"PgSlotWatchdog"}
ON_SMALL_VOLUMES = {rule["alert"] for rule in DISK_RULES if "alert" in rule}
"""Their incidents are in tests/simulations/test_full_volume.py, with the selectors of the group."""
each_alert = pytest.mark.parametrize("name", sorted(set(ALERT_RULES) - ON_SMALL_VOLUMES))


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
            "about the members of cluster silent. It still uses the members from",
        ),
        ("PgSlotCatalogUnprotected", "unprotected", "First switch on hot_standby_feedback on demo-2."),
        ("PgSlotLeftover", "left_over", "left over from this server's time as primary. It retains"),
        ("PgSlotHealNoEffect", "blocked", "with gave_up within the last 2 hours"),
        ("PgSlotManyEndangered", "", "5 replication slots on demo/demo-1"),
    ],
)
def test_description_names_the_cause(observed: Incidents, alert: str, slot: str, named: str) -> None:
    assert named in observed.fired[alert, slot]["annotations"]["description"]


def test_redundant_alerts_are_inhibited(observed: Incidents) -> None:
    assert observed.inhibited == {
        ("PgSlotInactive", "unused"),
        ("PgSlotLost", "unused"),
        ("PgSlotWalHeadroomLow", "unused"),
        ("PgSlotNotFailoverReady", "protected"),
    }


QUERIES = list(rule_queries(rule for rule in shipped_rules() if rule not in DISK_RULES))
ALL_SELECTORS = sorted(
    {(name, f"{selector}", selector) for name, query in QUERIES for selector in selectors(query)}, key=str
)
each_selector = pytest.mark.parametrize("selector", [pytest.param(s, id=f"{n}: {t}") for n, t, s in ALL_SELECTORS])


NEEDS_HOURS = {"slot:pgslot_wal_until_lost:seconds6h"}
"""Compares with six hours ago: held by promtool's tests, and with short ranges by those of the dashboards."""


NEEDS_A_SERVICE = 'pgslot_probe_status{probe=~"pg_.+",status="unsupported"}'
"""PostgreSQL itself refuses none of its functions: held by promtool's tests, and on imitations of services."""


@each_selector
def test_selectors_of_rules_match_existing_series(observed: Incidents, selector: Selector) -> None:
    if selector.metric in NEEDS_HOURS or f"{selector}" == NEEDS_A_SERVICE:
        return
    query = observed.stack.prometheus.query
    assert query(f"present_over_time({selector}[1h])"), f"{selector} was never there"
    for label in selector.labels:
        assert query(f'present_over_time({selector.metric}{{{label}!=""}}[1h])'), f"{selector.metric} has no {label}"


@pytest.mark.parametrize(("name", "query"), sorted(set(QUERIES)))
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
    metrics = {selector.metric for _, query in rule_queries(shipped_rules()) for selector in selectors(query)}
    exporter_metrics = {
        metric for metric in metrics if metric.startswith("pgslot_") and not metric.startswith("pgslot_heal_")
    }
    assert exporter_metrics <= set(CATALOGUE)
    dashboards = {metric for metric in RECORDING_RULES if metric.startswith("cluster:")}
    assert {metric for metric in metrics if ":" in metric} | dashboards == set(RECORDING_RULES)
    assert len(ALL_SELECTORS) > len(ALERT_RULES)
