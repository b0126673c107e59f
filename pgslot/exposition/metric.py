"""What a metric is: its name, type, labels and meaning. A program's catalogue lists all of its metrics."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric family. The unit is the last word of its name, as Prometheus asks."""

    name: str
    type: str
    labels: tuple[str, ...]
    help: str
    source: str
    """PostgreSQL view, function or setting."""
    since: int = 14
    """First major version of PostgreSQL that has it."""


def gauges(labels: tuple[str, ...], *rows: tuple[str, str, str]) -> tuple[Metric, ...]:
    """Return gauges that share their labels, from rows of name, meaning and source."""
    return tuple(Metric(name, "gauge", labels, text, source) for name, text, source in rows)
