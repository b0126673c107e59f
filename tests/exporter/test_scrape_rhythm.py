"""Whether a node is scraped, so that a page need not query it."""

from collections.abc import Sequence

import pytest

from exporter.held_wal import NodeKey
from exporter.latest_look import ScrapeRhythm

NODE = NodeKey("c", "n")


@pytest.mark.parametrize(
    ("scrapes", "now", "expected"),
    [
        ([], 0.0, False),
        ([0.0], 1.0, False),
        ([0.0, 15.0], 16.0, True),
        ([0.0, 15.0], 37.0, True),
        ([0.0, 15.0], 38.0, False),
        ([0.0, 60.0], 145.0, True),
        ([0.0, 300.0], 301.0, False),
        ([0.0, 300.0, 315.0], 316.0, False),
        ([0.0, 300.0, 315.0, 330.0], 331.0, True),
        ([0.0, 2.0, 15.0, 17.0], 30.0, True),
    ],
)
def test_scrapes_go_on_until_one_is_missing(scrapes: Sequence[float], now: float, *, expected: bool) -> None:
    rhythm = ScrapeRhythm()
    for at in scrapes:
        rhythm.note(NODE, at)
    assert rhythm.goes_on(NODE, now) is expected
    rhythm.keep_only(set())
    assert not rhythm.goes_on(NODE, now)
