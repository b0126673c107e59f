"""Patroni's dynamic configuration, as far as it is about slots: GET /config, which needs no login."""

import re
from collections.abc import Sequence
from typing import Any

from pgslot.config.model import PatroniConfig
from pgslot.diagnosis.switchover_facts import PatroniSlots, SlotMatcher
from pgslot.httpclient import HttpClient, HttpError, UnexpectedResponseError
from pgslot.patroni.client import MAX_ANSWER_BYTES, NoAnswerError
from pgslot.patroni.deadlines import URL_TIMEOUT_SECONDS

_PERMANENT = ("permanent_replication_slots", "permanent_slots", "slots")
"""The names that Patroni accepts for it; the first one that is set counts."""
_FALSE = {"off", "false", "no", "0"}


async def fetch_slot_config(patroni: PatroniConfig) -> PatroniSlots:
    """Return what the first URL with a usable answer shows. Raises NoAnswerError."""
    failures = []
    for url in patroni.urls:
        try:
            async with HttpClient(
                url, timeout=URL_TIMEOUT_SECONDS, max_body_bytes=MAX_ANSWER_BYTES, tls=patroni.tls()
            ) as client:
                config = await client.get_json("/config", allow_redirects=False)
                return parse_slot_config(config, await _status(client))
        except (HttpError, OSError, ValueError) as error:
            failures.append(f"{url}/config: {' '.join(str(error).split())[:300]}")
    raise NoAnswerError("; ".join(failures))


async def _status(client: HttpClient) -> Any:
    try:
        return await client.get_json("/patroni", allow_redirects=False)
    except UnexpectedResponseError:
        # A proxy in between may refuse /patroni, which only has the version.
        return None


def parse_slot_config(config: Any, status: Any) -> PatroniSlots:
    """Return the slots by `config`, the JSON of /config, and `status`, that of /patroni or None. Raises ValueError."""
    if not isinstance(config, dict):
        raise ValueError("expected a mapping, found none")  # noqa: TRY004 - bad input, not a bad argument
    permanent: Any = next((config[name] for name in _PERMANENT if config.get(name)), {})
    ignored = config.get("ignore_slots") or []
    if not isinstance(permanent, dict) or not isinstance(ignored, list):
        raise ValueError("expected a mapping in slots and a list in ignore_slots, found something else")  # noqa: TRY004
    postgresql = config.get("postgresql")
    use_slots = postgresql.get("use_slots", True) if isinstance(postgresql, dict) else True
    return PatroniSlots(
        version=_version(status),
        use_slots=str(use_slots).lower() not in _FALSE,
        permanent=tuple(_permanent(str(name), slot) for name, slot in permanent.items()),
        ignored=tuple(_matcher(matcher) for matcher in ignored if isinstance(matcher, dict)),
    )


def _permanent(name: str, slot: Any) -> SlotMatcher:
    """Return a permanent slot; its type is physical unless it has a database and a plugin, as Patroni takes it."""
    given = _matcher(slot if isinstance(slot, dict) else {})
    implied = "logical" if given.database and given.plugin else "physical"
    return SlotMatcher(name, given.type or implied, given.database, given.plugin)


def _matcher(given: dict[Any, Any]) -> SlotMatcher:
    name, kind, database, plugin = (
        str(given[key]) if given.get(key) else None for key in ("name", "type", "database", "plugin")
    )
    return SlotMatcher(name, kind, database, plugin)


def _version(status: Any) -> tuple[int, ...] | None:
    patroni = status.get("patroni") if isinstance(status, dict) else None
    text = patroni.get("version") if isinstance(patroni, dict) else None
    numbers: Sequence[str] = re.findall(r"\d+", text)[:3] if isinstance(text, str) else ()
    return tuple(map(int, numbers)) or None
