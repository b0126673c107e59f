"""The healer's HTTP endpoints."""

import asyncio
import hmac
import logging
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import UTC, datetime
from html import escape
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry

from exporter.config import Config, read_token
from exporter.log import event
from exporter.metrics import exposition, families, process_samples
from exporter.reload import Configuration
from exporter.web import answer_reload, process_registry
from exporter.yamlfile import ConfigError
from healer.alertmanager import running_alerts_eventually
from healer.alerts import Action, WebhookError, parse
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
_CONFIGURATION = web.AppKey("configuration", Configuration)
_LIFECYCLE = web.AppKey("lifecycle", bool)
_TASKS = web.AppKey("tasks", set[asyncio.Task[None]])


def application(configuration: Configuration, *, lifecycle: bool = False) -> web.Application:
    """Build the application; without a token file in the configuration webhooks need no token."""
    app = web.Application(client_max_size=LARGEST_BODY)
    app[_CONFIGURATION] = configuration
    app[_LIFECYCLE] = lifecycle
    app[_REGISTRY] = process_registry()
    app[_METRICS] = HealerMetrics(app[_REGISTRY])
    app[_MONITOR] = CapabilityMonitor(app[_METRICS])
    app[_EPISODES] = Episodes(configuration.config, app[_METRICS], app[_MONITOR])
    app[_TASKS] = set()
    configuration.on_change(lambda config: _apply(app, config))
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
    _apply(app, app[_CONFIGURATION].config)
    yield
    for task in app[_TASKS]:
        task.cancel()
    await asyncio.gather(*app[_TASKS], return_exceptions=True)
    await app[_MONITOR].close()
    await app[_EPISODES].close()


def _apply(app: web.Application, config: Config) -> None:
    """Put a configuration into force: at start, and after each reload."""
    app[_EPISODES].reconfigure(config)
    app[_MONITOR].watch({cluster.name: cluster.healer for cluster in config.clusters if cluster.healer is not None})
    if config.healer.alertmanager_url is not None:
        for task in app[_TASKS]:
            task.cancel()
        task = asyncio.create_task(_pick_up(app, config.healer.alertmanager_url))
        app[_TASKS].add(task)
        task.add_done_callback(app[_TASKS].discard)


async def _pick_up(app: web.Application, alertmanager_url: str) -> None:
    """After a start or a change, go on with the alerts that still fire."""
    for alert in await running_alerts_eventually(alertmanager_url):
        app[_EPISODES].take(alert)


async def _alerts(request: web.Request) -> web.Response:
    status, text = await _intake(request)
    request.app[_METRICS].webhooks.labels(str(status)).inc()
    if status != 200:
        event(_log, logging.WARNING, "webhook refused", code=status, error=text, peer=request.remote)
    return web.Response(status=status, text=f"{text}\n")


async def _intake(request: web.Request) -> tuple[int, str]:
    token_file = request.app[_CONFIGURATION].config.healer.webhook_token_file
    try:
        token = read_token(token_file) if token_file is not None else ""
    except ConfigError as error:
        # Without the token nobody can be let in; 503 makes Alertmanager try again.
        event(_log, logging.ERROR, "cannot read the webhook token", error=str(error))
        return 503, "the webhook token cannot be read"
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
    status = 503 if actions.get(Action.REFUSED_FULL) else 200
    return status, " ".join(f"{action}={count}" for action, count in actions.items())


async def _metrics(request: web.Request) -> web.Response:
    configuration = request.app[_CONFIGURATION]
    own = families(process_samples(reload_ok=configuration.last_ok, reloaded_at=configuration.loaded_at))
    body, content_type = exposition(request.headers.get("Accept", ""), [*own, *request.app[_REGISTRY].collect()])
    return web.Response(body=body, headers={"Content-Type": content_type})


async def _episodes(request: web.Request) -> web.Response:
    return web.json_response([_as_json(report) for report in request.app[_EPISODES].reports])


async def _reload(request: web.Request) -> web.Response:
    return await answer_reload(request.app[_CONFIGURATION], lifecycle=request.app[_LIFECYCLE])


async def _healthy(request: web.Request) -> web.Response:
    if request.app[_MONITOR].defect:
        return web.Response(status=500, text="A background task has ended by a defect, see the log.\n")
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
