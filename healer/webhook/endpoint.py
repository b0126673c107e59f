"""POST /alerts: one webhook of Alertmanager or Grafana, from the request to its answer."""

import hmac
from collections.abc import Iterable

from aiohttp import web

from healer.metrics import HealerMetrics
from healer.webhook.alert_handler import AlertHandler
from healer.webhook.body import BodyReader, RequestRefusedError
from healer.webhook.payload import REFUSED, Action, Alert, Webhook
from healer.webhook.receivers import RecentReceivers
from pgslot.cli.errors import ConfigError
from pgslot.cli.logging import get_logger
from pgslot.config.reload import ConfigReloader
from pgslot.config.secrets import webhook_token

log = get_logger(__name__)


class WebhookEndpoint:
    """Checks the token, reads the body within its limits, and submits each alert."""

    def __init__(
        self, configuration: ConfigReloader, handler: AlertHandler, metrics: HealerMetrics, receivers: RecentReceivers
    ) -> None:
        self._configuration = configuration
        self._handler = handler
        self._metrics = metrics
        self._receivers = receivers
        self._bodies = BodyReader()

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
        webhook = await self._bodies.read(request)
        # The shutdown may have begun while the body was read: no episode would take its alerts.
        self._refuse_if_closing()
        return webhook

    def _refuse_if_closing(self) -> None:
        if self._handler.closing:
            raise RequestRefusedError(503, "shutting down")

    def _authenticate(self, request: web.Request) -> None:
        """Check the bearer token, whose file is read for each request so that it can be rotated."""
        try:
            token = webhook_token(self._configuration.config.healer)
        except ConfigError as error:
            log.error("cannot read the webhook token", error=str(error))
            # Not 401: the sender may be right, and Alertmanager retries a 503.
            raise RequestRefusedError(503, "the webhook token cannot be read") from None
        if token is None:
            return
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


def _submit_all(handler: AlertHandler, alerts: Iterable[Alert]) -> dict[str, int]:
    """Return how often each action was taken. The log gets one example of each kind of ignored alert, not 10,000."""
    actions: dict[str, int] = {}
    examples: dict[str, Alert] = {}
    for alert in alerts:
        action = handler.submit(alert)
        actions[action] = actions.get(action, 0) + 1
        if action.startswith(("ignored", "refused")) and action != Action.IGNORED_RESOLVED:
            examples.setdefault(action, alert)
    for kind, alert in examples.items():
        labels = {name: alert.labels.get(name, "")[:200] for name in ("alertname", "cluster", "node", "slot_name")}
        message = "alerts refused, an example" if kind in REFUSED else "alerts ignored, an example"
        log.info(message, action=f"{kind}", alerts=actions[kind], **labels)
    return actions
