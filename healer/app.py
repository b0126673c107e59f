"""The healer's HTTP endpoints."""

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Iterable
from functools import partial

from aiohttp import web
from prometheus_client import CollectorRegistry

from healer.capability import CapabilityMonitor
from healer.episodes.manager import REMEMBERED, Episodes
from healer.metrics import HealerMetrics
from healer.remedies.registry import REMEDIES
from healer.status_page import ClusterStatus, status_page
from healer.webhook.body import REFUSED, Action, Alert, Webhook, WebhookError, parse
from healer.webhook.receivers import Receivers
from healer.webhook.reconcile import Resync
from pgslot.cli.errors import ConfigError
from pgslot.cli.logging import event, printable
from pgslot.config.model import Config
from pgslot.config.reload import Configuration
from pgslot.config.secrets import read_token
from pgslot.exposition.common import COMMON, patroni_series, process_samples
from pgslot.exposition.families import exposition, families
from pgslot.exposition.process_metrics import process_registry
from pgslot.httpserver.lifecycle import answer_reload
from pgslot.patroni.discovery import Discovery

LARGEST_BODY = 16 * 1024 * 1024
"""Bytes; 10,000 alerts fit."""

BODY_SECONDS = 30.0

PAGE = 20
"""Episodes of a page; one with 1,000 slots takes some 100 kB."""

_log = logging.getLogger(__name__)

_EPISODES = web.AppKey("episodes", Episodes)
_MONITOR = web.AppKey("monitor", CapabilityMonitor)
_METRICS = web.AppKey("metrics", HealerMetrics)
_RECEIVERS = web.AppKey("receivers", Receivers)
_REGISTRY = web.AppKey("registry", CollectorRegistry)
_CONFIGURATION = web.AppKey("configuration", Configuration)
_DISCOVERY = web.AppKey("discovery", Discovery)
_LIFECYCLE = web.AppKey("lifecycle", bool)
_TASKS = web.AppKey("tasks", set[asyncio.Task[None]])
_DEFECTS = web.AppKey("defects", list[str])


def application(configuration: Configuration, *, lifecycle: bool = False) -> web.Application:
    """Build the application; without a token file in the configuration webhooks need no token."""
    app = web.Application(client_max_size=LARGEST_BODY)
    app[_CONFIGURATION] = configuration
    app[_LIFECYCLE] = lifecycle
    app[_REGISTRY] = process_registry()
    app[_METRICS] = HealerMetrics(app[_REGISTRY])
    app[_RECEIVERS] = Receivers(app[_METRICS])
    app[_MONITOR] = CapabilityMonitor(app[_METRICS])
    discovery = app[_DISCOVERY] = Discovery(configuration)
    app[_EPISODES] = Episodes(discovery.config, app[_METRICS], app[_MONITOR])
    app[_TASKS] = set()
    app[_DEFECTS] = []
    app.on_response_prepare.append(_count_webhook)
    app.on_shutdown.append(_stop)
    discovery.on_change(lambda config: _apply(app, config))
    configuration.on_change(lambda config: _listen(app, config))
    app.cleanup_ctx.append(discovery.run)
    app.cleanup_ctx.append(_working)
    app.add_routes(
        [
            web.post("/alerts", _alerts),
            web.get("/", _status),
            web.get("/episodes", _episodes),
            web.get("/metrics", _metrics),
            web.get("/-/healthy", _healthy),
            web.get("/-/ready", _ready),
            web.post("/-/reload", _reload),
        ]
    )
    return app


async def _working(app: web.Application) -> AsyncIterator[None]:
    _apply(app, app[_DISCOVERY].config)
    _listen(app, app[_DISCOVERY].config)
    yield
    await app[_MONITOR].close()


def _apply(app: web.Application, config: Config) -> None:
    """Put a configuration into force: at start, after each reload, and when members have changed."""
    app[_EPISODES].reconfigure(config)
    app[_MONITOR].watch(config.clusters)


def _listen(app: web.Application, config: Config) -> None:
    """Ask the Alertmanager that is configured from now on."""
    for task in app[_TASKS]:
        task.cancel()
    if config.healer.alertmanager_url is not None and not app[_EPISODES].closing:
        resync = Resync(config.healer.alertmanager_url, app[_EPISODES], app[_METRICS])
        task = asyncio.create_task(resync.run())
        app[_TASKS].add(task)
        task.add_done_callback(partial(_ended, app))


def _ended(app: web.Application, task: asyncio.Task[None]) -> None:
    app[_TASKS].discard(task)
    if not task.cancelled() and task.exception() is not None:
        app[_DEFECTS].append("alertmanager")
        _log.critical("Alertmanager is no longer asked: a defect", exc_info=task.exception())


async def _stop(app: web.Application) -> None:
    """Take no alert and make no call any more, before requests in flight are waited for."""
    app[_EPISODES].closing = True
    for task in app[_TASKS]:
        task.cancel()
    await asyncio.gather(*app[_TASKS], return_exceptions=True)
    await app[_EPISODES].close()


async def _count_webhook(request: web.Request, response: web.StreamResponse) -> None:
    """Count each answer, also that of whoever was refused before the webhook was looked at."""
    if request.method == "POST" and request.path == "/alerts":
        request.app[_METRICS].webhooks.labels(str(response.status)).inc()


async def _alerts(request: web.Request) -> web.Response:
    status, text = await _intake(request)
    if status != 200:
        event(_log, logging.WARNING, "webhook refused", code=status, error=text, peer=request.remote)
    answer = web.Response(status=status, text=f"{text}\n")
    if status != 200:
        # What is left of a refused body is not worth waiting for.
        answer.force_close()
    return answer


async def _intake(request: web.Request) -> tuple[int, str]:
    if request.app[_EPISODES].closing:
        return 503, "shutting down"
    token_file = request.app[_CONFIGURATION].config.healer.webhook_token_file
    try:
        token = read_token(token_file) if token_file is not None else ""
    except ConfigError as error:
        # Without the token nobody can be let in; 503 makes Alertmanager try again.
        event(_log, logging.ERROR, "cannot read the webhook token", error=str(error))
        return 503, "the webhook token cannot be read"
    given = request.headers.get("Authorization", "")
    # A header may hold any byte, which aiohttp hands on as a surrogate.
    if token and not hmac.compare_digest(given.encode(errors="surrogateescape"), f"Bearer {token}".encode()):
        return 401, "expected the header Authorization: Bearer with the webhook token"
    webhook = await _webhook(request)
    if not isinstance(webhook, Webhook):
        return webhook
    if request.app[_EPISODES].closing:
        # It was let in before, and what it is about would be taken up by nobody.
        return 503, "shutting down"
    if webhook.truncated:
        event(
            _log,
            logging.WARNING,
            "alerts were cut off: unset the receiver's max_alerts",
            truncated=webhook.truncated,
        )
    if webhook.alerts:
        # An empty one is the doctor's, and no proof that Alertmanager's arrive.
        request.app[_METRICS].last_webhook.set_to_current_time()
        request.app[_RECEIVERS].heard(webhook)
    actions = _take_all(request.app[_EPISODES], webhook.alerts)
    event(_log, logging.INFO, "webhook received", alerts=len(webhook.alerts), **actions)
    status = 503 if REFUSED & actions.keys() else 200
    return status, " ".join(f"{action}={count}" for action, count in actions.items())


async def _webhook(request: web.Request) -> Webhook | tuple[int, str]:
    """Read the body; return what it says, or what to answer to one that cannot be taken."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.read()
        return parse(body)
    except web.HTTPRequestEntityTooLarge:
        return 413, f"expected a body of at most {LARGEST_BODY} bytes"
    except TimeoutError:
        return 503, f"expected the whole body within {BODY_SECONDS:.0f} s"
    except (web.HTTPException, web.RequestPayloadError, ValueError) as error:
        # Such as a body that is not compressed as its header says: nothing more of it can be read, by nobody.
        request.content.feed_eof()
        return 400, f"body: cannot be read: {printable(str(error))[:200]}"
    except WebhookError as error:
        return 400, str(error)


def _take_all(episodes: Episodes, alerts: Iterable[Alert]) -> dict[str, int]:
    """Return how often each action was taken. Of the ignored ones the log gets one example each, not 10,000 lines."""
    actions: dict[str, int] = {}
    for alert in alerts:
        action = episodes.take(alert)
        if action not in actions and action.startswith(("ignored", "refused")) and action != Action.IGNORED_RESOLVED:
            labels = {name: alert.labels.get(name, "")[:200] for name in ("alertname", "cluster", "node", "slot_name")}
            event(_log, logging.INFO, "alert not taken, for example", action=f"{action}", **labels)
        actions[action] = actions.get(action, 0) + 1
    return actions


async def _metrics(request: web.Request) -> web.Response:
    configuration = request.app[_CONFIGURATION]
    process = process_samples(reload_ok=configuration.last_ok, reloaded_at=configuration.loaded_at)
    patroni = [part for status in request.app[_DISCOVERY].statuses() for part in patroni_series(**status._asdict())]
    own = families([*process, *patroni], COMMON)
    body, content_type = exposition(request.headers.get("Accept", ""), [*own, *request.app[_REGISTRY].collect()])
    return web.Response(body=body, headers={"Content-Type": content_type})


async def _episodes(request: web.Request) -> web.Response:
    page = _page(request)
    reports = request.app[_EPISODES].reports
    headers = {}
    if page.stop < len(reports):
        headers["Link"] = f'<{request.path}?offset={page.stop}&limit={page.stop - page.start}>; rel="next"'
    return web.json_response([report.as_json() for report in reports[page]], headers=headers)


def _page(request: web.Request) -> slice:
    """Return which episodes are asked for, by `offset` and `limit`. Raises HTTPBadRequest."""
    try:
        offset, limit = int(request.query.get("offset", 0)), int(request.query.get("limit", PAGE))
    except ValueError:
        offset, limit = -1, 0
    if offset < 0 or not 1 <= limit <= REMEMBERED:
        raise web.HTTPBadRequest(text=f"expected offset=0 or more and limit=1 to {REMEMBERED}\n")
    return slice(offset, offset + limit)


async def _reload(request: web.Request) -> web.Response:
    return await answer_reload(request.app[_CONFIGURATION].reload_aside, enabled=request.app[_LIFECYCLE])


async def _healthy(request: web.Request) -> web.Response:
    if request.app[_MONITOR].defect or request.app[_DEFECTS]:
        return web.Response(status=500, text="A background task has ended by a defect, see the log.\n")
    return web.Response(text="pg-slot-healer is healthy.\n")


async def _ready(request: web.Request) -> web.Response:
    if request.app[_EPISODES].closing:
        raise web.HTTPServiceUnavailable(text="Shutting down.\n")
    return web.Response(text="pg-slot-healer is ready.\n")


async def _status(request: web.Request) -> web.Response:
    app = request.app
    known = app[_MONITOR].known
    clusters = [
        ClusterStatus(
            name=cluster.name,
            remedy=remedy.name,
            capability=known.get((cluster.name, remedy.name)),
            calls_left=app[_EPISODES].calls_left(cluster.name, remedy.name),
            dry_run=target.dry_run,
            fallback=target.fallback,
        )
        for cluster in app[_DISCOVERY].config.clusters
        for remedy in REMEDIES.values()
        if (target := remedy.target(cluster)) is not None
    ]
    page, reports = _page(request), app[_EPISODES].reports
    older = page.stop if page.stop < len(reports) else None
    return web.Response(content_type="text/html", text=status_page(clusters, reports[page], older))
