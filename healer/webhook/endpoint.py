"""POST /alerts: one webhook of Alertmanager or Grafana, from the request to its answer."""

import asyncio
import hmac
from collections.abc import Iterable

from aiohttp import web

from healer.metrics import HealerMetrics
from healer.webhook.body import REFUSED, Action, Alert, Webhook, WebhookError, parse
from healer.webhook.handler import AlertHandler
from healer.webhook.receivers import Receivers
from pgslot.cli.errors import ConfigError
from pgslot.cli.logging import get_logger, printable
from pgslot.config.reload import ConfigReloader
from pgslot.config.secrets import read_token

log = get_logger(__name__)

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Bytes; 10,000 alerts fit."""


BODY_TIMEOUT = 30.0


class WebhookEndpoint:
    """Checks the token, reads the body within its limits, and hands each alert on."""

    def __init__(
        self, configuration: ConfigReloader, handler: AlertHandler, metrics: HealerMetrics, receivers: Receivers
    ) -> None:
        self._configuration = configuration
        self._handler = handler
        self._metrics = metrics
        self._receivers = receivers

    async def answer(self, request: web.Request) -> web.Response:
        """Answer 200 once all alerts are taken, or say why not; Alertmanager tries again after a 5xx."""
        status, text = await self._take(request)
        if status != 200:
            log.warning("webhook refused", code=status, error=text, peer=request.remote)
        answer = web.Response(status=status, text=f"{text}\n")
        if status != 200:
            # What is left of a refused body is not worth waiting for.
            answer.force_close()
        return answer

    async def _take(self, request: web.Request) -> tuple[int, str]:
        if self._handler.closing:
            return 503, "shutting down"
        token_file = self._configuration.config.healer.webhook_token_file
        try:
            token = read_token(token_file) if token_file is not None else ""
        except ConfigError as error:
            # Without the token nobody can be let in; 503 makes Alertmanager try again.
            log.error("cannot read the webhook token", error=str(error))
            return 503, "the webhook token cannot be read"
        given = request.headers.get("Authorization", "")
        # A header may hold any byte, which aiohttp hands on as a surrogate.
        if token and not hmac.compare_digest(given.encode(errors="surrogateescape"), f"Bearer {token}".encode()):
            return 401, "expected the header Authorization: Bearer with the webhook token"
        webhook = await _read(request)
        if not isinstance(webhook, Webhook):
            return webhook
        if self._handler.closing:
            # It was let in before, and what it is about would be taken up by nobody.
            return 503, "shutting down"
        if webhook.truncated:
            log.warning("alerts were cut off: unset the receiver's max_alerts", truncated=webhook.truncated)
        if webhook.alerts:
            # An empty one is the doctor's, and no proof that Alertmanager's arrive.
            self._metrics.last_webhook.set_to_current_time()
            self._receivers.record(webhook)
        actions = _take_all(self._handler, webhook.alerts)
        log.info("webhook received", alerts=len(webhook.alerts), **actions)
        status = 503 if REFUSED & actions.keys() else 200
        return status, " ".join(f"{action}={count}" for action, count in actions.items())


async def _read(request: web.Request) -> Webhook | tuple[int, str]:
    """Read the body; return what it says, or what to answer to one that cannot be taken."""
    try:
        async with asyncio.timeout(BODY_TIMEOUT):
            body = await request.read()
        return parse(body)
    except web.HTTPRequestEntityTooLarge:
        return 413, f"expected a body of at most {MAX_BODY_BYTES} bytes"
    except TimeoutError:
        return 503, f"expected the whole body within {BODY_TIMEOUT:.0f} s"
    except (web.HTTPException, web.RequestPayloadError, ValueError) as error:
        # Such as a body that is not compressed as its header says: nothing more of it can be read, by nobody.
        request.content.feed_eof()
        return 400, f"body: cannot be read: {printable(str(error))[:200]}"
    except WebhookError as error:
        return 400, str(error)


def _take_all(handler: AlertHandler, alerts: Iterable[Alert]) -> dict[str, int]:
    """Return how often each action was taken. Of the ignored ones the log gets one example each, not 10,000 lines."""
    actions: dict[str, int] = {}
    for alert in alerts:
        action = handler.submit(alert)
        if action not in actions and action.startswith(("ignored", "refused")) and action != Action.IGNORED_RESOLVED:
            labels = {name: alert.labels.get(name, "")[:200] for name in ("alertname", "cluster", "node", "slot_name")}
            log.info("alert not taken, for example", action=f"{action}", **labels)
        actions[action] = actions.get(action, 0) + 1
    return actions
