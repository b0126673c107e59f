"""What a healer knows before an alert comes: the history of clusters whose transactions may be ended."""

from dataclasses import replace

import pytest

from healer.episodes.memory import EpisodeMemories
from tests.support.blocking_transactions import cluster_with_termination, set_up_roles
from tests.support.running_healer import left_behind, until, watched
from tests.support.servers.stack import Stack


@pytest.fixture(autouse=True)
def _ready(databases: Stack) -> None:
    set_up_roles(databases.primary)


def observers(stack: Stack) -> int:
    return sum(row[1] == "pgslot_exporter" for row in left_behind(stack.primary))


async def test_primary_is_observed_without_an_alert_and_episodes_get_its_history(databases: Stack) -> None:
    memories = EpisodeMemories()
    cluster = cluster_with_termination(databases)
    memories.observe([cluster])
    try:
        memory = memories.of("c")
        assert memory.collector is not None
        await until(lambda: observers(databases) == 1, "the primary is observed")
        # The first one may be the regular one, which is in flight.
        snapshots = [await memory.collector.collect_node("c", "primary", 5.0) for _ in range(3)]
        assert len(snapshots[-1].history.samples) >= 2
        memories.observe([replace(cluster)])
        assert memories.of("c").collector is memory.collector, "a reload that changes nothing keeps the history"
    finally:
        await memories.close()
    await until(lambda: observers(databases) == 0, "its connections are closed")


@pytest.mark.parametrize("off", ["without the section", "switched off", "removed"])
async def test_cluster_whose_transactions_may_not_be_ended_is_not_observed(databases: Stack, off: str) -> None:
    memories = EpisodeMemories()
    memories.observe([cluster_with_termination(databases)])
    await until(lambda: observers(databases) == 1, "the primary is observed")
    clusters = {
        "without the section": [watched(databases)],
        "switched off": [cluster_with_termination(databases, enabled=False)],
        "removed": [],
    }[off]
    memories.observe(clusters)
    try:
        await until(lambda: observers(databases) == 0, "its connections are closed")
        assert memories.of("c").collector is None
    finally:
        await memories.close()


async def test_clock_is_remembered_over_episodes_and_forgotten_with_the_cluster() -> None:
    memories = EpisodeMemories()
    clock = memories.of("c").clock
    assert memories.clock("c") is clock
    memories.observe([])
    assert memories.clock("c") is not clock
    await memories.close()
