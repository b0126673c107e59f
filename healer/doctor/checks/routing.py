"""Alertmanager's routing, evaluated here: which receivers an alert goes to, and at what pace. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

GROUP_WAIT = 30.0
GROUP_INTERVAL = 300.0
REPEAT_INTERVAL = 14400.0
"""Alertmanager's defaults, in seconds."""

EACH_BY_ITSELF = ("...",)
"""group_by of all labels: every alert is a group of its own."""

_DURATION = re.compile(r"(?:(\d+)y)?(?:(\d+)w)?(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?(?:(\d+)ms)?")
_UNITS = (31536000.0, 604800.0, 86400.0, 3600.0, 60.0, 1.0, 0.001)

_STRING = r'"(?:[^"\\]|\\.)*"'
_MATCHER = re.compile(rf'\s*({_STRING}|[^\s"=!~,{{}}]+)\s*(=~|!~|!=|=)\s*({_STRING}|[^",]*?)\s*(?:,|$)')
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


class RoutingError(Exception):
    """The configuration has something that cannot be evaluated here. The text says what."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """One condition on a label; a label that an alert lacks is empty."""

    label: str
    operator: str
    """=, !=, =~ or !~."""
    value: str

    def accepts(self, labels: Mapping[str, str]) -> bool:
        """Return whether the label set meets it. Raises RoutingError for a pattern that Python does not know."""
        found = labels.get(self.label, "")
        if self.operator in ("=", "!="):
            return (found == self.value) is (self.operator == "=")
        try:
            matches = re.fullmatch(self.value, found, re.DOTALL) is not None
        except re.error:
            raise RoutingError(f"the pattern {self.value!r} of {self.label} is one that only Go knows") from None
        return matches is (self.operator == "=~")


@dataclass(frozen=True, slots=True)
class Route:
    """A node of the tree, with what it inherits filled in. Times in seconds."""

    receiver: str
    matchers: tuple[Matcher, ...]
    continues: bool
    group_by: tuple[str, ...]
    group_wait: float
    group_interval: float
    repeat_interval: float
    time_intervals: tuple[str, ...]
    """Names of mute_time_intervals and active_time_intervals: at some times nothing is sent."""
    routes: tuple["Route", ...] = ()


def parse_route(data: Any, parent: Route | None = None) -> Route:
    """Return the tree of the key `route` of Alertmanager's configuration. Raises RoutingError."""
    if not isinstance(data, dict):
        raise RoutingError(f"expected a route, found {type(data).__name__}")
    group_by = data.get("group_by")
    intervals = [*(data.get("mute_time_intervals") or ()), *(data.get("active_time_intervals") or ())]
    own = Route(
        receiver=str(data.get("receiver") or (parent.receiver if parent else "")),
        matchers=_matchers_of(data),
        continues=bool(data.get("continue", False)),
        group_by=tuple(map(str, group_by)) if group_by is not None else parent.group_by if parent else (),
        group_wait=_seconds(data.get("group_wait"), parent.group_wait if parent else GROUP_WAIT),
        group_interval=_seconds(data.get("group_interval"), parent.group_interval if parent else GROUP_INTERVAL),
        repeat_interval=_seconds(data.get("repeat_interval"), parent.repeat_interval if parent else REPEAT_INTERVAL),
        time_intervals=tuple(map(str, intervals)),
    )
    children = tuple(parse_route(child, own) for child in data.get("routes") or ())
    return replace(own, routes=children)


def matching(route: Route, labels: Mapping[str, str]) -> list[Route]:
    """
    Return the routes that send an alert with these labels, in their order; empty when this one does not match.

    Children are tried first: the first that matches takes the alert, unless it says `continue`. Raises RoutingError.
    """
    if not all(matcher.accepts(labels) for matcher in route.matchers):
        return []
    found: list[Route] = []
    for child in route.routes:
        taken = matching(child, labels)
        found += taken
        if taken and not child.continues:
            break
    return found or [route]


def parse_matchers(text: str) -> list[Matcher]:
    """Parse `a="b"`, `a=~b`, `{a="b", c!="d"}`. Raises RoutingError."""
    rest = text.strip()
    if rest.startswith("{") and rest.endswith("}"):
        rest = rest[1:-1].strip()
    found = []
    place = 0
    while place < len(rest):
        match = _MATCHER.match(rest, place)
        if match is None:
            raise RoutingError(f"expected a matcher, found {text!r}")
        label, operator, value = match.groups()
        found.append(Matcher(_unquoted(label), operator, _unquoted(value)))
        place = match.end()
    return found


def parse_seconds(text: str) -> float:
    """Return seconds for a duration as Alertmanager writes it (`0s`, `5m`, `1w`). Raises RoutingError."""
    match = _DURATION.fullmatch(text)
    if text == "0":
        return 0.0
    if not text or match is None:
        raise RoutingError(f"expected a duration, found {text!r}")
    return sum(int(part) * unit for part, unit in zip(match.groups(), _UNITS, strict=True) if part)


def _matchers_of(data: dict[str, Any]) -> tuple[Matcher, ...]:
    old = [Matcher(str(label), "=", str(value)) for label, value in (data.get("match") or {}).items()]
    old += [Matcher(str(label), "=~", str(value)) for label, value in (data.get("match_re") or {}).items()]
    new = [matcher for text in data.get("matchers") or () for matcher in parse_matchers(str(text))]
    return (*old, *new)


def _seconds(value: Any, otherwise: float) -> float:
    return otherwise if value is None else parse_seconds(str(value))


def _unquoted(text: str) -> str:
    if not text.startswith('"'):
        return text
    return re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[1]), text[1:-1], flags=re.DOTALL)
