"""The five stories that the demo shows, end to end on real servers."""

from collections.abc import Callable, Iterator

import pytest

from tests import stories
from tests.stack.stack import Stack
from tests.stories import ROWS, THRESHOLDS, Check, Scene

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with Stack(thresholds=THRESHOLDS) as stack:
        stack.start_databases(rows=ROWS)
        stack.start_consumer()
        stack.start_exporter()
        stack.start_monitoring()
        yield Scene(stack, lambda source, text, _at: print(f"{source}: {text}"))


def assert_all_hold(checks: list[Check]) -> None:
    assert checks
    assert [check.claim for check in checks if not check.held] == []


STORIES = [stories.control, stories.healed, stories.consumer, stories.blocked, stories.no_capability]


@pytest.mark.parametrize("story", STORIES, ids=[story.__name__ for story in STORIES])
def test_story(scene: Scene, story: Callable[[Scene], list[Check]]) -> None:
    assert_all_hold(story(scene))


def test_the_demo_shows_these_stories() -> None:
    assert list(stories.STORIES.values()) == STORIES
