"""
Metrics of many slots, column by column; and what the last scrape wrote of them, kept for the next one.

Of 1,000 slots half of the 33,000 lines are states and kinds, which hardly ever change: what was written of them is
taken as it is while it was made from the same. Where numbers change but not the slots, the numbers are put into a
template of all lines at once, in a third of the time that it takes line by line.
"""

from collections.abc import Callable, Sequence
from math import isfinite
from typing import Any, NamedTuple, TypeVar, cast

from pgslot.exposition.text_format import Samples

_T = TypeVar("_T")

_HOLES: dict[type, str] = {int: "%d", bool: "%d", float: "%a"}
"""bytes' %a is the repr of a number."""


class RenderCache:
    """
    What was last made of each node's slots, by node and metric, together with what it was made from.

    It takes somewhat more than a page does: 4.3 MB for 1,000 slots. Who keeps it clears it when nodes may have left.
    """

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], tuple[object, Any]] = {}

    def clear(self) -> None:
        self._made.clear()

    def get_or_render(self, node: str, what: str, inputs: object, make: Callable[[], _T]) -> _T:
        """Return what was made last time if the inputs are the same, else what is made now."""
        before = self._made.get((node, what))
        if before is not None and before[0] == inputs:
            return cast("_T", before[1])
        result = make()
        self._made[node, what] = (inputs, result)
        return result

    def previous(self, node: str, what: str) -> Any:
        """Return what was made last, whatever from; None if nothing was."""
        before = self._made.get((node, what))
        return None if before is None else before[1]


class CachedSeries(NamedTuple):
    """Series of one metric that are written anew only if they are made from something else than last time."""

    memory: RenderCache
    node: str
    name: str
    inputs: object
    make: Callable[[], bytes]

    def lines(self) -> bytes:
        return self.memory.get_or_render(self.node, self.name, self.inputs, self.make)


class CachedColumn(NamedTuple):
    """
    One number of each slot, as Series has them; labels that did not change are the same list, so much the better.

    All are of the type that the column has in SQL, or None: what is equal is then written alike.
    """

    memory: RenderCache
    node: str
    name: str
    labels: Sequence[str]
    values: tuple[float | None, ...]

    def lines(self) -> bytes:
        return self.memory.get_or_render(self.node, self.name, (self.labels, self.values), self._written).lines

    def _written(self) -> "_Written":
        shape = tuple(map(type, self.values))
        if float in shape and not all(isfinite(value) for value in self.values if value is not None):
            shape = ()
        before: _Written | None = self.memory.previous(self.node, self.name)
        if not shape or before is None or before.shape != shape or before.labels != self.labels:
            return _Written(self.labels, shape, None, Samples(self.name, self.labels, self.values).lines())
        template = before.template or self._template(shape)
        present = self.values if type(None) not in shape else tuple(v for v in self.values if v is not None)
        return _Written(self.labels, shape, template, template % present)

    def _template(self, shape: Sequence[type]) -> bytes:
        """Return all lines with holes; only of what changes, which shows when it is written for the second time."""
        lines = [
            f"{self.name}{{{labels.replace('%', '%%')}}} {_HOLES[kind]}\n"
            for labels, kind in zip(self.labels, shape, strict=True)
            if kind in _HOLES
        ]
        return "".join(lines).encode()


class _Written(NamedTuple):
    labels: Sequence[str]
    shape: tuple[type, ...]
    """The type of each value; empty for what no template can write."""
    template: bytes | None
    lines: bytes
