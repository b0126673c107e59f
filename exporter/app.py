"""The exporter's HTTP endpoints."""

import asyncio
import math
import re

from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector

from exporter import collectors, response_body, runbooks
from exporter.series import cluster_series, process_samples
from pgslot.config.reload import Configuration
from pgslot.exposition.cache import Memory
from pgslot.exposition.families import families, written
from pgslot.exposition.process_metrics import ProcessMetrics
from pgslot.exposition.text_format import Family
from pgslot.patroni.discovery import Discovery
from pgslot.snapshot.cluster import Observer
from pgslot.snapshot.node import SHORTEST_LOOK

APPLICATION_NAME = "pg_slot_exporter"
DEFAULT_TIMEOUT = 10.0
"""Seconds for a scrape without Prometheus' header; Prometheus' own default."""
TIMEOUT_MARGIN = 0.5
"""Seconds kept back for writing and sending the answer."""
LONGEST_LOOK = 60.0

_CONFIGURATION = web.AppKey("configuration", Configuration)
_DISCOVERY = web.AppKey("discovery", Discovery)
_LIFECYCLE = web.AppKey("lifecycle", bool)
_MEMORY = web.AppKey("memory", Memory)
_OBSERVER = web.AppKey("observer", Observer)
_PROCESS = web.AppKey("process", ProcessMetrics)


def application(configuration: Configuration, *, lifecycle: bool = False) -> web.Application:
    """Build the application; its connections are opened by the first scrape and closed at its end."""
    app = web.Application()
    app[_CONFIGURATION] = configuration
    app[_LIFECYCLE] = lifecycle
    discovery = app[_DISCOVERY] = Discovery(configuration)
    app[_OBSERVER] = Observer(discovery.config.clusters, APPLICATION_NAME)
    app[_PROCESS] = ProcessMetrics(process_registry())
    app[_MEMORY] = Memory()
    discovery.on_change(lambda _: app[_MEMORY].clear())
    discovery.on_change(lambda config: app[_OBSERVER].reconfigure(config.clusters))
    app.cleanup_ctx.append(discovery.run)
    app.on_cleanup.append(_close)
    app.add_routes(
        [
            web.get("/", _landing),
            web.get("/metrics", _metrics),
            web.get("/probe", _probe),
            web.get("/sd", _discovery),
            web.get(r"/runbooks/{alert:[A-Za-z]+}{suffix:(\.md)?}", _runbook),
            web.get("/-/healthy", _healthy),
            web.get("/-/ready", _ready),
            web.post("/-/reload", _reload),
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


def accepts_gzip(header: str) -> bool:
    """Return whether this Accept-Encoding asks for gzip, by name and not with a weight of 0."""
    for part in header.lower().split(","):
        coding, _, weight = part.replace(" ", "").partition(";")
        if coding == "gzip":
            return re.fullmatch(r"q=0(\.0*)?", weight) is None
    return False


async def answer_reload(configuration: Configuration, *, lifecycle: bool) -> web.Response:
    """Answer POST /-/reload as Prometheus does: 403 unless it is enabled, 500 with the error if the file is bad."""
    if not lifecycle:
        return web.Response(status=403, text="Lifecycle API is not enabled: start with --web.enable-lifecycle.\n")
    error = await configuration.reload_aside()
    return web.Response() if error is None else web.Response(status=500, text=f"{error}\n")


async def _metrics(request: web.Request) -> web.Response:
    asked = _asked(request)
    own: list[Family] = []
    if asked == collectors.EVERYTHING:
        # While the servers answer: they are asked in the loop's next round, and this is read in the one after it.
        loop = asyncio.get_running_loop()
        loop.call_soon(loop.call_soon, lambda: own.extend(request.app[_PROCESS].collect()))
    snapshots = await request.app[_OBSERVER].look_at_all(_timeout(request), collectors.probes_for(asked))
    memory = request.app[_MEMORY]
    series = [part for snapshot in snapshots for part in cluster_series(snapshot, asked, memory=memory)]
    if asked != collectors.EVERYTHING:
        return _exposed(request, families(series))
    configuration = request.app[_CONFIGURATION]
    series.extend(request.app[_DISCOVERY].series())
    series.extend(process_samples(reload_ok=configuration.last_ok, reloaded_at=configuration.loaded_at))
    return _exposed(request, [*families(series), *own])


async def _probe(request: web.Request) -> web.Response:
    for name in ("cluster", "node"):
        if not request.query.get(name):
            return web.Response(status=400, text=f"expected the parameters cluster and node, found no {name}\n")
    cluster, node = request.query["cluster"], request.query["node"]
    observer = request.app[_OBSERVER]
    if not observer.knows(cluster, node):
        return web.Response(status=404, text="no such cluster and node in the configuration\n")
    asked = _asked(request)
    snapshot = await observer.look_at(cluster, node, _timeout(request), collectors.probes_for(asked))
    series = [*cluster_series(snapshot, asked, only=node, memory=request.app[_MEMORY])]
    if asked == collectors.EVERYTHING:
        series.extend(request.app[_DISCOVERY].series(cluster))
    return _exposed(request, families(series))


async def _discovery(request: web.Request) -> web.Response:
    """Prometheus' http_sd_configs: each node is a target of this exporter, told apart by its instance label."""
    if not request.app[_DISCOVERY].asked:
        # Prometheus keeps the targets that it has, which a list without them would take from it for a minute.
        raise web.HTTPServiceUnavailable(text="Patroni has not been asked about all clusters yet.\n")
    return web.json_response(
        [
            {
                "targets": [request.host],
                "labels": {
                    "__scheme__": request.scheme,
                    "__metrics_path__": "/probe",
                    "__param_cluster": cluster.name,
                    "__param_node": node.name,
                    "instance": f"{cluster.name}/{node.name}",
                },
            }
            for cluster in request.app[_DISCOVERY].config.clusters
            for node in cluster.nodes
        ]
    )


async def _runbook(request: web.Request) -> web.Response:
    page = runbooks.runbook(request.match_info["alert"])
    if page is None:
        raise web.HTTPNotFound(text="no runbook of this name\n")
    return web.Response(text=page, content_type="text/html")


async def _landing(request: web.Request) -> web.Response:
    page = runbooks.landing(request.app[_DISCOVERY].config, lifecycle=request.app[_LIFECYCLE])
    return web.Response(text=page, content_type="text/html")


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="pg-slot-exporter is healthy.\n")


async def _ready(_request: web.Request) -> web.Response:
    return web.Response(text="pg-slot-exporter is ready.\n")


async def _reload(request: web.Request) -> web.Response:
    return await answer_reload(request.app[_CONFIGURATION], lifecycle=request.app[_LIFECYCLE])


def _asked(request: web.Request) -> frozenset[str]:
    try:
        return collectors.asked(request.query.getall("collect[]", []))
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from None


def _timeout(request: web.Request) -> float:
    return look_timeout(request.headers.get("X-Prometheus-Scrape-Timeout-Seconds"))


def _exposed(request: web.Request, found: list[Family]) -> web.Response:
    pieces, content_type = written(request.headers.get("Accept", ""), found)
    headers = {"Content-Type": content_type, "Vary": "Accept-Encoding"}
    if accepts_gzip(request.headers.get("Accept-Encoding", "")):
        headers["Content-Encoding"] = "gzip"
        return web.Response(body=response_body.gzipped(pieces), headers=headers)
    return web.Response(body=response_body.body(pieces), headers=headers)


async def _close(app: web.Application) -> None:
    await app[_OBSERVER].close()
