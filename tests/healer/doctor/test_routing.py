"""Alertmanager's routing as evaluated here: by tables of cases, and compared with amtool."""

import itertools
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from healer.doctor.checks.routing import (
    Matcher,
    RoutingError,
    matching_routes,
    parse_matchers,
    parse_route,
    parse_seconds,
)
from tests.support.paths import ROOT

ALERTS = ROOT / "alerts"
HEAL = {"heal": "log_standby_snapshot"}

CONFIGS: dict[str, dict[str, Any]] = {
    "shipped": yaml.safe_load((ALERTS / "alertmanager.yml").read_text("utf-8"))["route"],
    "alone": {"receiver": "a"},
    "taken by the first": {
        "receiver": "a",
        "routes": [
            {"receiver": "b", "matchers": ['heal="log_standby_snapshot"']},
            {"receiver": "c", "matchers": ['cluster="orders"']},
        ],
    },
    "continued, and lost by a route before": {
        "receiver": "a",
        "routes": [
            {"receiver": "b", "matchers": ['severity="warning"']},
            {"receiver": "c", "matchers": ['heal="log_standby_snapshot"'], "continue": True},
            {"receiver": "d", "continue": True},
        ],
    },
    "nested, with a receiver that is inherited": {
        "receiver": "a",
        "routes": [
            {
                "matchers": ['cluster=~"orders|billing"'],
                "continue": True,
                "routes": [
                    {"receiver": "b", "match": {"severity": "critical"}},
                    {"receiver": "c", "match_re": {"alertname": "PgSlot.*"}, "continue": True},
                    {"receiver": "d", "matchers": ['heal!=""']},
                ],
            },
            {"receiver": "e", "matchers": ['cluster!~"orders|shop"']},
        ],
    },
    "written in other ways": {
        "receiver": "a",
        "routes": [
            {"receiver": "b", "matchers": ["cluster=orders", "severity =~ warn.*"], "continue": True},
            {"receiver": "c", "matchers": ['{alertname="PgSlotLost", severity!="info"}'], "continue": True},
            {"receiver": "d", "matchers": ['note="a \\"b\\", {c}"'], "continue": True},
            {"receiver": "e", "matchers": ['heal=""'], "continue": True},
            {"receiver": "f", "matchers": ['alertname=~"(?i)pgslotlost"']},
        ],
    },
    "anchored": {
        "receiver": "a",
        "routes": [
            {"receiver": "b", "matchers": ['cluster=~"order"'], "continue": True},
            {"receiver": "c", "match_re": {"cluster": "order|s"}, "continue": True},
            {"receiver": "d", "matchers": ['cluster=~".+"'], "continue": True},
        ],
    },
}

LABELS: list[dict[str, str]] = [
    {},
    {"cluster": "orders"},
    {"cluster": "shop", **HEAL},
    {"alertname": "PgSlotLost", "severity": "critical", "component": "pgslot", "cluster": "orders"},
    {"alertname": "PgSlotLost", "severity": "info", "component": "pgslot", "cluster": "billing"},
    {"alertname": "PgSlotCreationStuck", "severity": "warning", "component": "pgslot", "cluster": "orders", **HEAL},
    {"alertname": "PgSlotWatchdog", "component": "pgslot", "heartbeat": "pgslot-healer"},
    {"alertname": "pgslotlost", "note": 'a "b", {c}'},
]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.tools
def test_receivers_are_those_that_amtool_names(name: str, tmp_path: Path) -> None:
    route = CONFIGS[name]
    receivers = [{"name": receiver} for receiver in ("a", "b", "c", "d", "e", "f", "healer", "nobody", "people")]
    file = tmp_path / "alertmanager.yml"
    file.write_text(yaml.safe_dump({"route": route, "receivers": receivers}), "utf-8")
    for labels in LABELS:
        given = [f"{label}={json.dumps(value)}" for label, value in labels.items()]
        done = subprocess.run(
            ["amtool", "config", "routes", "test", f"--config.file={file}", *given],
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
        ours = [match.receiver for match in matching_routes(parse_route(route), labels)]
        assert ",".join(ours) == done.stdout.strip(), labels


def test_cases_reach_and_miss_each_receiver() -> None:
    """Each receiver of each configuration is reached by one of the label sets, and missed by another."""
    for name, data in CONFIGS.items():
        route = parse_route(data)
        reached = [{match.receiver for match in matching_routes(route, labels)} for labels in LABELS]
        every = set(itertools.chain.from_iterable(reached))
        if name != "alone":
            assert len(every) > 1
            assert not set.intersection(*reached)


def test_routes_inherit_all_but_time_intervals() -> None:
    tree = parse_route(
        {
            "receiver": "a",
            "group_by": ["alertname"],
            "group_wait": "10s",
            "repeat_interval": "1w",
            "mute_time_intervals": ["nights"],
            "routes": [{"matchers": ["x=y"], "group_by": ["..."], "group_interval": "1h30m"}, {"receiver": "b"}],
        }
    )
    first, second = tree.routes
    assert (first.receiver, first.group_by, first.group_wait, first.group_interval) == ("a", ("...",), 10.0, 5400.0)
    assert (second.group_by, second.group_interval, second.repeat_interval) == (("alertname",), 300.0, 604800.0)
    assert (tree.time_intervals, first.time_intervals) == (("nights",), ())


MATCHERS = [
    ('a="b"', [Matcher("a", "=", "b")]),
    ("a=b", [Matcher("a", "=", "b")]),
    (' a != "b" ', [Matcher("a", "!=", "b")]),
    ('{a=~"b|c",d!~"e"}', [Matcher("a", "=~", "b|c"), Matcher("d", "!~", "e")]),
    ('"with space"="b"', [Matcher("with space", "=", "b")]),
    (r'a="\"\\\n,"', [Matcher("a", "=", '"\\\n,')]),
    ('a=""', [Matcher("a", "=", "")]),
    ("a=", [Matcher("a", "=", "")]),
    ('a="=~"', [Matcher("a", "=", "=~")]),
]


@pytest.mark.parametrize(("text", "matchers"), MATCHERS)
def test_matchers_are_parsed(text: str, matchers: list[Matcher]) -> None:
    assert parse_matchers(text) == matchers


@pytest.mark.parametrize("text", ["a", "=b", 'a="b', '{a="b"', 'a="b" c="d"'])
def test_text_that_is_not_a_matcher_is_refused(text: str) -> None:
    with pytest.raises(RoutingError, match="expected a matcher"):
        parse_matchers(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("0s", 0), ("0", 0), ("5m", 300), ("1w2d", 777600), ("1y", 31536000), ("500ms", 0.5)]
)
def test_durations_are_parsed(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "m", "1m1h"])
def test_text_that_is_not_a_duration_is_refused(text: str) -> None:
    with pytest.raises(RoutingError, match="expected a duration"):
        parse_seconds(text)


def test_pattern_that_only_go_knows_is_refused() -> None:
    route = parse_route({"receiver": "a", "routes": [{"matchers": [r'a=~"\\pL+"']}]})
    with pytest.raises(RoutingError, match="valid only in Go"):
        matching_routes(route, {"a": "b"})


def test_data_that_is_not_a_route_is_refused() -> None:
    with pytest.raises(RoutingError, match="expected a route, found str"):
        parse_route({"receiver": "a", "routes": ["b"]})
