"""Alertmanager's API v2: which alerts for the healer it has, which of them are silenced, and since when it runs."""

import asyncio
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from healer.remedies.registry import REMEDIES
from healer.webhook.body import HEAL_LABEL, Alert, is_text, is_unmeasured
from pgslot.httpclient import HttpClient, HttpError

_FOR_US = f'{HEAL_LABEL}=~"{"|".join(REMEDIES)}"'

TIMEOUT = 10.0
MAX_ANSWER_BYTES = 64 * 1024 * 1024
"""Bytes."""
_PARSER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="json")
"""Nobody else's work is done in it: name servers that hang fill asyncio's own threads."""
REFILLED_SECONDS = 300.0
"""Alertmanager keeps no alerts over a restart; Prometheus sends what fires again each minute or so."""


class AlertmanagerError(Exception):
    """Alertmanager did not answer, or not as its API promises."""


@dataclass(frozen=True, slots=True)
class AlertListing:
    """What Alertmanager has at one moment."""

    alerts: Mapping[str, Alert]
    """By fingerprint; those that fire and carry the healer's label."""
    muted: Mapping[str, str]
    """Of these, which are silenced or inhibited, and by what in words (status.silencedBy, inhibitedBy, mutedBy)."""
    complete: bool
    """False while it may not have heard of all alerts again since its own start: absent is not resolved then."""


async def fetch_listing(base_url: str) -> AlertListing:
    """Ask for the alerts and the status (GET /api/v2/alerts, /api/v2/status). Raises AlertmanagerError."""
    try:
        async with HttpClient(base_url, timeout=TIMEOUT, max_body_bytes=MAX_ANSWER_BYTES) as client:
            status, now = await _get(client, "/api/v2/status", {})
            items, _ = await _get(client, "/api/v2/alerts", {"filter": _FOR_US})
        return parse_listing(items, status, now)
    except HttpError as error:
        raise AlertmanagerError(f"{type(error.__cause__ or error).__name__}: {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise AlertmanagerError(f"{type(error).__name__}: {error}") from error


def parse_listing(items: Any, status: Any, now: datetime | None) -> AlertListing:
    """
    Return what the two answers say; `now` is Alertmanager's own time, None when it does not tell.

    Since when it runs is by its clock, which the healer's need not agree with. Raises ValueError, TypeError, KeyError,
    AttributeError or OverflowError when they are not what the API promises.
    """
    alerts: dict[str, Alert] = {}
    muted: dict[str, str] = {}
    for item in items:
        labels = {_text(name): _text(value) for name, value in item["labels"].items()}
        unmeasured = is_unmeasured(labels, item.get("annotations"))
        alert = Alert(firing=True, labels=labels, fingerprint=_text(item["fingerprint"]), unmeasured=unmeasured)
        alerts[alert.fingerprint] = alert
        for key, word in (("silencedBy", "silenced"), ("inhibitedBy", "inhibited"), ("mutedBy", "muted")):
            by = item["status"].get(key)
            if by:
                muted[alert.fingerprint] = f"{word} (by {', '.join(map(str, by))[:200]})"
                break
    started = datetime.fromisoformat(status["uptime"])
    settled = status["cluster"]["status"] in ("ready", "disabled")
    refilled = now is not None and (now - started).total_seconds() >= REFILLED_SECONDS
    return AlertListing(alerts, muted, complete=settled and refilled)


def _text(value: object) -> str:
    """Return it as text. Raises ValueError for what no page and no log could show."""
    if not is_text(found := str(value)):
        raise ValueError(f"expected text that UTF-8 can hold, found {ascii(found)[:100]}")
    return found


async def _get(client: HttpClient, path: str, parameters: dict[str, str]) -> tuple[Any, datetime | None]:
    """Return the answer's JSON, and the server's time when it answered (its header Date). Raises HttpError."""
    response = (await client.request("GET", path, params=parameters)).expect_ok()
    # An answer of this size takes a while to parse, during which webhooks have to be answered.
    parsed = await asyncio.get_running_loop().run_in_executor(_PARSER, response.json)
    date = response.headers.get("Date")
    return parsed, None if date is None else parsedate_to_datetime(date)
