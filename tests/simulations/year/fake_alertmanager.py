"""A fake Alertmanager that sends firing alerts, repeats and retries them, and loses some webhooks."""

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Self

from healer.webhook.alertmanager_api import AlertListing
from healer.webhook.payload import Alert

REPEAT = 300.0
RETRY = 10.0
GROUP_INTERVAL = 30.0
LOST_SHARE = 0.05
"""The share of webhooks that are lost, and sent again."""
TWICE_SHARE = 0.3
"""The share of webhooks that the second Alertmanager of the pair sends as well."""


@dataclass
class FakeAlertmanager:
    """`deliver` takes a body and returns the status; None: the healer is down."""

    chance: random.Random
    deliver: Callable[[bytes], int | None]
    firing: dict[str, dict[str, str]] = field(default_factory=dict)
    silenced: set[str] = field(default_factory=set)
    taken: set[str] = field(default_factory=set)
    """Alerts that the healer has answered with 200 at least once."""
    sent: int = 0
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)

    def fire(self, labels: dict[str, str]) -> str:
        """Start an alert; return its fingerprint."""
        fingerprint = "/".join(labels[name] for name in ("alertname", "cluster", "node", "slot_name") if name in labels)
        self.firing[fingerprint] = labels
        if fingerprint not in self._tasks or self._tasks[fingerprint].done():
            self._tasks[fingerprint] = asyncio.create_task(self._keep_sending(fingerprint, labels))
        return fingerprint

    def resolve(self, fingerprint: str) -> None:
        """End an alert; the webhook follows at the next group interval."""
        self.firing.pop(fingerprint, None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """There is no connection."""

    async def fetch(self) -> AlertListing:
        """Return the firing alerts, as the API does."""
        alerts = {name: Alert(firing=True, labels=labels, fingerprint=name) for name, labels in self.firing.items()}
        return AlertListing(alerts, dict.fromkeys(self.silenced & alerts.keys(), "silenced (by us)"))

    async def complete(self) -> bool:
        """Return that it has all alerts: it never restarts."""
        return True

    async def close(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _keep_sending(self, fingerprint: str, labels: dict[str, str]) -> None:
        while fingerprint in self.firing:
            if fingerprint not in self.silenced:
                await self._send(fingerprint, labels, "firing")
            for _ in range(int(REPEAT / GROUP_INTERVAL)):
                await asyncio.sleep(self.chance.uniform(0.5, 1.0) * GROUP_INTERVAL)
                if fingerprint not in self.firing:
                    break
        if fingerprint not in self.silenced:
            await self._send(fingerprint, labels, "resolved")
        self.silenced.discard(fingerprint)
        self.taken.discard(fingerprint)

    async def _send(self, fingerprint: str, labels: dict[str, str], status: str) -> None:
        copies = 1 + (self.chance.random() < TWICE_SHARE)
        while copies and (status == "resolved" or fingerprint in self.firing):
            self.sent += 1
            lost = self.chance.random() < LOST_SHARE
            answer = None if lost else self.deliver(_body(fingerprint, labels, status))
            if answer == 200:
                copies -= 1
                self.taken.add(fingerprint)
            if copies:
                await asyncio.sleep(RETRY)


def _body(fingerprint: str, labels: dict[str, str], status: str) -> bytes:
    alert: dict[str, Any] = {"status": status, "labels": labels, "annotations": {}, "fingerprint": fingerprint}
    return json.dumps({"version": "4", "receiver": "healer", "status": status, "alerts": [alert]}).encode()
