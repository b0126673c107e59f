"""
Alertmanager's routing, evaluated here: which receivers an alert goes to, and how soon. Pure.

It copies Alertmanager 0.25 to 0.33 (the doctor's tests have run with 0.25, 0.28 and 0.33; those of routing compare with
`amtool config routes test`): the tree as dispatch/route.go walks it, `match` and `match_re`, and `matchers` as
pkg/labels parses them, with the quoted label names of the UTF-8 parser (0.27 and newer).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

GROUP_WAIT = 30.0
GROUP_INTERVAL = 300.0
REPEAT_INTERVAL = 14400.0
"""Alertmanager's defaults, in seconds."""

GROUP_BY_ALL = ("...",)
"""`group_by` with all labels: every alert is a group of its own."""

_DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
_UNITS = (31536000.0, 604800.0, 86400.0, 3600.0, 60.0, 1.0, 0.001)

_STRING = r'"(?:[^"\\]|\\.)*"'
_MATCHER = re.compile(rf'\s*({_STRING}|[^\s"=!~,{{}}]+)\s*(=~|!~|!=|=)\s*({_STRING}|[^",]*?)\s*(?:,|$)')
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


class RoutingError(Exception):
    """The configuration contains something that cannot be evaluated here. The text says what."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """A condition on one label; a label that an alert does not have counts as empty."""

    label: str
    operator: str
    """=, !=, =~ or !~."""
    value: str

    def accepts(self, labels: Mapping[str, str]) -> bool:
        """Return whether the label set meets it. Raises RoutingError for a pattern that only Go's RE2 knows."""
        value = labels.get(self.label, "")
        if self.operator in ("=", "!="):
            return (value == self.value) is (self.operator == "=")
        try:
            matches = re.fullmatch(self.value, value, re.DOTALL) is not None
        except re.error:
            raise RoutingError(f"the pattern {self.value!r} of {self.label} is valid only in Go") from None
        return matches is (self.operator == "=~")


@dataclass(frozen=True, slots=True)
class Route:
    """A node of the routing tree, with inherited settings filled in. Times in seconds."""

    receiver: str
    matchers: tuple[Matcher, ...]
    continues: bool
    group_by: tuple[str, ...]
    group_wait: float
    group_interval: float
    repeat_interval: float
    mute_time_intervals: tuple[str, ...] = ()
    active_time_intervals: tuple[str, ...] = ()
    routes: tuple["Route", ...] = ()

    @property
    def time_intervals(self) -> tuple[str, ...]:
        """Names of both kinds of intervals: at some times it sends nothing."""
        return (*self.mute_time_intervals, *self.active_time_intervals)


def parse_route(data: Any, parent: Route | None = None) -> Route:
    """Return the routing tree from the key `route` of Alertmanager's configuration. Raises RoutingError."""
    if not isinstance(data, dict):
        raise RoutingError(f"expected a route, found {type(data).__name__}")
    group_by = data.get("group_by")
    own = Route(
        receiver=str(data.get("receiver") or (parent.receiver if parent else "")),
        matchers=_parse_route_matchers(data),
        continues=bool(data.get("continue", False)),
        group_by=tuple(map(str, group_by)) if group_by is not None else parent.group_by if parent else (),
        group_wait=_seconds(data.get("group_wait"), parent.group_wait if parent else GROUP_WAIT),
        group_interval=_seconds(data.get("group_interval"), parent.group_interval if parent else GROUP_INTERVAL),
        repeat_interval=_seconds(data.get("repeat_interval"), parent.repeat_interval if parent else REPEAT_INTERVAL),
        mute_time_intervals=tuple(map(str, data.get("mute_time_intervals") or ())),
        active_time_intervals=tuple(map(str, data.get("active_time_intervals") or ())),
    )
    children = tuple(parse_route(child, own) for child in data.get("routes") or ())
    return replace(own, routes=children)


def matching_routes(route: Route, labels: Mapping[str, str]) -> list[Route]:
    """
    Return the routes that send an alert with these labels, in order; empty when `route` itself does not match.

    Children are tried first: the first that matches takes the alert, unless it has `continue`. Raises RoutingError.
    """
    if not all(matcher.accepts(labels) for matcher in route.matchers):
        return []
    routes: list[Route] = []
    for child in route.routes:
        below = matching_routes(child, labels)
        routes += below
        if below and not child.continues:
            break
    return routes or [route]


def parse_matchers(text: str) -> list[Matcher]:
    """Parse `a="b"`, `a=~b`, `{a="b", c!="d"}`. Raises RoutingError."""
    rest = text.strip()
    if rest.startswith("{") and rest.endswith("}"):
        rest = rest[1:-1].strip()
    matchers = []
    position = 0
    while position < len(rest):
        match = _MATCHER.match(rest, position)
        if match is None:
            raise RoutingError(f"expected a matcher, found {text!r}")
        label, operator, value = match.groups()
        matchers.append(Matcher(_unquoted(label), operator, _unquoted(value)))
        position = match.end()
    return matchers


def parse_seconds(text: str) -> float:
    """Return the seconds of a duration as Alertmanager writes it (`0s`, `5m`, `1w`). Raises RoutingError."""
    match = _DURATION.fullmatch(text)
    if text == "0":
        return 0.0
    if not text or match is None:
        raise RoutingError(f"expected a duration, found {text!r}")
    return sum(int(part) * unit for part, unit in zip(match.groups(), _UNITS, strict=True) if part)


def _parse_route_matchers(data: dict[str, Any]) -> tuple[Matcher, ...]:
    old = [Matcher(str(label), "=", str(value)) for label, value in (data.get("match") or {}).items()]
    old += [Matcher(str(label), "=~", str(value)) for label, value in (data.get("match_re") or {}).items()]
    new = [matcher for text in data.get("matchers") or () for matcher in parse_matchers(str(text))]
    return (*old, *new)


def _seconds(value: Any, default: float) -> float:
    return default if value is None else parse_seconds(str(value))


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    return re.sub(r"\\(.)", lambda escape: _ESCAPES.get(escape[1], escape[1]), text[1:-1], flags=re.DOTALL)
