"""The metrics and labels in PromQL expressions, for tests of rules, runbooks and dashboards."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_SELECTOR = re.compile(
    r"(?P<metric>\b(?:[a-z]+:)?pgslot_[a-z0-9_]+(?::[a-z0-9]+)?|\bprocess_start_time_seconds\b|\bup\b)"
    r"(?P<of>\{[^}]*\})?"
)
_MATCHER = re.compile(r'(\w+)\s*(=~|!~|!=|=)\s*("(?:[^"\\]|\\.)*")')
_GROUPING = re.compile(r"\b(?:by|on|without|ignoring|group_left|group_right) \(([\w, ]*)\)")


@dataclass(frozen=True)
class Selector:
    """A metric with its matchers; str() is a valid query."""

    metric: str
    matchers: tuple[tuple[str, str, str], ...]

    @property
    def labels(self) -> set[str]:
        return {label for label, _, _ in self.matchers}

    def __str__(self) -> str:
        return f"{self.metric}{{{','.join(''.join(matcher) for matcher in self.matchers)}}}"


def selectors(expression: str) -> Iterator[Selector]:
    """Return each selector of an expression."""
    for match in _SELECTOR.finditer(expression):
        yield Selector(match["metric"], tuple(_MATCHER.findall(match["of"] or "")))


def grouping_labels(expression: str) -> set[str]:
    """Return the labels that the expression groups or matches by."""
    return {label for group in _GROUPING.findall(expression) for label in group.replace(",", " ").split()}


def template_queries(text: str) -> Iterator[str]:
    """Return the queries in a template, with matchers for any value in place of inserted values."""
    for query in re.findall(r'printf "((?:[^"\\]|\\.)*)"', text):
        yield re.sub("=~?%q", '=~".+"', query.replace('\\"', '"'))
