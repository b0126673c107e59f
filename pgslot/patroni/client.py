"""Fetches a cluster's members from Patroni's REST API: one URL after another, each within a time and size limit."""

from collections.abc import Sequence

from pgslot.config.model import PatroniConfig
from pgslot.httpclient import HttpClient, HttpError, UnexpectedResponseError
from pgslot.patroni.answer import Answer, parse_answer
from pgslot.patroni.deadlines import URL_TIMEOUT_SECONDS

MAX_ANSWER_BYTES = 1024 * 1024


class NoAnswerError(Exception):
    """No URL gave a usable answer. The text has each URL and why."""


async def fetch_members(patroni: PatroniConfig, urls: Sequence[str]) -> tuple[str, Answer]:
    """Return the first URL that gives a usable answer, and that answer. Raises NoAnswerError."""
    failures = []
    for url in urls:
        try:
            return url, await _fetch(patroni, url)
        except (HttpError, OSError, ValueError) as error:
            failures.append(f"{url}: {' '.join(str(error).split())[:300]}")
    raise NoAnswerError("; ".join(failures))


async def _fetch(patroni: PatroniConfig, url: str) -> Answer:
    """Raises HttpError, OSError for a certificate that cannot be read, or ValueError for an answer that is refused."""
    async with HttpClient(
        url, timeout=URL_TIMEOUT_SECONDS, max_body_bytes=MAX_ANSWER_BYTES, tls=patroni.tls()
    ) as client:
        cluster = await client.get_json("/cluster", allow_redirects=False)
        try:
            status = await client.get_json("/patroni", allow_redirects=False)
        except UnexpectedResponseError:
            # A proxy in between may refuse /patroni, which only has the identity; the members are what counts.
            status = None
    return parse_answer(cluster, status, patroni.scope)
