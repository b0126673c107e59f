"""Budgets: how many calls are left, and that they hold on real servers however often alerts come and go."""

from dataclasses import replace

import pytest

from healer.episodes.budget import WINDOW_SECONDS, CallBudget
from pgslot.config.model import HealerSettings
from tests.support.hanging_creations import blocked_creation
from tests.support.running_healer import QUICK, alert, healing, watched
from tests.support.servers.stack import Stack


def test_budget_limits_the_calls_within_any_hour() -> None:
    budget = CallBudget(3, 0.0, at_start=3)
    assert budget.left(0.0) == 3
    for moment in (0.0, 1000.0, 2000.0):
        budget.spend(moment)
    assert budget.left(2000.0) == 0
    assert budget.left(3599.0) == 0
    assert budget.left(3600.0) == 1
    assert budget.left(5600.0) == 3


def test_budget_fills_up_within_an_hour_after_a_start() -> None:
    """A healer that crashes repeatedly gets no new budget every time."""
    budget = CallBudget(100, 50.0, at_start=5)
    left = [budget.left(50.0 + seconds) for seconds in (0, 37, 360, 1800, 3600, 7200)]
    assert left == [5, 5, 14, 52, 100, 100]


def test_budget_below_one_burst_is_not_exceeded_at_start() -> None:
    assert CallBudget(2, 0.0, at_start=5).left(0.0) == 2


def test_budget_is_never_negative_after_a_resize() -> None:
    budget = CallBudget(10, 0.0, at_start=10)
    for _ in range(5):
        budget.spend(0.0)
    budget.resize(3)
    assert budget.left(0.0) == 0
    budget.resize(6)
    assert budget.left(0.0) == 1


BUDGETS = [
    (replace(QUICK, calls_per_episode=2), "the budget of calls is spent: calls per episode", 2),
    (replace(QUICK, calls_per_hour=3), "the budget of calls is spent: calls per cluster and hour", 3),
]


@pytest.mark.parametrize(("settings", "why", "calls"), BUDGETS)
async def test_episode_ends_when_a_budget_is_spent(
    databases: Stack, settings: HealerSettings, why: str, calls: int
) -> None:
    with blocked_creation(databases, "budget"):
        async with healing(watched(databases), settings=settings) as healer:
            await healer.post(alert("budget"))
            episode = await healer.ended()
            assert (episode["outcome"], episode["why"], episode["calls"]) == ("gave_up", why, calls)
            assert await healer.value("pgslot_heal_calls_total", cluster="c", result="ok") == calls


async def test_flapping_does_not_reset_the_budget_of_the_hour(databases: Stack) -> None:
    settings = replace(QUICK, calls_per_hour=4)
    with blocked_creation(databases, "flaps"):
        async with healing(watched(databases), settings=settings) as healer:
            outcomes = []
            for _ in range(4):
                await healer.post(alert("flaps"))
                await healer.until(
                    "it has called or ended", lambda episodes: episodes[0]["calls"] or episodes[0]["outcome"]
                )
                await healer.post(alert("flaps", firing=False))
                outcomes.append((await healer.ended())["outcome"])
                assert await healer.value("pgslot_heal_calls_remaining", cluster="c", budget="episode") is None
            await healer.post(alert("flaps"))
            assert (await healer.ended())["outcome"] == "gave_up"
            assert await healer.value("pgslot_heal_calls_total", cluster="c", result="ok") == 4
            assert await healer.value("pgslot_heal_calls_remaining", cluster="c", budget="hour") == 0
    assert set(outcomes) <= {"cancelled", "gave_up"}


async def test_alerts_beyond_clusters_at_once_are_refused(databases: Stack) -> None:
    """The answer is 503, so that Alertmanager sends them again: nothing is lost."""
    settings = replace(QUICK, clusters_at_once=2)
    clusters = [watched(databases, name) for name in ("a", "b", "c")]
    with blocked_creation(databases, "storm"):
        async with healing(*clusters, settings=settings) as healer:
            assert await healer.value("pgslot_heal_clusters_remaining") == 2
            alerts = [alert("storm", cluster=name) for name in ("a", "b", "c")]
            assert await healer.post(*alerts) == (503, "started=2 refused_budget=1")
            assert await healer.value("pgslot_heal_clusters_remaining") == 0
            assert await healer.value("pgslot_heal_alerts_total", action="refused_budget") == 1
            assert await healer.post(alert("storm", cluster="a", firing=False)) == (200, "resolved=1")
            await healer.until(
                "one has ended", lambda episodes: [episode for episode in episodes if episode["outcome"]]
            )
            assert await healer.post(*alerts[1:]) == (200, "joined=1 started=1")


def test_calls_that_the_primary_showed_count_once_also_if_they_are_ours() -> None:
    budget = CallBudget(3, 0.0, at_start=3)
    budget.spend(100.0)
    for _ in range(2):
        budget.learn([99.0, 40.0])
        assert budget.left(110.0) == 1
    budget.learn([])
    assert budget.left(110.0) == 1, "rows that a failover has lost are remembered"
    assert budget.left(40.0 + WINDOW_SECONDS) == 2


def test_two_calls_within_seconds_are_two() -> None:
    budget = CallBudget(3, 0.0, at_start=3)
    budget.learn([99.0, 100.0])
    budget.learn([99.0, 100.0])
    assert budget.left(110.0) == 1
