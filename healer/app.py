"""The healer's HTTP endpoints."""

import asyncio
from collections.abc import AsyncIterator
from functools import partial

from aiohttp import web
from prometheus_client import CollectorRegistry

from healer.capability import CapabilityMonitor
from healer.episodes.manager import MAX_PAST_EPISODES, EpisodeManager
from healer.metrics import HealerMetrics
from healer.remedies.registry import REMEDIES
from healer.status_page import ClusterStatus, status_page
from healer.webhook.endpoint import MAX_BODY_BYTES, WebhookEndpoint
from healer.webhook.receivers import RecentReceivers
from healer.webhook.reconcile import Reconciler
from pgslot.cli.logging import get_logger
from pgslot.config.model import Config
from pgslot.config.reload import ConfigReloader
from pgslot.exposition.common import COMMON, patroni_series, process_series
from pgslot.exposition.families import families, render
from pgslot.exposition.process_metrics import process_registry
from pgslot.httpserver.lifecycle import answer_reload
from pgslot.patroni.discovery import Discovery

PAGE = 20
"""Episodes of a page; one with 1,000 slots takes some 100 kB."""

log = get_logger(__name__)

_EPISODES = web.AppKey("episodes", EpisodeManager)
_MONITOR = web.AppKey("monitor", CapabilityMonitor)
_METRICS = web.AppKey("metrics", HealerMetrics)
_REGISTRY = web.AppKey("registry", CollectorRegistry)
_CONFIGURATION = web.AppKey("configuration", ConfigReloader)
_DISCOVERY = web.AppKey("discovery", Discovery)
_LIFECYCLE = web.AppKey("lifecycle", bool)
_TASKS = web.AppKey("tasks", set[asyncio.Task[None]])
_DEFECTS = web.AppKey("defects", list[str])


def application(configuration: ConfigReloader, *, lifecycle: bool = False) -> web.Application:
    """Build the application; without a token file in the configuration webhooks need no token."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[_CONFIGURATION] = configuration
    app[_LIFECYCLE] = lifecycle
    app[_REGISTRY] = process_registry()
    app[_METRICS] = HealerMetrics(app[_REGISTRY])
    receivers = RecentReceivers(app[_METRICS])
    app[_MONITOR] = CapabilityMonitor(app[_METRICS])
    discovery = app[_DISCOVERY] = Discovery(configuration)
    app[_EPISODES] = EpisodeManager(discovery.config, app[_METRICS], app[_MONITOR])
    endpoint = WebhookEndpoint(configuration, app[_EPISODES], app[_METRICS], receivers)
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
            web.post("/alerts", endpoint.handle),
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
        resync = Reconciler(config.healer.alertmanager_url, app[_EPISODES], app[_METRICS])
        task = asyncio.create_task(resync.run())
        app[_TASKS].add(task)
        task.add_done_callback(partial(_ended, app))


def _ended(app: web.Application, task: asyncio.Task[None]) -> None:
    app[_TASKS].discard(task)
    if not task.cancelled() and task.exception() is not None:
        app[_DEFECTS].append("alertmanager")
        log.critical("Alertmanager is no longer asked: a defect", exc=task.exception())


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


async def _metrics(request: web.Request) -> web.Response:
    configuration = request.app[_CONFIGURATION]
    process = process_series(reload_ok=configuration.last_ok, reloaded_at=configuration.loaded_at)
    patroni = [part for status in request.app[_DISCOVERY].statuses() for part in patroni_series(**status._asdict())]
    own = families([*process, *patroni], COMMON)
    body, content_type = render(request.headers.get("Accept", ""), [*own, *request.app[_REGISTRY].collect()])
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
    if offset < 0 or not 1 <= limit <= MAX_PAST_EPISODES:
        raise web.HTTPBadRequest(text=f"expected offset=0 or more and limit=1 to {MAX_PAST_EPISODES}\n")
    return slice(offset, offset + limit)


async def _reload(request: web.Request) -> web.Response:
    return await answer_reload(request.app[_CONFIGURATION].reload, enabled=request.app[_LIFECYCLE])


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
