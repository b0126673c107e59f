"""
Alertmanager's API v2, for reconciliation and for the doctor: status, alerts, silences, and posting alerts.

What a listing of alerts means to the healer is in `parse_listing`.
"""

import asyncio
import json
from collections.abc import Awaitable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, Self, TypeVar

from healer.remedies.registry import REMEDIES
from healer.webhook import deadlines
from healer.webhook.payload import HEAL_LABEL, Alert, is_text, is_unmeasured, parse_time, runbook_url
from pgslot.httpclient import HttpClient, HttpError, Response

HEAL_MATCHER = f'{HEAL_LABEL}=~"{"|".join(REMEDIES)}"'
"""Matches the alerts that the healer acts on."""

MAX_ANSWER_BYTES = 64 * 1024 * 1024

_PARSER = ThreadPoolExecutor(max_workers=1, thread_name_prefix="json")
"""Parses large answers, during which webhooks have to be answered. Slow name servers fill asyncio's own threads."""


AnswerT = TypeVar("AnswerT")


class AlertmanagerError(Exception):
    """Alertmanager did not answer, or not as its API promises."""


@dataclass(frozen=True, slots=True)
class AlertListing:
    """The alerts that Alertmanager has at one moment."""

    alerts: Mapping[str, Alert]
    """Firing alerts with the healer's label, by fingerprint."""
    muted: Mapping[str, str]
    """By fingerprint, what silences or inhibits it, in words (status.silencedBy, inhibitedBy, mutedBy)."""


class AlertmanagerClient:
    """The API v2 of one Alertmanager. All methods raise HttpError, also for another status than 200."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http

    async def status(self) -> Any:
        """Return version, cluster state, configuration and start time (GET /api/v2/status)."""
        return await _json(await self._get("/api/v2/status"))

    async def alerts(self, matcher: str | None = None) -> Any:
        """Return the alerts that fire and match, or all; silenced ones included (GET /api/v2/alerts)."""
        parameters = {} if matcher is None else {"filter": matcher}
        return await _json(await self._get("/api/v2/alerts", **parameters))

    async def silences(self) -> Any:
        """Return all silences, expired ones included (GET /api/v2/silences)."""
        return await _json(await self._get("/api/v2/silences"))

    async def post_alerts(self, alerts: Sequence[Mapping[str, Any]]) -> None:
        """Fire alerts, or end those with an `endsAt` in the past (POST /api/v2/alerts)."""
        # A redirect would turn it into a GET.
        answer = await self._http.request("POST", "/api/v2/alerts", body=json.dumps(alerts), allow_redirects=False)
        answer.expect_ok()

    async def metrics(self) -> str:
        """Return its metrics as text (GET /metrics)."""
        return (await self._get("/metrics")).text

    async def listing(self) -> AlertListing:
        """Return the alerts for the healer. Raises what `parse_listing` raises, too."""
        return parse_listing(await self.alerts(HEAL_MATCHER))

    async def has_all_alerts(self) -> bool:
        """Return whether a listing is complete. Raises what `is_complete` raises, too."""
        answer = await self._get("/api/v2/status")
        date = answer.headers.get("Date")
        return is_complete(await _json(answer), None if date is None else parsedate_to_datetime(date))

    async def _get(self, path: str, **parameters: str) -> Response:
        return (await self._http.request("GET", path, params=parameters)).expect_ok()


class ListedAlerts:
    """
    The alerts for the healer of the Alertmanager at one URL, whose connection is kept from one listing to the next.

    Both methods raise AlertmanagerError.
    """

    def __init__(self, base_url: str) -> None:
        self._http = HttpClient(base_url, timeout=deadlines.LISTING_TIMEOUT_SECONDS, max_body_bytes=MAX_ANSWER_BYTES)
        self._client = AlertmanagerClient(self._http)

    async def __aenter__(self) -> Self:
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.__aexit__()

    async def fetch(self) -> AlertListing:
        """Return the alerts that fire now."""
        return await _checked(self._client.listing())

    async def complete(self) -> bool:
        """
        Return whether an alert that is not listed has resolved.

        False while Alertmanager may not have received all alerts again since its own start.
        """
        return await _checked(self._client.has_all_alerts())


async def _checked(answer: Awaitable[AnswerT]) -> AnswerT:
    """Return the answer. Raises AlertmanagerError."""
    try:
        return await answer
    except HttpError as error:
        raise AlertmanagerError(f"{type(error.__cause__ or error).__name__}: {error}") from error
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise AlertmanagerError(f"{type(error).__name__}: {error}") from error


def parse_listing(items: Any) -> AlertListing:
    """
    Return what the answer of `alerts` says.

    Raises ValueError, TypeError, KeyError or AttributeError when it is not what the API promises.
    """
    alerts: dict[str, Alert] = {}
    muted: dict[str, str] = {}
    for item in items:
        labels = {_text(name): _text(value) for name, value in item["labels"].items()}
        annotations = item.get("annotations")
        unmeasured = is_unmeasured(labels, annotations)
        fingerprint, starts_at = _text(item["fingerprint"]), parse_time(item.get("startsAt"))
        alerts[fingerprint] = Alert(True, labels, fingerprint, unmeasured, starts_at, runbook_url(annotations))
        for key, word in (("silencedBy", "silenced"), ("inhibitedBy", "inhibited"), ("mutedBy", "muted")):
            by = item["status"].get(key)
            if by:
                muted[fingerprint] = f"{word} (by {', '.join(map(str, by))[:200]})"
                break
    return AlertListing(alerts, muted)


def is_complete(status: Any, now: datetime | None) -> bool:
    """
    Return whether Alertmanager has run for long enough to have received all alerts again, and has found its peers.

    `now`: Alertmanager's time, None if its answer has no `Date`. How long it has run is measured by its own clock,
    which need not agree with the healer's. Raises ValueError, TypeError, KeyError, AttributeError or OverflowError when
    the answer of `status` is not what the API promises.
    """
    started = datetime.fromisoformat(status["uptime"])
    settled = status["cluster"]["status"] in ("ready", "disabled")
    return settled and now is not None and (now - started).total_seconds() >= deadlines.REFILL_SECONDS


def _text(value: object) -> str:
    """Return it as text. Raises ValueError for text that no page and no log could show."""
    if not is_text(text := str(value)):
        raise ValueError(f"expected text that UTF-8 can hold, found {ascii(text)[:100]}")
    return text


async def _json(answer: Response) -> Any:
    return await asyncio.get_running_loop().run_in_executor(_PARSER, answer.json)
