"""Receivers in Alertmanager's configuration, with webhooks to the healer, to a chat, or with a hidden URL."""

from typing import Any

from healer.doctor.checks.receivers import Evidence, Receiver, parse_receivers

HEALER_WEBHOOK = {"url": "http://healer:9878/alerts"}
CHAT = {"url": "http://chat/hook"}
SECRET = {"url": "<secret>"}


def receiver(*webhooks: dict[str, Any], delivered: bool | None = None) -> Receiver:
    data = {"receivers": [{"name": "r", "webhook_configs": list(webhooks)}]}
    return parse_receivers(data, {"r": Evidence(delivered, "")})["r"]
