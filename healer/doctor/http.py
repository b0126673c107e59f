"""Asks HTTP servers, with an end to every wait."""

import json
import threading
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.auth import AuthBase

from pgslot.cli.errors import ConfigError

CONNECT_TIMEOUT = 3.0
READ_TIMEOUT = 5.0
TOTAL_TIMEOUT = 10.0
"""Seconds for the whole of a request, with name resolution and an answer that trickles in."""


class NoAnswerError(Exception):
    """There was no answer, or none that could be understood. The text says what came instead."""


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    text: str


class Client:
    """One server by its base URL. User and password in it, or in ~/.netrc, are sent and never shown."""

    def __init__(self, base: str) -> None:
        self._base = base.rstrip("/")
        self.shown = without_secrets(self._base)

    def get(self, path: str, **parameters: str) -> Answer:
        """Raises NoAnswerError."""
        return self._ask("GET", path, params=parameters)

    def get_json(self, path: str, **parameters: str) -> Any:
        """Return the JSON of an answer with status 200. Raises NoAnswerError."""
        answer = self.get(path, **parameters)
        if answer.status != 200:
            raise NoAnswerError(f"{path}: expected status 200, found {answer.status}: {answer.text.strip()[:200]}")
        try:
            return json.loads(answer.text)
        except (ValueError, RecursionError):
            raise NoAnswerError(f"{path}: expected JSON, found {answer.text.strip()[:80]!r}") from None

    def post(self, path: str, body: str, *, token: str | None) -> Answer:
        """Post JSON with this bearer token; None: without any credentials. Raises NoAnswerError."""
        headers = {"Content-Type": "application/json"}
        # A redirect would turn it into a GET.
        return self._ask("POST", path, data=body, headers=headers, auth=_Bearer(token), allow_redirects=False)

    def post_as_user(self, path: str, body: str) -> Answer:
        """Post JSON with the user and password of the URL. Raises NoAnswerError."""
        headers = {"Content-Type": "application/json"}
        return self._ask("POST", path, data=body, headers=headers, allow_redirects=False)

    @property
    def host(self) -> str:
        return urlsplit(self._base).hostname or ""

    @property
    def has_user(self) -> bool:
        return "@" in urlsplit(self._base).netloc

    def _ask(self, method: str, path: str, **arguments: Any) -> Answer:
        # In a thread of its own, because no timeout of requests covers the name resolution or a slow drip of bytes.
        outcome: list[Answer | NoAnswerError] = []

        def ask() -> None:
            try:
                with requests.request(
                    method, f"{self._base}{path}", timeout=(CONNECT_TIMEOUT, READ_TIMEOUT), **arguments
                ) as answer:
                    outcome.append(Answer(answer.status_code, answer.text))
            except requests.RequestException as error:
                outcome.append(NoAnswerError(_why(error)))

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        thread.join(TOTAL_TIMEOUT)
        found = outcome[0] if outcome else NoAnswerError(f"no whole answer within {TOTAL_TIMEOUT:.0f} s")
        if isinstance(found, NoAnswerError):
            raise found
        return found


def check_url(place: str, url: str) -> str:
    """Return the URL if it can be a base URL. Raises ConfigError, which does not show it: it may hold a password."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"{place}: expected an http or https URL, found something else")
    return url


def without_secrets(url: str) -> str:
    """Return scheme, host, port and path alone: the rest may hold passwords and tokens."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


class _Bearer(AuthBase):
    """A token, or nothing; also in place of what ~/.netrc has."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._token is not None:
            # As UTF-8, which Alertmanager sends; requests writes whatever it is given as latin-1.
            request.headers["Authorization"] = f"Bearer {self._token}".encode().decode("latin-1")
        return request


def _why(error: requests.RequestException) -> str:
    """Say in a few words why there was no answer, without the URL, which requests' own text has in full."""
    if isinstance(error, requests.ConnectTimeout):
        return f"no connection within {CONNECT_TIMEOUT:.0f} s"
    if isinstance(error, requests.Timeout):
        return f"no answer within {READ_TIMEOUT:.0f} s"
    cause: BaseException | None = error
    reason = ""
    while cause is not None:
        if isinstance(cause, OSError) and not isinstance(cause, requests.RequestException) and cause.strerror:
            reason = cause.strerror
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, requests.exceptions.SSLError):
        return f"TLS: {reason or 'the handshake failed'}"
    return reason or type(error).__name__
