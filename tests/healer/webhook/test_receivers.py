"""The metrics of Alertmanager's receivers, from webhooks and from the doctor's test alerts."""

import re
import time
from typing import Any

import pytest

from healer.webhook.receivers import MAX_RECEIVERS
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, HealerConfig, Node
from tests.support.running_healer import alert, healing

NOWHERE = Conninfo("host=127.0.0.1 port=1 user=x")
CLUSTER = Cluster("c", (Node("c", "standby", NOWHERE),), HealerConfig(NOWHERE, enabled=True, dry_run=False))


async def test_receivers_of_webhooks_are_recorded_and_bounded() -> None:
    async with healing(CLUSTER) as healer:

        async def send(receiver: Any, *alerts: dict[str, Any]) -> None:
            body = {"version": "4", "receiver": receiver, "alerts": list(alerts)}
            assert (await healer.client.post("/alerts", json=body)).status == 200

        async def recorded(name: str = "webhook") -> set[str]:
            pattern = rf'^pgslot_heal_receiver_last_{name}_timestamp_seconds{{receiver="([^"]*)"}}'
            return set(re.findall(pattern, await healer.metrics(), re.MULTILINE))

        beat = alert("s", labels={"alertname": "PgSlotWatchdog"})
        # The doctor's empty webhook proves nothing about Alertmanager; nor does one without a usable receiver.
        for receiver, alerts in (("empty", []), (None, [beat]), (7, [beat]), ("", [beat]), ("x" * 201, [beat])):
            await send(receiver, *alerts)
        assert await recorded() == set()
        for number in range(MAX_RECEIVERS + 5):
            await send("steady", beat)
            await send(f"r{number}", beat)
        names = await recorded()
        assert len(names) == MAX_RECEIVERS
        assert {"steady", f"r{MAX_RECEIVERS + 4}"} <= names
        assert "r0" not in names
        last = await healer.value("pgslot_heal_receiver_last_webhook_timestamp_seconds", receiver="steady")
        assert last == pytest.approx(time.time(), abs=30)
        assert await recorded("test") == set()


async def test_test_alert_is_recorded_and_starts_no_episode() -> None:
    async with healing(CLUSTER) as healer:
        labels = alert("s")["labels"] | {"pgslot_test": "1"}
        for status, recorded in (("resolved", False), ("firing", True)):
            body = {"version": "4", "receiver": "healer", "alerts": [alert("s", labels=labels, status=status)]}
            answer = await healer.client.post("/alerts", json=body)
            assert (answer.status, (await answer.text()).strip()) == (200, "ignored_test=1")
            received_at = await healer.value("pgslot_heal_receiver_last_test_timestamp_seconds", receiver="healer")
            assert (received_at is not None) is recorded
        assert await healer.episodes() == []
