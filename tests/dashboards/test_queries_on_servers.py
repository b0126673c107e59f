"""Every query of the dashboards has data on a Prometheus that scrapes real servers on which every incident happens."""

import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from tests.support.dashboard_scenes import Fleet, of_first_exporter
from tests.support.dashboards import (
    ANNOTATIONS,
    DASHBOARDS,
    PANELS,
    TARGETS,
    Target,
    grouped_by,
    selectors,
    substituted,
    variables,
)

# The first test waits about a minute for all incidents.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

PACES = {
    "PgSlotCreationStuck": "5",
    "PgSlotCreationBlocked": "5",
    # Headroom is compared with that of 5 s ago, not of 6 h ago.
    "slot:pgslot_wal_headroom:max1h": "/5s",
    "slot:pgslot_wal_until_lost:seconds6h": "/5s",
}
TREND = re.compile(r"slot:pgslot_wal_until_lost:|node:pgslot_wal_volume_full:")
"""Recorded from rates, which the tests take over seconds in place of minutes and hours."""
SUMMED_OVER_HEALERS = re.compile(r"increase\(")
"""Two healers count their own actions, so their sum is right; it is wrong for one healer that is scraped twice."""

each_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)


@dataclass(frozen=True, eq=False)
class FleetHistory:
    """The fleet after all incidents, with their time range in Unix time."""

    fleet: Fleet
    start: float
    end: float

    @cache  # noqa: B019 - it lives as long as the module
    def over_time(self, expr: str) -> list[dict[str, Any]]:
        return self.fleet.prometheus.query_range(substituted(expr), self.start, self.end, step=1)

    def at_the_end(self, expr: str) -> dict[frozenset[tuple[str, str]], float]:
        answer = self.fleet.prometheus.get("/api/v1/query", query=expr, time=str(self.end))
        return {frozenset(series["metric"].items()): float(series["value"][1]) for series in answer["data"]["result"]}

    @cache  # noqa: B019 - it lives as long as the module
    def labels(self, metric: str) -> set[str]:
        answer = self.fleet.prometheus.get("/api/v1/series", **{"match[]": metric})
        return {label for series in answer["data"] for label in series}


@pytest.fixture(scope="module")
def history() -> Iterator[FleetHistory]:
    with Fleet(thresholds=PACES) as fleet:
        start = time.time()
        fleet.start_everything()
        fleet.scrape_twice()
        fleet.make_failover_slots()
        fleet.lose_a_slot("ancient")
        fleet.consume("warehouse")
        fleet.unused_slot("forgotten")
        fleet.hold("nightly-report")
        fleet.create("audit")
        fleet.prepare_and_forget("forgotten-payment")
        fleet.write(220)
        fleet.fill_the_volume_of_reports()
        with fleet.stuck_creation("search") as creator:
            assert creator.wait(60)
            assert creator.error is None
        with fleet.primary.hold_transaction() as holder, fleet.stuck_creation("cdc") as creator:
            fleet.until("the healer is at work", "max(pgslot_heal_episode_active) == 1")
            holder.commit()
            assert creator.wait(60)
        fleet.end_transactions()
        fleet.insert(20_000)
        fleet.until("headroom is less than before", "slot:pgslot_wal_until_lost:seconds6h")
        fleet.until("the blocked creation counts as stuck", "pgslot_creation_wait_seconds > 32")
        fleet.until("the healer has an end to count", 'pgslot_heal_episodes_total{outcome="healed"} > 0')
        fleet.until("the decoding is counted", "pgslot_decoding_spill_bytes_total > 0")
        fleet.until(
            "one of the failover slots is ready, another one is not", "count(pgslot_failover_lag_bytes == 0) == 2"
        )
        fleet.until("and why not", 'pgslot_failover_unready_reason{reason="not_persisted"} == 1')
        fleet.until("a transaction may pin a slot", "pgslot_retention_candidate_age_seconds > 0")
        fleet.leave_slots_unprotected()
        fleet.until("a copy is left over", "pgslot_leftover_info == 1")
        fleet.standby.stop()
        away = 'count(pgslot_up{job="pgslot-exporter"} == 0) == 2'
        fleet.until("the standby has been away for some scrapes of both", f"count_over_time(({away})[10s:1s]) > 3")
        yield FleetHistory(fleet, start, time.time())


@each_target
def test_query_has_data(history: FleetHistory, target: Target) -> None:
    result = history.over_time(target.expr)
    numbers = [float(value) for series in result for _, value in series["values"]]
    assert any(not math.isnan(number) for number in numbers), substituted(target.expr)


@each_target
def test_legend_names_existing_labels(history: FleetHistory, target: Target) -> None:
    for label in re.findall(r"\{\{(\w+)\}\}", target.target["legendFormat"]):
        for series in history.over_time(target.expr):
            assert series["metric"].get(label), series["metric"]


@pytest.mark.parametrize(
    ("board", "panel"),
    [(board, panel) for board, panel in PANELS if panel["type"] == "table"],
    ids=lambda value: value if isinstance(value, str) else value["title"],
)
def test_columns_of_a_table_are_filled(history: FleetHistory, board: str, panel: dict[str, Any]) -> None:
    del board
    multiple = len(panel["targets"]) > 1
    columns: set[str] = set()
    for target in panel["targets"]:
        result = history.over_time(target["expr"])
        columns |= {label for series in result for label, value in series["metric"].items() if value}
        columns.add(f"Value #{target['refId']}" if multiple else "Value")
    [organize] = [step["options"] for step in panel["transformations"] if step["id"] == "organize"]
    assert set(organize["renameByName"]) <= columns
    assert columns - set(organize["renameByName"]) <= set(organize["excludeByName"]) | {"Time"}


@each_target
def test_metrics_and_labels_of_a_query_exist(history: FleetHistory, target: Target) -> None:
    read = selectors(target.expr)
    for metric, matchers in read:
        assert set(matchers) <= history.labels(metric), metric
    assert grouped_by(target.expr) <= {"le"}.union(*(history.labels(metric) for metric, _ in read))


@each_target
def test_query_counts_nothing_twice_with_two_exporters(history: FleetHistory, target: Target) -> None:
    """A result is the same as with one exporter, so job and instance need not be variables."""
    if SUMMED_OVER_HEALERS.search(target.expr):
        return
    both = substituted(target.expr)
    expected, actual = history.at_the_end(of_first_exporter(both)), history.at_the_end(both)
    assert all({"job", "instance"}.isdisjoint(dict(series)) for series in actual)
    if TREND.search(target.expr):
        # A trend of some seconds depends on which scrapes it covers, and may be absent for a moment.
        assert all(value >= 0 for value in actual.values())
        return
    assert actual.keys() == expected.keys()
    for series, value in actual.items():
        if value.is_integer() and value < 50:
            assert value == expected[series], series
        else:
            # The two scrapes are up to a second apart, so ages, rates and bytes differ a little.
            tolerance = 1_000_000 if "_bytes" in target.expr and "/" not in target.expr else 3
            assert value == pytest.approx(expected[series], rel=0.2, abs=tolerance), series


@pytest.mark.parametrize(
    ("board", "name"),
    [
        (board, name)
        for board in DASHBOARDS
        for name, variable in variables(board).items()
        if variable["type"] == "query"
    ],
)
def test_variable_has_values(history: FleetHistory, board: str, name: str) -> None:
    query = substituted(variables(board)[name]["query"])
    selector, _, label = query.removeprefix("label_values(").removesuffix(")").rpartition(", ")
    result = history.over_time(f"count by ({label}) ({selector})")
    assert any(series["metric"].get(label) for series in result), query


@pytest.mark.parametrize(
    ("board", "annotation"), ANNOTATIONS, ids=lambda value: value if isinstance(value, str) else value["name"]
)
def test_annotation_has_marks(history: FleetHistory, board: str, annotation: dict[str, Any]) -> None:
    del board
    marks = history.over_time(annotation["expr"])
    assert marks
    for label in re.findall(r"\{\{(\w+)\}\}", annotation["titleFormat"]):
        assert all(series["metric"].get(label) for series in marks)
    if annotation["useValueForTime"]:
        times = [float(value) / 1000 for series in marks for _, value in series["values"]]
        assert any(history.start < at < history.end for at in times)


def test_overview_numbers_show_the_incidents(history: FleetHistory) -> None:
    numbers = {
        target.panel["title"]: list(history.at_the_end(substituted(target.expr)).values())
        for target in TARGETS
        if target.board == "pgslot-fleet" and target.panel["id"] < 109
    }
    assert numbers["Creations stuck"] == [1]
    assert numbers["Slots lost"] == [1]
    assert numbers["Servers not seen"] == [1]
    assert numbers["Cannot be healed"] == [1]
    assert numbers["Longest wait"][0] > 30
    assert 0 < numbers["Least headroom"][0] < 0.25
    assert numbers["Soonest loss in"][0] < 24 * 3600
