"""A page rendered with the cache of the last scrape is the same as one rendered without."""

import math
from dataclasses import replace
from functools import partial
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from exporter.catalogue import CATALOGUE
from exporter.series import cluster_series
from pgslot.exposition.cache import CachedColumn, CachedSeries, RenderCache
from pgslot.exposition.families import families
from pgslot.exposition.text_format import Samples, label_text, render_families
from pgslot.snapshot.model import ClusterSnapshot
from tests.support.builders.snapshots import SLOT, cluster, node

names = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=1, max_size=4, unique=True)
kinds = st.sampled_from([st.booleans(), st.integers(-(2**63), 2**63), st.floats().map(lambda value: value + 0.0)])
"""A column has one type, as it has in SQL; and no negative zero, which is equal to the other one."""


@given(data=st.data(), slots=names)
def test_cached_column_renders_as_its_samples_do(data: st.DataObject, slots: list[str]) -> None:
    """The same slots three times and then others, whatever the numbers."""
    cache = RenderCache()
    numbers = st.none() | data.draw(kinds)
    for names_now in (slots, slots, slots, slots[1:], [*slots, "100%d %% more"]):
        labels = [label_text(("slot_name",), (slot,)) for slot in names_now]
        values = tuple(data.draw(numbers) for _ in names_now)
        for _ in range(2):
            assert CachedColumn(cache, "n", "it", labels, values).lines() == Samples("it", labels, values).lines()


def test_changed_numbers_of_the_same_slots_are_rendered_by_a_template() -> None:
    cache = RenderCache()
    labels = ['a="100%"', 'a="b"', 'a="c"', 'a="d"']
    for offset in range(4):
        values = (offset, None, True, 0.5 + offset)
        lines = CachedColumn(cache, "n", "it", labels, values).lines()
        assert lines.decode() == f'it{{a="100%"}} {offset}\nit{{a="c"}} 1\nit{{a="d"}} {0.5 + offset}\n'
        assert (cache.last_result("n", "it").template is not None) == (offset > 0)


def test_infinity_and_nan_are_rendered_as_prometheus_reads_them() -> None:
    cache = RenderCache()
    for value in (1.5, math.inf, -math.inf, math.nan, math.nan, 2.5):
        lines = CachedColumn(cache, "n", "it", ['a="b"'], (value,)).lines()
        assert lines == Samples("it", ['a="b"'], (value,)).lines()


def test_equal_input_is_rendered_once() -> None:
    cache = RenderCache()
    rendered = []

    def lines_of(inputs: object) -> bytes:
        def render() -> bytes:
            rendered.append(inputs)
            return f"{inputs}".encode()

        return CachedSeries(cache, "n", "it", inputs, render).lines()

    lines = [lines_of(inputs) for inputs in (["a"], ["a"], ["b"], ["b"], ["a"])]
    assert lines == [b"['a']"] * 2 + [b"['b']"] * 2 + [b"['a']"]
    assert rendered == [["a"], ["b"], ["a"]]
    cache.clear()
    lines_of(["a"])
    assert len(rendered) == 4


def test_nodes_do_not_share_entries() -> None:
    cache = RenderCache()
    assert [cache.get_or_render(node, "it", 0, partial(str, node)) for node in ("p", "s", "p")] == ["p", "s", "p"]


def page(snapshot: ClusterSnapshot, cache: RenderCache | None) -> str:
    return b"".join(
        render_families(families(cluster_series(snapshot, cache=cache), CATALOGUE), openmetrics=False)
    ).decode()


def test_page_is_the_same_with_and_without_cache() -> None:
    """Slots that come, go, and change their states and their kind, on two nodes."""
    cache = RenderCache()
    lost = SLOT._replace(wal_status="lost", invalidation_reason="wal_removed", retained_wal_bytes=None)
    other = SLOT._replace(slot_name="other", synced=True, failover=True)
    stories = [
        (SLOT,),
        (SLOT,),
        (SLOT, other),
        (SLOT._replace(retained_wal_bytes=7), other),
        (SLOT._replace(retained_wal_bytes=8), other),
        (lost, other),
        (lost._replace(wal_status=None), other._replace(temporary=True)),
        (other,),
        (),
        (SLOT,),
    ]
    pages = []
    for slots in stories:
        snapshot = cluster(node("p", recovery=False, slots=slots), node("s", recovery=True, slots=slots[:1]))
        for part in (snapshot, replace(snapshot, nodes=snapshot.nodes[:1])):
            assert page(part, cache) == page(part, None)
        pages.append(page(snapshot, cache))
    assert pages[0] == pages[1]
    assert all(earlier != later for earlier, later in list(pairwise(pages))[1:])
