"""Asks Patroni's REST API for the members of a cluster: one URL after the other, each within its time and size."""

import json
from collections.abc import Sequence
from typing import Any

import aiohttp

from pgslot.config.model import PatroniConfig
from pgslot.httpclient.limited import ThreadedResolver, read_limited
from pgslot.patroni.answer import Answer, parse_answer

TIMEOUT = 3.0
"""Seconds for one URL."""
MAX_ANSWER_BYTES = 1024 * 1024
"""Bytes."""

_NO_ANSWER = (aiohttp.ClientError, TimeoutError, OSError, ValueError, RecursionError)


class NoAnswerError(Exception):
    """No URL gave an answer that can be used. The text says why, of each."""


async def fetch_members(patroni: PatroniConfig, urls: Sequence[str]) -> tuple[str, Answer]:
    """Return the first of these URLs whose answer can be used, and that answer. Raises NoAnswerError."""
    failures = []
    for url in urls:
        try:
            return url, await _ask(patroni, url)
        except _NO_ANSWER as error:
            text = " ".join(str(error).split()) or f"no answer in {TIMEOUT:.0f} s"
            failures.append(f"{url}: {text[:300]}")
    raise NoAnswerError("; ".join(failures))


async def _ask(patroni: PatroniConfig, url: str) -> Answer:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT)
    connector = aiohttp.TCPConnector(resolver=ThreadedResolver(), ssl=patroni.tls())
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as client:
        cluster = await _get(client, f"{url}/cluster")
        try:
            status = await _get(client, f"{url}/patroni")
        except ValueError:
            # What it says of itself may be refused by whatever is between; the members are what counts.
            status = None
    return parse_answer(cluster, status, patroni.scope)


async def _get(client: aiohttp.ClientSession, url: str) -> Any:
    async with client.get(url, allow_redirects=False) as answer:
        return json.loads(await read_limited(answer, MAX_ANSWER_BYTES))
