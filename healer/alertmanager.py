"""Alertmanager's API v2: the alerts that fire already when the healer starts; their next webhook may be hours away."""

import asyncio
import logging
from typing import Any

import aiohttp

from exporter.log import event
from healer.alerts import HEAL_ACTION, HEAL_LABEL, Alert

RETRY_SECONDS = 5.0
TIMEOUT = 10.0
LARGEST_ANSWER = 16 * 1024 * 1024

_log = logging.getLogger(__name__)


class AlertmanagerError(Exception):
    """Alertmanager did not answer, or not as its API promises."""


async def running_alerts(base_url: str) -> list[Alert]:
    """
    Return the alerts for the healer that fire and are neither silenced nor inhibited (GET /api/v2/alerts).

    Raises AlertmanagerError.
    """
    parameters = {
        "filter": f'{HEAL_LABEL}="{HEAL_ACTION}"',
        "active": "true",
        "silenced": "false",
        "inhibited": "false",
    }
    try:
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TIMEOUT)) as client,
            client.get(f"{base_url}/api/v2/alerts", params=parameters) as answer,
        ):
            if answer.status != 200:
                raise AlertmanagerError(f"expected 200, found {answer.status}")
            if answer.content_length is not None and answer.content_length > LARGEST_ANSWER:
                raise AlertmanagerError(f"expected at most {LARGEST_ANSWER} bytes, found {answer.content_length}")
            return [_alert(item) for item in await answer.json()]
    except (aiohttp.ClientError, TimeoutError, ValueError, TypeError, KeyError) as error:
        raise AlertmanagerError(f"{type(error).__name__}: {error}") from error


async def running_alerts_eventually(base_url: str) -> list[Alert]:
    """Ask until Alertmanager answers; the failure is logged once."""
    failed = False
    while True:
        try:
            alerts = await running_alerts(base_url)
        except AlertmanagerError as error:
            if not failed:
                event(_log, logging.WARNING, "cannot ask Alertmanager for running alerts", error=str(error))
            failed = True
            await asyncio.sleep(RETRY_SECONDS)
        else:
            event(_log, logging.INFO, "asked Alertmanager for running alerts", alerts=len(alerts))
            return alerts


def _alert(item: dict[str, Any]) -> Alert:
    labels = {str(name): str(value) for name, value in item["labels"].items()}
    return Alert(firing=True, labels=labels, fingerprint=str(item["fingerprint"]))
