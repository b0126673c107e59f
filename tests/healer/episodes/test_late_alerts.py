"""Alerts that arrive or resolve while an episode closes its connections, after a member left, or at a shutdown."""

import asyncio
import json
from dataclasses import replace

from healer.webhook.payload import Action
from pgslot.config.model import Config, Node, PatroniConfig
from tests.support.builders.episodes import NOWHERE, SETTINGS, RecordedManager, firing_alert, healer_config
from tests.support.running_healer import QUICK, alert, healing, watched
from tests.support.servers.stack import Stack


async def test_alert_during_the_closing_of_connections_gets_its_own_episode(databases: Stack) -> None:
    """The episode has no outcome yet, but takes no more snapshots: a slot that joined would be cancelled unobserved."""
    recorded = RecordedManager(Config((watched(databases),), QUICK))
    recorded.manager.submit(firing_alert("gone", node="standby"))
    [report] = recorded.manager.reports
    # The test is about exactly this moment.
    while not report.slots:  # noqa: ASYNC110
        await asyncio.sleep(0)
    assert report.outcome is None
    assert recorded.manager.submit(firing_alert("late", node="standby")) is Action.JOINED
    await recorded.until_idle()
    assert [[(heal.slot_name, heal.outcome) for heal in report.slots] for report in recorded.manager.reports] == [
        [("late", "resolved_itself")],
        [("gone", "resolved_itself")],
    ]


async def test_alert_of_a_removed_member_can_resolve() -> None:
    """A failover removed its node, which the episode no longer observes: it ends when the alert resolves."""
    known = replace(healer_config().clusters[0], patroni=PatroniConfig(("http://127.0.0.1:1",)))
    recorded = RecordedManager(Config((known,), SETTINGS))
    recorded.manager.submit(firing_alert())
    recorded.manager.reconfigure(Config((replace(known, nodes=(Node("c", "other", NOWHERE),)),), SETTINGS))
    assert recorded.running == 1
    assert recorded.manager.submit(firing_alert(firing=False)) is Action.RESOLVED
    await recorded.until_idle()
    [report] = recorded.manager.reports
    assert (report.outcome, report.why) == ("cancelled", "the alert was resolved while the slot still waited")


async def test_shutdown_stops_episodes_before_it_waits_for_requests() -> None:
    """A slow client gets some seconds more, in which no call is made."""
    async with healing(*healer_config().clusters) as healer:
        await healer.post(alert("s", node="n"))
        await healer.until("it runs", len)
        assert healer.client.app is not None
        await healer.client.app.shutdown()
        [episode] = await healer.episodes()
        assert (episode["outcome"], episode["why"]) == ("cancelled", "the healer stops")


async def test_webhook_whose_body_arrives_during_the_shutdown_is_answered_503() -> None:
    """The request began before; with a 200 its alerts would be lost, because no episode starts any more."""
    async with healing(*healer_config().clusters) as healer:
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
