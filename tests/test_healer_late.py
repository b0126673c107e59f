"""Alerts that come, or end, when their episode is over but for its connections, or goes on without their node."""

import asyncio
from dataclasses import replace

from exporter.config import Config, Node
from exporter.patroni import Patroni
from healer.alerts import Action
from tests.healing import QUICK, watched
from tests.stack.stack import Stack
from tests.test_healer_lifecycle import NOWHERE, SETTINGS, Books, config, firing


async def test_an_alert_that_comes_while_connections_are_closed_has_an_episode_of_its_own(databases: Stack) -> None:
    """Its outcome is not written yet, but nobody looks any more: whoever joined would be told `cancelled`, unseen."""
    books = Books(Config((watched(databases),), QUICK))
    books.episodes.take(firing("gone", node="standby"))
    [report] = books.episodes.reports
    # The very moment is the point.
    while not report.slots:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert report.outcome is None
    assert books.episodes.take(firing("late", node="standby")) is Action.JOINED
    await books.ended()
    assert [[(heal.slot_name, heal.outcome) for heal in each.slots] for each in books.episodes.reports] == [
        [("late", "resolved_itself")],
        [("gone", "resolved_itself")],
    ]


async def test_an_alert_resolves_also_when_its_node_is_no_member_any_more() -> None:
    """A failover takes nodes away, and the episode goes on without a look at them: its alert's end ends it."""
    known = replace(config().clusters[0], patroni=Patroni(("http://127.0.0.1:1",)))
    books = Books(Config((known,), SETTINGS))
    books.episodes.take(firing())
    books.episodes.reconfigure(Config((replace(known, nodes=(Node("c", "other", NOWHERE),)),), SETTINGS))
    assert books.running == 1
    assert books.episodes.take(firing(firing=False)) is Action.RESOLVED
    await books.ended()
    [report] = books.episodes.reports
    assert (report.outcome, report.why) == ("cancelled", "the alert was resolved while the slot still waited")
