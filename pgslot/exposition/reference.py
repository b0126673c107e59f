"""Metric references as Markdown tables: of a catalogue, and of prometheus_client's own metric objects."""

from collections.abc import Iterable, Mapping

from prometheus_client.metrics import MetricWrapperBase

from pgslot.exposition.metric import Metric

_UNITS = ("seconds", "bytes", "xids")


def catalogue_rows(catalogue: Iterable[Metric], newest: int) -> str:
    """Return one row per metric; `newest` is the last major version of PostgreSQL that is supported."""
    return "".join(_catalogue_row(metric, newest) for metric in catalogue)


def client_rows(metrics: Iterable[MetricWrapperBase]) -> str:
    """Return one row per metric of prometheus_client."""
    return "".join(_client_row(metric) for metric in metrics)


def label_values(values: Mapping[str, tuple[str, ...]]) -> str:
    """Return one line per label that has a closed list of values."""
    return "".join(
        f"- `{label}`: {', '.join(f'`{value}`' for value in allowed)}\n" for label, allowed in values.items()
    )


def _catalogue_row(metric: Metric, newest: int) -> str:
    versions = f"{metric.since} to {newest}"
    labels = ", ".join(f"`{label}`" for label in metric.labels)
    cells = (f"`{metric.name}`", metric.type, _unit(metric), labels, versions, metric.help, f"`{metric.source}`")
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |\n"


def _unit(metric: Metric) -> str:
    words = metric.name.removesuffix("_total").split("_")
    return words[-1] if words[-1] in _UNITS else ""


def _client_row(metric: MetricWrapperBase) -> str:
    [family] = metric.describe()
    name = f"{family.name}_total" if family.type == "counter" else family.name
    labels = ", ".join(f"`{label}`" for label in metric._labelnames)  # noqa: SLF001 - there is no public way to them
    return f"| `{name}` | {family.type} | {labels} | {family.documentation} |\n"
