"""The exporter's HTTP endpoints."""

import math
import time
from html import escape
from importlib.resources import files
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from exporter import __version__
from exporter.config import Config
from exporter.metrics import cluster_samples, exposition, families, process_samples
from exporter.observer import Observer

APPLICATION_NAME = "pg_slot_exporter"
DEFAULT_TIMEOUT = 10.0
"""Seconds for a scrape without Prometheus' header; Prometheus' own default."""
TIMEOUT_MARGIN = 0.5
"""Seconds kept back for writing and sending the answer."""
SHORTEST_LOOK = 0.5
LONGEST_LOOK = 60.0

_OBSERVER = web.AppKey("observer", Observer)
_LOADED_AT = web.AppKey("loaded_at", float)
_PROCESS = web.AppKey("process", CollectorRegistry)


def application(config: Config) -> web.Application:
    """Build the application; its connections are opened by the first scrape and closed at its end."""
    app = web.Application()
    app[_LOADED_AT] = time.time()
    app[_OBSERVER] = Observer(config.clusters, APPLICATION_NAME)
    app[_PROCESS] = process_registry()
    app.on_cleanup.append(_close)
    app.add_routes(
        [
            web.get("/", _landing),
            web.get("/metrics", _metrics),
            web.get(r"/runbooks/{alert:[A-Za-z]+}{suffix:(\.md)?}", _runbook),
            web.get("/-/healthy", _healthy),
            web.get("/-/ready", _healthy),
        ]
    )
    return app


def process_registry() -> CollectorRegistry:
    """Return Python's process metrics in a registry of their own."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


def look_timeout(header: str | None) -> float:
    """Return the seconds that a look may take, from X-Prometheus-Scrape-Timeout-Seconds."""
    try:
        asked = float(header) if header else DEFAULT_TIMEOUT
    except ValueError:
        asked = DEFAULT_TIMEOUT
    if not math.isfinite(asked):
        asked = DEFAULT_TIMEOUT
    return max(SHORTEST_LOOK, min(LONGEST_LOOK, asked - TIMEOUT_MARGIN))


async def _metrics(request: web.Request) -> web.Response:
    timeout = look_timeout(request.headers.get("X-Prometheus-Scrape-Timeout-Seconds"))
    snapshots = await request.app[_OBSERVER].look_at_all(timeout)
    samples = [sample for snapshot in snapshots for sample in cluster_samples(snapshot)]
    samples.extend(process_samples(reload_ok=True, reloaded_at=request.app[_LOADED_AT]))
    body, content_type = exposition(
        request.headers.get("Accept", ""), [*families(samples), *request.app[_PROCESS].collect()]
    )
    return web.Response(body=body, headers={"Content-Type": content_type})


async def _runbook(request: web.Request) -> web.Response:
    page = runbook(request.match_info["alert"])
    if page is None:
        raise web.HTTPNotFound(text="no runbook of this name\n")
    # Not text/markdown: browsers offer that for download, and this is read at night.
    return web.Response(text=page, content_type="text/plain")


def runbook(alert: str) -> str | None:
    """Return the Markdown of an alert's runbook; None when there is none."""
    for folder in (files("exporter") / "runbooks", Path(__file__).parent.parent / "alerts" / "runbooks"):
        page = folder / f"{alert}.md"
        if page.is_file():
            return page.read_text("utf-8")
    return None


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="pg-slot-exporter is healthy.\n")


async def _landing(_request: web.Request) -> web.Response:
    version = escape(__version__)
    return web.Response(
        content_type="text/html",
        text=f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>pg-slot-exporter</title>
<meta name="viewport" content="width=device-width"><meta name="color-scheme" content="light dark"></head>
<body><h1>pg-slot-exporter {version}</h1>
<p>Shows why PostgreSQL's logical replication slots wait or retain WAL.</p>
<ul><li><a href="/metrics">Metrics</a></li><li><a href="/-/healthy">Health</a></li></ul>
</body></html>
""",
    )


async def _close(app: web.Application) -> None:
    await app[_OBSERVER].close()
