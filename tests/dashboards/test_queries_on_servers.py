"""Every query of the dashboards, asked of a Prometheus that watches real servers on which all of it happens."""

import math
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest

from tests.support.dashboard_scenes import SECOND_HOST, Fleet
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

# It takes about a minute until all has happened, whichever test asks first.
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]

PACES = {"PgSlotCreationStuck": "5", "PgSlotCreationBlocked": "5"}
COUNTED_BY_EACH_HEALER = re.compile(r"increase\(")
"""Two healers count their own acts: of them the sum is right, and of one that is scraped twice it is not."""

each_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)


@dataclass(frozen=True, eq=False)
class Happened:
    """The fleet after everything, and when that was."""

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
def happened() -> Iterator[Happened]:
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
        with fleet.stuck_creation("search") as creator:
            assert creator.wait(60)
            assert creator.error is None
        with fleet.primary.hold_transaction() as holder, fleet.stuck_creation("cdc") as creator:
            fleet.until("the healer is at work", "max(pgslot_heal_episode_active) == 1")
            holder.commit()
            assert creator.wait(60)
        fleet.end_transactions()
        fleet.insert(20_000)
        fleet.until("the blocked creation counts as stuck", "pgslot_creation_wait_seconds > 32")
        fleet.until("the healer has an end to count", 'pgslot_heal_episodes_total{outcome="healed"} > 0')
        fleet.until("the decoding is counted", "pgslot_decoding_spill_bytes_total > 0")
        fleet.until(
            "one of the failover slots is ready, another one is not", "count(pgslot_failover_lag_bytes == 0) == 2"
        )
        fleet.until("and why not", 'pgslot_failover_unready_reason{reason="not_persisted"} == 1')
        fleet.standby.stop()
        away = 'count(pgslot_up{job="pgslot-exporter"} == 0) == 2'
        fleet.until("the standby has been away for some scrapes of both", f"count_over_time(({away})[10s:1s]) > 3")
        yield Happened(fleet, start, time.time())


@each_target
def test_query_has_data(happened: Happened, target: Target) -> None:
    found = happened.over_time(target.expr)
    numbers = [float(value) for series in found for _, value in series["values"]]
    assert any(not math.isnan(number) for number in numbers), substituted(target.expr)


@each_target
def test_legend_names_existing_labels(happened: Happened, target: Target) -> None:
    for label in re.findall(r"\{\{(\w+)\}\}", target.target["legendFormat"]):
        for series in happened.over_time(target.expr):
            assert series["metric"].get(label), series["metric"]


@pytest.mark.parametrize(
    ("board", "panel"),
    [(board, panel) for board, panel in PANELS if panel["type"] == "table"],
    ids=lambda value: value if isinstance(value, str) else value["title"],
)
def test_columns_of_a_table_are_filled(happened: Happened, board: str, panel: dict[str, Any]) -> None:
    del board
    several = len(panel["targets"]) > 1
    there: set[str] = set()
    for target in panel["targets"]:
        found = happened.over_time(target["expr"])
        there |= {label for series in found for label, value in series["metric"].items() if value}
        there.add(f"Value #{target['refId']}" if several else "Value")
    [organize] = [step["options"] for step in panel["transformations"] if step["id"] == "organize"]
    assert set(organize["renameByName"]) <= there
    assert there - set(organize["renameByName"]) <= set(organize["excludeByName"]) | {"Time"}


@each_target
def test_metrics_and_labels_of_a_query_exist(happened: Happened, target: Target) -> None:
    read = selectors(target.expr)
    for metric, matchers in read:
        assert set(matchers) <= happened.labels(metric), metric
    assert grouped_by(target.expr) <= {"le"}.union(*(happened.labels(metric) for metric, _ in read))


@each_target
def test_query_counts_nothing_twice_with_two_exporters(happened: Happened, target: Target) -> None:
    """As with one of them: the reason why job and instance are no variables."""
    if COUNTED_BY_EACH_HEALER.search(target.expr):
        return
    both = substituted(target.expr)
    one = re.sub(r"\b(pgslot_\w+)\{", rf'\1{{instance!~"{SECOND_HOST}.*",', both)
    one = re.sub(r"\b(pgslot_\w+)\b(?!\{)", rf'\1{{instance!~"{SECOND_HOST}.*"}}', one)
    expected, found = happened.at_the_end(one), happened.at_the_end(both)
    assert found.keys() == expected.keys()
    for series, value in found.items():
        assert {"job", "instance"}.isdisjoint(dict(series))
        if "deriv(" in target.expr:
            # A trend is as long as its exporter has looked, and the second one began later.
            assert value > 0, series
        elif value.is_integer() and value < 50:
            assert value == expected[series], series
        else:
            # The two scrapes are up to a second apart: ages, rates and bytes differ by that.
            apart = 1_000_000 if "_bytes" in target.expr and "/" not in target.expr else 3
            assert value == pytest.approx(expected[series], rel=0.2, abs=apart), series


@pytest.mark.parametrize(
    ("board", "name"),
    [(board, name) for board in DASHBOARDS for name, found in variables(board).items() if found["type"] == "query"],
)
def test_variable_has_values(happened: Happened, board: str, name: str) -> None:
    query = substituted(variables(board)[name]["query"])
    selector, _, label = query.removeprefix("label_values(").removesuffix(")").rpartition(", ")
    found = happened.over_time(f"count by ({label}) ({selector})")
    assert any(series["metric"].get(label) for series in found), query


@pytest.mark.parametrize(
    ("board", "annotation"), ANNOTATIONS, ids=lambda value: value if isinstance(value, str) else value["name"]
)
def test_annotation_has_marks(happened: Happened, board: str, annotation: dict[str, Any]) -> None:
    del board
    found = happened.over_time(annotation["expr"])
    assert found
    for label in re.findall(r"\{\{(\w+)\}\}", annotation["titleFormat"]):
        assert all(series["metric"].get(label) for series in found)
    if annotation["useValueForTime"]:
        times = [float(value) / 1000 for series in found for _, value in series["values"]]
        assert any(happened.start < at < happened.end for at in times)


def test_overview_numbers_show_the_incidents(happened: Happened) -> None:
    numbers = {
        target.panel["title"]: list(happened.at_the_end(substituted(target.expr)).values())
        for target in TARGETS
        if target.board == "pgslot-fleet" and target.panel["id"] < 109
    }
    assert numbers["Creations stuck"] == [1]
    assert numbers["Slots lost"] == [1]
    assert numbers["Servers not seen"] == [1]
    assert numbers["Cannot be healed"] == [1]
    assert numbers["Longest creation wait"][0] > 30
    assert 0 < numbers["Least headroom"][0] < 0.25
    assert numbers["Soonest loss in"][0] < 24 * 3600
