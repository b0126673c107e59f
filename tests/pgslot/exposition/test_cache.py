"""What is kept of the last scrape changes nothing of the next one but the time that it takes."""

import math
from dataclasses import replace
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
def test_a_column_reads_as_its_series_do(data: st.DataObject, slots: list[str]) -> None:
    """The same slots three times and then others, whatever the numbers."""
    memory = RenderCache()
    numbers = st.none() | data.draw(kinds)
    for found in (slots, slots, slots, slots[1:], [*slots, "100%d %% more"]):
        labels = [label_text(("slot_name",), (slot,)) for slot in found]
        values = tuple(data.draw(numbers) for _ in found)
        for _ in range(2):
            assert CachedColumn(memory, "n", "it", labels, values).lines() == Samples("it", labels, values).lines()


def test_numbers_that_change_are_put_into_a_template() -> None:
    memory = RenderCache()
    labels = ['a="100%"', 'a="b"', 'a="c"', 'a="d"']
    for offset in range(4):
        values = (offset, None, True, 0.5 + offset)
        lines = CachedColumn(memory, "n", "it", labels, values).lines()
        assert lines.decode() == f'it{{a="100%"}} {offset}\nit{{a="c"}} 1\nit{{a="d"}} {0.5 + offset}\n'
        assert (memory.previous("n", "it").template is not None) == (offset > 0)


def test_a_number_that_is_none_is_written_as_prometheus_reads_it() -> None:
    memory = RenderCache()
    for value in (1.5, math.inf, -math.inf, math.nan, math.nan, 2.5):
        lines = CachedColumn(memory, "n", "it", ['a="b"'], (value,)).lines()
        assert lines == Samples("it", ['a="b"'], (value,)).lines()


def test_what_is_made_from_the_same_is_made_once() -> None:
    memory = RenderCache()
    made = []

    def made_from(inputs: object) -> bytes:
        def make() -> bytes:
            made.append(inputs)
            return f"{inputs}".encode()

        return CachedSeries(memory, "n", "it", inputs, make).lines()

    assert [made_from(each) for each in (["a"], ["a"], ["b"], ["b"], ["a"])] == [b"['a']"] * 2 + [b"['b']"] * 2 + [
        b"['a']"
    ]
    assert made == [["a"], ["b"], ["a"]]
    memory.clear()
    made_from(["a"])
    assert len(made) == 4


def test_two_nodes_are_not_mixed_up() -> None:
    memory = RenderCache()
    assert [memory.get_or_render(each, "it", 0, lambda each=each: each) for each in ("p", "s", "p")] == ["p", "s", "p"]  # type: ignore[misc]


def page(snapshot: ClusterSnapshot, memory: RenderCache | None) -> str:
    return b"".join(
        render_families(families(cluster_series(snapshot, memory=memory), CATALOGUE), openmetrics=False)
    ).decode()


def test_a_page_is_the_same_with_and_without_memory() -> None:
    """Slots that come, go, change their states and their kind, on two nodes of one name but for the cluster."""
    memory = RenderCache()
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
    seen = []
    for slots in stories:
        snapshot = cluster(node("p", recovery=False, slots=slots), node("s", recovery=True, slots=slots[:1]))
        for each in (snapshot, replace(snapshot, nodes=snapshot.nodes[:1])):
            assert page(each, memory) == page(each, None)
        seen.append(page(snapshot, memory))
    assert seen[0] == seen[1]
    assert all(one != another for one, another in list(pairwise(seen))[1:])
