"""A slot's retained WAL of the last hour as a small drawing (SVG) and as a table: pure functions of its samples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from exporter.held_wal import REMEMBERED_SECONDS, SPACING_SECONDS
from pgslot.cli.amounts import size
from pgslot.status.growth import HeldSample

GAP_SECONDS = 5 * SPACING_SECONDS
"""The line is not drawn across a longer time without a sample."""
TABLE_SECONDS = 300.0
"""The table has a row for each period of this length."""
MINUTES = (60, 30, 0)

_LEFT, _RIGHT, _TOP, _BOTTOM, _WIDTH, _HEIGHT = 70, 8, 12, 24, 420, 170


@dataclass(frozen=True, slots=True)
class _Scale:
    """From time and bytes to the drawing's coordinates."""

    now: float
    most: int

    def x(self, at: float) -> float:
        return round(_WIDTH - _RIGHT - (self.now - at) / REMEMBERED_SECONDS * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(self, value: float) -> float:
        return round(_HEIGHT - _BOTTOM - value / self.most * (_HEIGHT - _TOP - _BOTTOM), 1)


def chart(samples: Sequence[HeldSample], limit: int | None = None) -> Markup | None:
    """
    Return the drawing, which ends at the last sample; None: fewer than two samples are not a line.

    `samples`: oldest first. `limit`: how many bytes the slot may retain, drawn if that is in sight; None: not known, or
    no limit.
    """
    if len(samples) < 2:
        return None
    largest = max(sample.held_bytes for sample in samples)
    scale = _Scale(samples[-1].at, _ceiling(limit if limit is not None and limit <= 2 * largest else largest))
    parts = [*_grid(scale), *_lines(samples, scale)]
    if limit is not None and 0 <= limit <= scale.most:
        parts.append(_path("limit", [(_LEFT, scale.y(limit)), (_WIDTH - _RIGHT, scale.y(limit))]))
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-labelledby="chart-title chart-text">'
        '<title id="chart-title">WAL that the slot retained in the last hour</title>'
        '<desc id="chart-text">{}</desc>{}</svg>'
    ).format(_WIDTH, _HEIGHT, summary(samples), Markup("").join(parts))


def summary(samples: Sequence[HeldSample]) -> str:
    """Return the drawing in one sentence; `samples` must not be empty."""
    first, last = samples[0], samples[-1]
    minutes = round((last.at - first.at) / 60)
    ago = f"{minutes} min ago" if minutes else "less than a minute ago"
    values = [sample.held_bytes for sample in samples]
    return (
        f"From {size(first.held_bytes)} {ago} to {size(last.held_bytes)} now;"
        f" least {size(min(values))}, most {size(max(values))}."
    )


def table(samples: Sequence[HeldSample]) -> list[tuple[int, str]]:
    """Return minutes before the last sample and the size, one row for each TABLE_SECONDS, the newest first."""
    rows: dict[int, HeldSample] = {}
    for sample in reversed(samples):
        rows.setdefault(int((samples[-1].at - sample.at) // TABLE_SECONDS), sample)
    return [(round((samples[-1].at - sample.at) / 60), size(sample.held_bytes)) for sample in rows.values()]


def _ceiling(value: int) -> int:
    """Return the smallest round size of at least 10 B and `value`: 1, 2 or 5 times 1, 10 or 100, in B, KiB, MiB, ..."""
    value, unit = max(value, 10), 1
    while value > 1000 * unit:
        unit *= 1024
    for factor in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000):
        if factor * unit >= value:
            return factor * unit
    raise AssertionError(f"no round size for {value}")


def _grid(scale: _Scale) -> Iterator[Markup]:
    for value in (0, scale.most // 2, scale.most):
        y = scale.y(value)
        yield Markup('<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(_LEFT, y, _WIDTH - _RIGHT, y)
        yield Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(_LEFT - 6, y + 4, size(value))
    for minutes in MINUTES:
        label = f"{minutes} min ago" if minutes else "now"
        anchor = {60: "start", 0: "end"}.get(minutes, "middle")
        x = scale.x(scale.now - 60 * minutes)
        yield Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(x, _HEIGHT - 6, anchor, label)


def _lines(samples: Sequence[HeldSample], scale: _Scale) -> Iterator[Markup]:
    """Yield a line for each part without a gap."""
    part: list[tuple[float, float]] = []
    for before, sample in zip((None, *samples), samples, strict=False):
        if before is not None and sample.at - before.at > GAP_SECONDS:
            yield _path("value", part)
            part = []
        part.append((scale.x(sample.at), scale.y(sample.held_bytes)))
    yield _path("value", part)


def _path(kind: str, points: Sequence[tuple[float, float]]) -> Markup:
    # A single point is drawn by the round ends of a line without a length.
    text = "".join(f"{'L' if index else 'M'}{x} {y}" for index, (x, y) in enumerate(points))
    return Markup('<path class="{}" d="{}"/>').format(kind, text if len(points) > 1 else f"{text}h0")
