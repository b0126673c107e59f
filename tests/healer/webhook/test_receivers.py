"""Of which receivers webhooks came: what the healer remembers of that, and what the doctor's test alerts do to it."""

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


async def test_the_receivers_of_webhooks_are_remembered_and_bounded() -> None:
    async with healing(CLUSTER) as healer:

        async def told(receiver: Any, *alerts: dict[str, Any]) -> None:
            body = {"version": "4", "receiver": receiver, "alerts": list(alerts)}
            assert (await healer.client.post("/alerts", json=body)).status == 200

        async def known(name: str = "webhook") -> set[str]:
            pattern = rf'^pgslot_heal_receiver_last_{name}_timestamp_seconds{{receiver="([^"]*)"}}'
            return set(re.findall(pattern, await healer.metrics(), re.MULTILINE))

        beat = alert("s", labels={"alertname": "PgSlotWatchdog"})
        # The doctor's empty one proves nothing of Alertmanager; nor does one that names nobody, or nothing sensible.
        for receiver, alerts in (("empty", []), (None, [beat]), (7, [beat]), ("", [beat]), ("x" * 201, [beat])):
            await told(receiver, *alerts)
        assert await known() == set()
        for number in range(MAX_RECEIVERS + 5):
            await told("steady", beat)
            await told(f"r{number}", beat)
        names = await known()
        assert len(names) == MAX_RECEIVERS
        assert {"steady", f"r{MAX_RECEIVERS + 4}"} <= names
        assert "r0" not in names
        last = await healer.value("pgslot_heal_receiver_last_webhook_timestamp_seconds", receiver="steady")
        assert last == pytest.approx(time.time(), abs=30)
        assert await known("test") == set()


async def test_a_test_alert_is_noted_and_starts_nothing() -> None:
    async with healing(CLUSTER) as healer:
        labels = alert("s")["labels"] | {"pgslot_test": "1"}
        for status, noted in (("resolved", None), ("firing", True)):
            body = {"version": "4", "receiver": "healer", "alerts": [alert("s", labels=labels, status=status)]}
            answer = await healer.client.post("/alerts", json=body)
            assert (answer.status, (await answer.text()).strip()) == (200, "ignored_test=1")
            seen = await healer.value("pgslot_heal_receiver_last_test_timestamp_seconds", receiver="healer")
            assert (seen is not None) is bool(noted)
        assert await healer.episodes() == []
