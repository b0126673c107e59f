"""Alerts that come, or end, when their episode closes its connections or has lost their node, or the healer stops."""

import asyncio
import json
from dataclasses import replace

from healer.webhook.payload import Action
from pgslot.config.model import Config, Node, PatroniConfig
from tests.support.builders.episodes import NOWHERE, SETTINGS, Books, config, firing
from tests.support.running_healer import QUICK, alert, healing, watched
from tests.support.servers.stack import Stack


async def test_an_alert_that_comes_while_connections_are_closed_has_an_episode_of_its_own(databases: Stack) -> None:
    """Its outcome is not written yet, but nobody looks any more: whoever joined would be told `cancelled`, unseen."""
    books = Books(Config((watched(databases),), QUICK))
    books.episodes.submit(firing("gone", node="standby"))
    [report] = books.episodes.reports
    # The very moment is the point.
    while not report.slots:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert report.outcome is None
    assert books.episodes.submit(firing("late", node="standby")) is Action.JOINED
    await books.ended()
    assert [[(heal.slot_name, heal.outcome) for heal in each.slots] for each in books.episodes.reports] == [
        [("late", "resolved_itself")],
        [("gone", "resolved_itself")],
    ]


async def test_an_alert_resolves_also_when_its_node_is_no_member_any_more() -> None:
    """A failover takes nodes away, and the episode goes on without a look at them: its alert's end ends it."""
    known = replace(config().clusters[0], patroni=PatroniConfig(("http://127.0.0.1:1",)))
    books = Books(Config((known,), SETTINGS))
    books.episodes.submit(firing())
    books.episodes.reconfigure(Config((replace(known, nodes=(Node("c", "other", NOWHERE),)),), SETTINGS))
    assert books.running == 1
    assert books.episodes.submit(firing(firing=False)) is Action.RESOLVED
    await books.ended()
    [report] = books.episodes.reports
    assert (report.outcome, report.why) == ("cancelled", "the alert was resolved while the slot still waited")


async def test_a_shutdown_stops_episodes_before_it_waits_for_requests() -> None:
    """Whoever is slow to send or to read has some seconds more, in which no call is made."""
    async with healing(*config().clusters) as healer:
        await healer.post(alert("s", node="n"))
        await healer.until("it runs", len)
        assert healer.client.app is not None
        await healer.client.app.shutdown()
        [episode] = await healer.episodes()
        assert (episode["outcome"], episode["why"]) == ("cancelled", "the healer stops")


async def test_a_webhook_whose_body_comes_after_the_shutdown_began_is_sent_again() -> None:
    """It was let in before; with a 200 its alerts would be lost, as nobody takes them up any more."""
    async with healing(*config().clusters) as healer:
        body = json.dumps({"version": "4", "alerts": [alert("s", node="n")]}).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", healer.client.server.port)
        head = f"POST /alerts HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\nExpect: 100-continue\r\n\r\n"
        writer.write(head.encode())
        # It asks for the body: the request is being handled.
        assert b" 100 " in await reader.readuntil(b"\r\n\r\n")
        assert healer.client.app is not None
        await healer.client.app.shutdown()
        writer.write(body)
        assert b" 503 " in await reader.readline()
        writer.close()
        assert await healer.episodes() == []
