"""POST /alerts: one webhook of Alertmanager or Grafana, from the request to its answer."""

import asyncio
import hmac
from collections.abc import Iterable

from aiohttp import web

from healer.metrics import HealerMetrics
from healer.webhook import deadlines
from healer.webhook.alert_handler import AlertHandler
from healer.webhook.payload import REFUSED, Action, Alert, Webhook, WebhookError, parse
from healer.webhook.receivers import RecentReceivers
from pgslot.cli.errors import ConfigError
from pgslot.cli.logging import get_logger, printable
from pgslot.config.reload import ConfigReloader
from pgslot.config.secrets import read_token

log = get_logger(__name__)

MAX_BODY_BYTES = 16 * 1024 * 1024
"""10,000 alerts fit."""


class RequestRefusedError(Exception):
    """The request is not accepted; `status` and the text are its answer. Alertmanager retries only a 5xx."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class WebhookEndpoint:
    """Checks the token, reads the body within its limits, and submits each alert."""

    def __init__(
        self, configuration: ConfigReloader, handler: AlertHandler, metrics: HealerMetrics, receivers: RecentReceivers
    ) -> None:
        self._configuration = configuration
        self._handler = handler
        self._metrics = metrics
        self._receivers = receivers

    async def handle(self, request: web.Request) -> web.Response:
        """Answer 200 when every alert was submitted, otherwise why not; 503 if any alert has to be sent again."""
        try:
            status, text = self._submit(await self._accept(request))
        except RequestRefusedError as refused:
            status, text = refused.status, str(refused)
        response = web.Response(status=status, text=f"{text}\n")
        if status != 200:
            log.warning("webhook refused", code=status, error=text, peer=request.remote)
            # aiohttp would otherwise wait for the rest of the body to reuse the connection.
            response.force_close()
        return response

    async def _accept(self, request: web.Request) -> Webhook:
        """Authenticate the request and parse its body. Raises RequestRefusedError."""
        self._refuse_if_closing()
        self._authenticate(request)
        webhook = await _read(request)
        # The shutdown may have begun while the body was read: no episode would take its alerts.
        self._refuse_if_closing()
        return webhook

    def _refuse_if_closing(self) -> None:
        if self._handler.closing:
            raise RequestRefusedError(503, "shutting down")

    def _authenticate(self, request: web.Request) -> None:
        """Check the bearer token, whose file is read for each request so that it can be rotated."""
        token_file = self._configuration.config.healer.webhook_token_file
        if token_file is None:
            return
        try:
            token = read_token(token_file)
        except ConfigError as error:
            log.error("cannot read the webhook token", error=str(error))
            # Not 401: the sender may be right, and Alertmanager retries a 503.
            raise RequestRefusedError(503, "the webhook token cannot be read") from None
        # aiohttp decodes bytes that are not UTF-8 as surrogates.
        authorization = request.headers.get("Authorization", "").encode(errors="surrogateescape")
        if not hmac.compare_digest(authorization, f"Bearer {token}".encode()):
            raise RequestRefusedError(401, "expected the header Authorization: Bearer with the webhook token")

    def _submit(self, webhook: Webhook) -> tuple[int, str]:
        """Submit the alerts; return the answer's status and the count of each action."""
        if webhook.truncated:
            log.warning("alerts were cut off: unset the receiver's max_alerts", truncated=webhook.truncated)
        if webhook.alerts:
            # A webhook without alerts is the doctor's, and does not prove that Alertmanager's arrive.
            self._metrics.last_webhook.set_to_current_time()
            self._receivers.record(webhook)
        actions = _submit_all(self._handler, webhook.alerts)
        log.info("webhook received", alerts=len(webhook.alerts), **actions)
        status = 503 if REFUSED & actions.keys() else 200
        return status, " ".join(f"{action}={count}" for action, count in actions.items())


async def _read(request: web.Request) -> Webhook:
    """Read and parse the body. Raises RequestRefusedError."""
    try:
        async with asyncio.timeout(deadlines.BODY_TIMEOUT_SECONDS):
            body = await request.read()
        return parse(body)
    except web.HTTPRequestEntityTooLarge:
        raise RequestRefusedError(413, f"expected a body of at most {MAX_BODY_BYTES} bytes") from None
    except TimeoutError:
        raise RequestRefusedError(
            503, f"expected the whole body within {deadlines.BODY_TIMEOUT_SECONDS:.0f} s"
        ) from None
    except (web.HTTPException, web.RequestPayloadError, ValueError) as error:
        # A body that is not compressed as its header says, for example: aiohttp must not wait for the rest of it.
        request.content.feed_eof()
        raise RequestRefusedError(400, f"body: cannot be read: {printable(str(error))[:200]}") from None
    except WebhookError as error:
        raise RequestRefusedError(400, str(error)) from None


def _submit_all(handler: AlertHandler, alerts: Iterable[Alert]) -> dict[str, int]:
    """Return how often each action was taken. The log gets one example of each kind of ignored alert, not 10,000."""
    actions: dict[str, int] = {}
    for alert in alerts:
        action = handler.submit(alert)
        if action not in actions and action.startswith(("ignored", "refused")) and action != Action.IGNORED_RESOLVED:
            labels = {name: alert.labels.get(name, "")[:200] for name in ("alertname", "cluster", "node", "slot_name")}
            log.info("alert not taken, for example", action=f"{action}", **labels)
        actions[action] = actions.get(action, 0) + 1
    return actions
