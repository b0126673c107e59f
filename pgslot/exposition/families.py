"""Series, and prometheus_client's families beside them, to the page that Prometheus reads."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from prometheus_client import Metric as ClientFamily
from prometheus_client.exposition import choose_encoder

from pgslot.exposition.metric import Metric
from pgslot.exposition.text_format import Family, Samples, SeriesBlock, label_text, render_families


class Collector(Protocol):
    """Anything of prometheus_client that can be asked for its families."""

    def collect(self) -> Iterable[ClientFamily]: ...


def families(series: Iterable[SeriesBlock], catalogue: Mapping[str, Metric]) -> list[Family]:
    """Group series into families, in the order of the catalogue, which maps a metric's name to it."""
    by_name: dict[str, list[SeriesBlock]] = {}
    for part in series:
        by_name.setdefault(part.name, []).append(part)
    return [Family(metric, by_name[metric.name]) for metric in catalogue.values() if metric.name in by_name]


def render(accept: str, collected: Iterable[Family | ClientFamily]) -> tuple[bytes, str]:
    """Return the body and its content type, in the format that the scraper's Accept header asks for."""
    pieces, content_type = render_pieces(accept, collected)
    return b"".join(pieces), content_type


def render_pieces(accept: str, collected: Iterable[Family | ClientFamily]) -> tuple[list[bytes], str]:
    """Return the same in pieces: a page of 1,000 slots takes longer to put together than to write."""
    encode: Callable[[Collector], bytes]
    encode, content_type = choose_encoder(accept)
    ours: list[Family] = []
    others: list[ClientFamily] = []
    for family in collected:
        own = family if isinstance(family, Family) else converted(family)
        if own is not None:
            ours.append(own)
        elif isinstance(family, ClientFamily):
            others.append(family)
    lines = render_families(ours, openmetrics=content_type.startswith("application/openmetrics-text"))
    return [*lines, encode(_Collected(others))], content_type


def converted(family: ClientFamily) -> Family | None:
    """Return prometheus_client's family as one of ours; None for what is more than one sample a series: histograms."""
    name = f"{family.name}_total" if family.type == "counter" else family.name
    samples = family.samples
    if family.type not in ("gauge", "counter") or any(s.name != name or s.timestamp or s.exemplar for s in samples):
        return None
    labels = [label_text(tuple(sample.labels), tuple(sample.labels.values())) for sample in samples]
    metric = Metric(name, family.type, (), family.documentation, "prometheus_client")
    return Family(metric, [Samples(name, labels, [sample.value for sample in samples])])


class _Collected:
    def __init__(self, collected: list[ClientFamily]) -> None:
        self._collected = collected

    def collect(self) -> list[ClientFamily]:
        return self._collected
