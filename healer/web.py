"""The healer's HTTP endpoints."""

import asyncio
import hmac
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from html import escape
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry

from exporter.config import Config
from exporter.log import event
from exporter.metrics import exposition, families, process_samples
from exporter.web import process_registry
from healer.alertmanager import running_alerts_eventually
from healer.alerts import WebhookError, parse
from healer.capability import CapabilityMonitor
from healer.episode import Report
from healer.episodes import Episodes
from healer.metrics import HealerMetrics

LARGEST_BODY = 16 * 1024 * 1024
"""Bytes; 10,000 alerts fit."""

_log = logging.getLogger(__name__)

_EPISODES = web.AppKey("episodes", Episodes)
_MONITOR = web.AppKey("monitor", CapabilityMonitor)
_METRICS = web.AppKey("metrics", HealerMetrics)
_REGISTRY = web.AppKey("registry", CollectorRegistry)
_LOADED_AT = web.AppKey("loaded_at", float)
_TOKEN = web.AppKey("token", str)
_ALERTMANAGER = web.AppKey("alertmanager", str)


def application(config: Config, token: str) -> web.Application:
    """Build the application; an empty token means that webhooks need none."""
    app = web.Application(client_max_size=LARGEST_BODY)
    targets = {cluster.name: cluster.healer for cluster in config.clusters if cluster.healer is not None}
    app[_REGISTRY] = process_registry()
    app[_METRICS] = HealerMetrics(app[_REGISTRY], targets)
    app[_MONITOR] = CapabilityMonitor(targets, app[_METRICS])
    app[_EPISODES] = Episodes(config, app[_METRICS], app[_MONITOR])
    app[_LOADED_AT] = time.time()
    app[_TOKEN] = token
    app[_ALERTMANAGER] = config.healer.alertmanager_url or ""
    app.cleanup_ctx.append(_working)
    app.add_routes(
        [
            web.post("/alerts", _alerts),
            web.get("/", _status),
            web.get("/episodes", _episodes),
            web.get("/metrics", _metrics),
            web.get("/-/healthy", _healthy),
            web.get("/-/ready", _ready),
        ]
    )
    return app


async def _working(app: web.Application) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(app[_MONITOR].run()), asyncio.create_task(_pick_up(app))]
    for task in tasks:
        task.add_done_callback(_report_defect)
    yield
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    await app[_EPISODES].close()


def _report_defect(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        _log.critical("a background task ended by a defect", exc_info=task.exception())


async def _pick_up(app: web.Application) -> None:
    """After a restart, go on with the alerts that still fire."""
    if app[_ALERTMANAGER]:
        for alert in await running_alerts_eventually(app[_ALERTMANAGER]):
            app[_EPISODES].take(alert)


async def _alerts(request: web.Request) -> web.Response:
    status, text = await _intake(request)
    request.app[_METRICS].webhooks.labels(str(status)).inc()
    if status != 200:
        event(_log, logging.WARNING, "webhook refused", code=status, error=text, peer=request.remote)
    return web.Response(status=status, text=f"{text}\n")


async def _intake(request: web.Request) -> tuple[int, str]:
    token = request.app[_TOKEN]
    given = request.headers.get("Authorization", "")
    if token and not hmac.compare_digest(given.encode(), f"Bearer {token}".encode()):
        return 401, "expected the header Authorization: Bearer with the webhook token"
    try:
        webhook = parse(await request.read())
    except web.HTTPRequestEntityTooLarge:
        return 413, f"expected a body of at most {LARGEST_BODY} bytes"
    except WebhookError as error:
        return 400, str(error)
    if webhook.truncated:
        event(_log, logging.WARNING, "Alertmanager cut alerts off: unset max_alerts", truncated=webhook.truncated)
    actions: dict[str, int] = {}
    for alert in webhook.alerts:
        action = request.app[_EPISODES].take(alert)
        actions[action] = actions.get(action, 0) + 1
    event(_log, logging.INFO, "webhook received", alerts=len(webhook.alerts), **actions)
    return 200, " ".join(f"{action}={count}" for action, count in actions.items())


async def _metrics(request: web.Request) -> web.Response:
    own = families(process_samples(reload_ok=True, reloaded_at=request.app[_LOADED_AT]))
    body, content_type = exposition(request.headers.get("Accept", ""), [*own, *request.app[_REGISTRY].collect()])
    return web.Response(body=body, headers={"Content-Type": content_type})


async def _episodes(request: web.Request) -> web.Response:
    return web.json_response([_as_json(report) for report in request.app[_EPISODES].reports])


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="pg-slot-healer is healthy.\n")


async def _ready(request: web.Request) -> web.Response:
    if not request.app[_MONITOR].complete:
        raise web.HTTPServiceUnavailable(text="The capability of some clusters is not known yet.\n")
    return web.Response(text="pg-slot-healer is ready.\n")


async def _status(request: web.Request) -> web.Response:
    capabilities = "".join(
        f"<tr><td>{escape(cluster)}<td>{escape(known.reason or 'can heal')}<td>{escape(known.remedy)}</tr>"
        for cluster, known in sorted(request.app[_MONITOR].known.items())
    )
    episodes = "".join(_episode_html(report) for report in request.app[_EPISODES].reports)
    return web.Response(
        content_type="text/html",
        text=f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>pg-slot-healer</title><meta name="viewport" content="width=device-width">
<style>:root {{ color-scheme: light dark }} body {{ font-family: sans-serif; margin: 1rem }}
td, th {{ text-align: left; padding: .2rem .8rem .2rem 0; vertical-align: top }}</style></head>
<body><h1>pg-slot-healer</h1>
<h2>Clusters</h2><table><tr><th>Cluster<th>Capability<th>Remedy</tr>{capabilities}</table>
<h2>Episodes</h2>{episodes or "<p>None yet.</p>"}
</body></html>
""",
    )


def _episode_html(report: Report) -> str:
    started = f"{datetime.fromtimestamp(report.started_at, UTC):%Y-%m-%d %H:%M:%S} UTC"
    lines = "".join(f"<tr><td>{line.seconds:.1f} s</td><td>{escape(line.text)}</td></tr>" for line in report.timeline)
    outcome = escape(report.outcome or "running")
    return f"<h3>{escape(report.cluster)}: {outcome} ({started})</h3><table>{lines}</table>"


def _as_json(report: Report) -> dict[str, Any]:
    return asdict(report) | {
        "lsns": list(report.lsns),
        "timeline": [asdict(line) for line in report.timeline],
    }
