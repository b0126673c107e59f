"""The healer's HTTP endpoints."""

import asyncio
import json
from collections.abc import AsyncIterator

from aiohttp import web
from prometheus_client import CollectorRegistry

from healer.capability import CapabilityMonitor
from healer.episodes.manager import MAX_PAST_EPISODES, EpisodeManager
from healer.metrics import HealerMetrics
from healer.remedies.registry import REMEDIES
from healer.slot_pages import SlotQuestions, as_json, requested_slot, slot_page
from healer.status_page import ClusterStatus, Surroundings, status_page
from healer.webhook.body import MAX_BODY_BYTES, expect_later
from healer.webhook.endpoint import WebhookEndpoint
from healer.webhook.receivers import RecentReceivers
from healer.webhook.reconcile import Reconciler
from healer.webhook.refusals import RefusedWebhooks
from healer.why import SlotFacts
from pgslot.config.model import Config
from pgslot.config.reload import ConfigReloader
from pgslot.exposition.families import families, render
from pgslot.exposition.process_metrics import process_registry
from pgslot.exposition.shared_metrics import COMMON, patroni_series, process_series
from pgslot.httpserver.lifecycle import answer_reload
from pgslot.pages.frame import REFRESHING_HEADERS
from pgslot.patroni.discovery import Discovery
from pgslot.task_supervisor import TaskSupervisor

PAGE = 20
"""Episodes on a page, unless `limit` says otherwise; an episode of 1,000 slots takes some 100 kB."""

EPISODES = web.AppKey("episodes", EpisodeManager)
MONITOR = web.AppKey("monitor", CapabilityMonitor)
_METRICS = web.AppKey("metrics", HealerMetrics)
_REGISTRY = web.AppKey("registry", CollectorRegistry)
_CONFIGURATION = web.AppKey("configuration", ConfigReloader)
_DISCOVERY = web.AppKey("discovery", Discovery)
_LIFECYCLE = web.AppKey("lifecycle", bool)
_RECONCILER = web.AppKey("reconciler", list[Reconciler])
"""The running one; empty without alertmanager_url. An application's own values are fixed once it has started."""
_REFUSED = web.AppKey("refused", RefusedWebhooks)
_QUESTIONS = web.AppKey("questions", SlotQuestions)
_RECONCILIATION = web.AppKey("reconciliation", TaskSupervisor)


def application(configuration: ConfigReloader, *, lifecycle: bool = False) -> web.Application:
    """Build the application. Webhooks need a token only if the configuration names a token file."""
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[_CONFIGURATION] = configuration
    app[_LIFECYCLE] = lifecycle
    app[_REGISTRY] = process_registry()
    app[_METRICS] = HealerMetrics(app[_REGISTRY])
    receivers = RecentReceivers(app[_METRICS])
    app[MONITOR] = CapabilityMonitor(app[_METRICS])
    discovery = app[_DISCOVERY] = Discovery(configuration)
    app[EPISODES] = EpisodeManager(discovery.config, app[_METRICS], app[MONITOR])
    app[_REFUSED] = RefusedWebhooks()
    app[_QUESTIONS] = SlotQuestions(app[EPISODES], app[MONITOR], app[_REFUSED])
    endpoint = WebhookEndpoint(configuration, app[EPISODES], app[_METRICS], receivers)
    app[_RECONCILIATION] = TaskSupervisor()
    app[_RECONCILER] = []
    app.on_response_prepare.append(_count_webhook)
    app.on_shutdown.append(_shut_down)
    discovery.on_change(lambda config: _apply(app, config))
    configuration.on_change(lambda config: _restart_reconciliation(app, config))
    app.cleanup_ctx.append(discovery.run)
    app.cleanup_ctx.append(_run_background)
    app.add_routes(
        [
            web.post("/alerts", endpoint.handle, expect_handler=expect_later),
            web.get("/", _status),
            web.get("/episodes", _episodes),
            web.get("/why", _why),
            web.get("/slots/{cluster}/{slot}", _slot),
            web.get("/metrics", _metrics),
            web.get("/-/healthy", _healthy),
            web.get("/-/ready", _ready),
            web.post("/-/reload", _reload),
        ]
    )
    return app


async def _run_background(app: web.Application) -> AsyncIterator[None]:
    _apply(app, app[_DISCOVERY].config)
    _restart_reconciliation(app, app[_DISCOVERY].config)
    yield
    await app[MONITOR].close()
    await app[EPISODES].memories.close()


def _apply(app: web.Application, config: Config) -> None:
    """Put a configuration into force: at start, after each reload, and when a cluster's members have changed."""
    app[EPISODES].reconfigure(config)
    app[MONITOR].watch(config.clusters)
    app[EPISODES].memories.observe(() if app[EPISODES].closing else config.clusters)


def _restart_reconciliation(app: web.Application, config: Config) -> None:
    """Reconcile with the Alertmanager of this configuration, if it names one."""
    app[_RECONCILIATION].cancel()
    app[_RECONCILER].clear()
    if config.healer.alertmanager_url is not None and not app[EPISODES].closing:
        reconciler = Reconciler(config.healer.alertmanager_url, app[EPISODES], app[_METRICS])
        app[_RECONCILIATION].start(reconciler.run(), "reconciliation with Alertmanager")
        app[_RECONCILER].append(reconciler)


async def _shut_down(app: web.Application) -> None:
    """Accept no alert and make no call any more; aiohttp then waits for the requests in flight."""
    app[EPISODES].closing = True
    await app[_RECONCILIATION].close()
    await app[EPISODES].close()


async def _count_webhook(request: web.Request, response: web.StreamResponse) -> None:
    """Count each answer to a webhook, including those of requests that a middleware refused."""
    if request.method == "POST" and request.path == "/alerts":
        request.app[_METRICS].webhooks.labels(str(response.status)).inc()
        request.app[_REFUSED].record(response.status)


async def _metrics(request: web.Request) -> web.Response:
    configuration = request.app[_CONFIGURATION]
    process = process_series(reload_ok=configuration.last_ok, reloaded_at=configuration.loaded_at)
    patroni = patroni_series(request.app[_DISCOVERY].statuses())
    own = families([*process, *patroni], COMMON)
    body, content_type = render(request.headers.get("Accept", ""), [*own, *request.app[_REGISTRY].collect()])
    return web.Response(body=body, headers={"Content-Type": content_type})


async def _episodes(request: web.Request) -> web.StreamResponse:
    """Answer with a page of reports, one after another: a report of 1,000 slots takes a while, and webhooks come in."""
    page = _page(request)
    reports = request.app[EPISODES].reports
    headers = {}
    if page.stop < len(reports):
        headers["Link"] = f'<{request.path}?offset={page.stop}&limit={page.stop - page.start}>; rel="next"'
    response = web.StreamResponse(headers=headers | {"Content-Type": "application/json; charset=utf-8"})
    await response.prepare(request)
    separator = "["
    for report in reports[page]:
        await response.write((separator + json.dumps(report.as_json())).encode())
        separator = ","
        # write() waits only for a client that is slow.
        await asyncio.sleep(0)
    await response.write(b"[]" if separator == "[" else b"]")
    await response.write_eof()
    return response


async def _why(request: web.Request) -> web.Response:
    slot, cluster = requested_slot(request)
    return web.json_response(as_json(_facts(request.app, slot, cluster)))


async def _slot(request: web.Request) -> web.Response:
    [facts] = _facts(request.app, request.match_info["slot"], request.match_info["cluster"])
    return slot_page(facts)


def _facts(app: web.Application, slot: str, cluster: str | None) -> list[SlotFacts]:
    return app[_QUESTIONS].facts(slot, cluster, app[_DISCOVERY].config, _surroundings(app).alertmanager)


def _page(request: web.Request) -> slice:
    """Return the range of episodes that `offset` and `limit` select. Raises HTTPBadRequest."""
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
    app = request.app
    if app[MONITOR].failed or app[_RECONCILIATION].failed or app[EPISODES].memories.failed:
        return web.Response(status=500, text="A background task ended because of an internal error: see the log.\n")
    return web.Response(text="pg-slot-healer is healthy.\n")


async def _ready(request: web.Request) -> web.Response:
    if request.app[EPISODES].closing:
        raise web.HTTPServiceUnavailable(text="Shutting down.\n")
    return web.Response(text="pg-slot-healer is ready.\n")


async def _status(request: web.Request) -> web.Response:
    app = request.app
    capabilities = app[MONITOR].capabilities
    config = app[_DISCOVERY].config
    clusters = [
        ClusterStatus(
            name=cluster.name,
            remedy=remedy.name,
            plan=remedy.plan,
            capability=capabilities.get((cluster.name, remedy.name)),
            calls_left=app[EPISODES].calls_left(cluster.name, remedy.name),
            limit=remedy.budget_limit(target, config.healer),
            dry_run=target.dry_run,
            fallback=target.fallback,
        )
        for cluster in config.clusters
        for remedy in REMEDIES.values()
        if (target := remedy.target(cluster)) is not None
    ]
    page, reports = _page(request), app[EPISODES].reports
    older = page.stop if page.stop < len(reports) else None
    text = status_page(_surroundings(app), clusters, reports[page], older)
    return web.Response(content_type="text/html", text=text, headers=REFRESHING_HEADERS)


def _surroundings(app: web.Application) -> Surroundings:
    configuration = app[_CONFIGURATION]
    alertmanager = next((reconciler.status for reconciler in app[_RECONCILER]), None)
    return Surroundings(configuration.loaded_at, configuration.last_error, alertmanager)
