"""What is rendered is what prometheus_client's parsers read back."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, GCCollector, Histogram
from prometheus_client import Metric as ClientFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.registry import Collector

from exporter.catalogue import CATALOGUE
from exporter.labels import SLOT
from exporter.series import SLOT_COLUMNS, cluster_series
from exporter.wal_series import volume_series
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, Config, HealerSettings, Node, WalVolume
from pgslot.exposition.families import families, render
from pgslot.exposition.metric import Metric
from pgslot.exposition.shared_metrics import COMMON, patroni_series, process_series
from pgslot.exposition.text_format import Family, Samples, StateSet, label_text, render_families
from tests.support.builders.retention import (
    EARLY,
    HERE,
    LAGGING,
    PINNED,
    QUIET,
    RECORD,
    SLOT_HISTORY,
    WAITING_FOR_STANDBY,
    primary_with,
)
from tests.support.builders.snapshots import CREATION, FACTS, STANDBY, cluster, node
from tests.support.builders.snapshots import SLOT as A_SLOT
from tests.support.builders.wal_usage import ARCHIVING, NOTHING_READY, directory, slot_at
from tests.support.builders.wal_usage import primary as primary_with_wal

GAUGE = Metric("pgslot_it", "gauge", ("a", "b"), 'What it "is":\na \\ test.', "nothing")
COUNTER = Metric("pgslot_it_total", "counter", ("a", "b"), "Counts.", "nothing")

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
"""PostgreSQL's names: any Unicode but NUL, with quotes, backslashes and line breaks in them."""
pairs = st.tuples(text, text)
values = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats()
formats = pytest.mark.parametrize("openmetrics", [False, True])


def read_back(families_: Iterable[Family], *, openmetrics: bool) -> list[ClientFamily]:
    body = b"".join(render_families(families_, openmetrics=openmetrics)).decode()
    parse: Callable[[str], Iterable[ClientFamily]] = parse_openmetrics if openmetrics else parse_text
    return list(parse(body + "# EOF\n" if openmetrics else body))


def same(found: float, meant: float) -> bool:
    return float(found) == float(meant) or (math.isnan(found) and math.isnan(meant))


@formats
@given(things=st.dictionaries(pairs, values))
def test_series_are_read_back(things: dict[tuple[str, str], Any], *, openmetrics: bool) -> None:
    labels = [label_text(GAUGE.labels, pair) for pair in things]
    found = read_back([Family(GAUGE, [Samples(GAUGE.name, labels, things.values())])], openmetrics=openmetrics)
    known = {pair: value for pair, value in things.items() if value is not None}
    if not known:
        assert found == []
        return
    [family] = found
    assert (family.name, family.type) == (GAUGE.name, "gauge")
    assert family.documentation == GAUGE.help
    assert [(sample.labels["a"], sample.labels["b"]) for sample in family.samples] == list(known)
    assert all(same(sample.value, meant) for sample, meant in zip(family.samples, known.values(), strict=True))


@formats
@given(things=st.dictionaries(text, st.none() | st.sampled_from(["x", "y"]) | text, min_size=1))
def test_states_are_read_back(things: dict[str, str | None], *, openmetrics: bool) -> None:
    actual = [(label_text(("a",), (thing,)), state) for thing, state in things.items()]
    [family] = read_back([Family(GAUGE, [StateSet(GAUGE.name, "b", ("x", "y"), actual)])], openmetrics=openmetrics)
    for thing, state in things.items():
        states = {sample.labels["b"]: sample.value for sample in family.samples if sample.labels["a"] == thing}
        assert states == {"x": 0, "y": 0} | ({} if state is None else {state: 1})


@formats
@given(count=st.integers(0, 2**62))
def test_counter_is_a_counter_in_both_formats(count: int, *, openmetrics: bool) -> None:
    series = Samples(COUNTER.name, [label_text(COUNTER.labels, ("1", "2"))], [count])
    [family] = read_back([Family(COUNTER, [series])], openmetrics=openmetrics)
    assert (family.name, family.type) == ("pgslot_it", "counter")
    assert [(sample.name, float(sample.value)) for sample in family.samples] == [("pgslot_it_total", float(count))]


@pytest.mark.parametrize(
    ("accept", "parse"),
    [
        ("", parse_text),
        ("text/plain;version=0.0.4", parse_text),
        # Prometheus' own since 2.5.
        ("application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5,*/*;q=0.1", parse_openmetrics),
    ],
)
def test_our_families_and_those_of_prometheus_client_make_one_page(accept: str, parse: Callable[[str], Any]) -> None:
    other = ClientFamily("other", "Not ours.", "gauge")
    other.add_sample("other", {}, 1)
    body, content_type = render(accept, [*families(process_series(reload_ok=True, reloaded_at=7.5), COMMON), other])
    assert content_type.startswith("application/openmetrics-text" if parse is parse_openmetrics else "text/plain")
    found = {family.name: family.samples[0].value for family in parse(body.decode())}
    assert found == {
        "pgslot_build_info": 1,
        "pgslot_config_last_reload_successful": 1,
        "pgslot_config_last_reload_success_timestamp_seconds": 7.5,
        "other": 1,
    }


class Collected(Collector):
    def __init__(self, families: list[ClientFamily]) -> None:
        self.families = families

    def collect(self) -> list[ClientFamily]:
        return self.families


@pytest.mark.parametrize("accept", ["", "application/openmetrics-text;version=1.0.0"])
def test_families_of_prometheus_client_read_as_its_own_rendering_does(accept: str) -> None:
    registry = CollectorRegistry()
    Gauge("g", 'A "gauge".', ["a"], registry=registry).labels('x"\\\n').set(1.5)
    Counter("c", "A counter.", ["a"], registry=registry).labels("y").inc(2)
    Histogram("h", "A histogram.", registry=registry).observe(3)
    GCCollector(registry=registry)
    encode, content_type = choose_encoder(accept)
    parse: Callable[[str], Any] = parse_openmetrics if "openmetrics" in content_type else parse_text
    # Once: the garbage collector may run in between.
    client_families = list(registry.collect())
    once = CollectorRegistry()
    once.register(Collected(client_families))
    theirs, (ours, _) = encode(once), render(accept, client_families)
    by_name = {family.name: family for family in parse(theirs.decode())}
    assert {family.name: family for family in parse(ours.decode())} == by_name
    assert len(by_name) >= 6


def test_metrics_of_slot_columns_have_the_labels_of_a_slot() -> None:
    assert {CATALOGUE[name].labels for name in SLOT_COLUMNS} == {SLOT}


def test_every_metric_of_the_catalogue_is_exposed_with_its_labels() -> None:
    slot = A_SLOT._replace(safe_wal_size_bytes=1, inactive_since=1.0, xmin_age_xids=1)
    pinned = A_SLOT._replace(slot_name="pinned", restart_position=RECORD, sent_position=HERE, **PINNED)
    waits = A_SLOT._replace(slot_name="waits", restart_position=RECORD, **LAGGING | WAITING_FOR_STANDBY)
    blocked = replace(CREATION, blocking_pids=[200])
    found_pinned = primary_with(
        pinned,
        SLOT_HISTORY,
        (EARLY,),
        max_slot_wal_keep_size_bytes=1,
        synchronized_standby_slots="gone",
        idle_replication_slot_timeout_seconds=1.0,
        version="19rc1",
        wal_level="replica",
    )
    # EARLY, with xid 500, is named: it was the only one with an xid since (tests/pgslot/diagnosis/test_pin_naming.py).
    samples = tuple(sample._replace(oldest_xid=500, oldest_xids=(500,)) for sample in QUIET)
    found_pinned = replace(found_pinned, history=replace(found_pinned.history, samples=samples))
    original = A_SLOT._replace(slot_name="copy", failover=True)
    archiving = replace(ARCHIVING, last_archived_time=1.0)
    wal = primary_with_wal(directory(900), slot_at("far", 900), facts=archiving, ready=NOTHING_READY).wal
    primary = replace(found_pinned, slots=(slot, pinned, waits, original), creations=(blocked,), wal=wal)
    copy = A_SLOT._replace(
        slot_name="copy",
        synced=True,
        slotsync_skip_reason="wal_not_flushed",
        slotsync_last_skip=1.0,
        inactive_since=1.0,
    )
    left_over = A_SLOT._replace(slot_name="left_over", failover=True, active=False)
    standby = node("s", recovery=True, slots=(copy, A_SLOT._replace(slot_name="own"), left_over))
    without_feedback = replace(STANDBY, hot_standby_feedback=False)
    standby = replace(standby, facts=replace(FACTS, in_recovery=True, version="19rc1"), standby=without_feedback)
    volumes = (WalVolume(1, filesystem=("db1:9100", "/pgdata")), WalVolume(claim=("shop", "pgdata-0")))
    nodes = tuple(Node("c", name, Conninfo(""), volume) for name, volume in zip("ps", volumes, strict=True))
    config = Config((Cluster("c", nodes, None),), HealerSettings())
    series = [
        *cluster_series(cluster(primary, standby)),
        *volume_series(config),
        *process_series(reload_ok=True, reloaded_at=1),
        *patroni_series([("c", True, 1.0, 0)]),
    ]
    body, _ = render("", families(series, CATALOGUE))
    found = {sample.name: set(sample.labels) for family in parse_text(body.decode()) for sample in family.samples}
    assert found == {name: set(metric.labels) for name, metric in CATALOGUE.items()}
