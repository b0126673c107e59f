"""Blocks of series, and prometheus_client's families, to the page that Prometheus reads."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from prometheus_client import Metric as ClientFamily
from prometheus_client.exposition import choose_encoder

from pgslot.exposition.metric import Metric
from pgslot.exposition.text_format import Family, Samples, SeriesBlock, label_text, render_families


class Collector(Protocol):
    """What prometheus_client's encoders take: anything that returns its families."""

    def collect(self) -> Iterable[ClientFamily]: ...


def families(series: Iterable[SeriesBlock], catalogue: Mapping[str, Metric]) -> list[Family]:
    """Group blocks into families, in the order of the catalogue, which maps names to metrics. Renders nothing yet."""
    by_name: dict[str, list[SeriesBlock]] = {}
    for block in series:
        by_name.setdefault(block.name, []).append(block)
    return [Family(metric, by_name[metric.name]) for metric in catalogue.values() if metric.name in by_name]


def render(accept: str, collected: Iterable[Family | ClientFamily]) -> tuple[bytes, str]:
    """Return the body and its content type, in the format that the scraper's Accept header asks for."""
    pieces, content_type = render_pieces(accept, collected)
    return b"".join(pieces), content_type


def render_pieces(accept: str, collected: Iterable[Family | ClientFamily]) -> tuple[list[bytes], str]:
    """
    Return the body as a list of pieces, so that a large one need not be copied together, and its content type.

    This is where blocks are rendered, cached ones from their `RenderCache`.
    """
    encode: Callable[[Collector], bytes]
    encode, content_type = choose_encoder(accept)
    rendered_here: list[Family] = []
    left_to_client: list[ClientFamily] = []
    for family in collected:
        converted = family if isinstance(family, Family) else convert(family)
        if converted is not None:
            rendered_here.append(converted)
        elif isinstance(family, ClientFamily):
            left_to_client.append(family)
    lines = render_families(rendered_here, openmetrics=content_type.startswith("application/openmetrics-text"))
    return [*lines, encode(_Collected(left_to_client))], content_type


def convert(family: ClientFamily) -> Family | None:
    """Return prometheus_client's family as ours; None if a series has more than one sample, as a histogram's has."""
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
