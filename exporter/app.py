"""The exporter's HTTP endpoints."""

import math
import re

from aiohttp import web

from exporter import collectors, response_body, runbooks
from exporter.catalogue import CATALOGUE
from exporter.landing import landing
from exporter.series import cluster_series
from pgslot.config.reload import ConfigReloader
from pgslot.diagnosis.peers import peers_needed
from pgslot.exposition.cache import RenderCache
from pgslot.exposition.common import patroni_series, process_series
from pgslot.exposition.families import families, render_pieces
from pgslot.exposition.process_metrics import ProcessMetrics, process_registry
from pgslot.exposition.text_format import Family
from pgslot.httpserver.lifecycle import answer_reload
from pgslot.patroni.discovery import Discovery
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.deadlines import MIN_COLLECT_SECONDS

APPLICATION_NAME = "pg_slot_exporter"
DEFAULT_TIMEOUT = 10.0
"""Seconds for a scrape without Prometheus' header; Prometheus' own default."""
TIMEOUT_MARGIN = 0.5
"""Seconds kept back for writing and sending the answer."""
MAX_COLLECT_SECONDS = 60.0

_CONFIGURATION = web.AppKey("configuration", ConfigReloader)
_DISCOVERY = web.AppKey("discovery", Discovery)
_LIFECYCLE = web.AppKey("lifecycle", bool)
_MEMORY = web.AppKey("memory", RenderCache)
_OBSERVER = web.AppKey("observer", ClusterCollector)
_PROCESS = web.AppKey("process", ProcessMetrics)


def application(configuration: ConfigReloader, *, lifecycle: bool = False) -> web.Application:
    """Build the application; its connections are opened by the first scrape and closed at its end."""
    app = web.Application()
    app[_CONFIGURATION] = configuration
    app[_LIFECYCLE] = lifecycle
    discovery = app[_DISCOVERY] = Discovery(configuration)
    app[_OBSERVER] = ClusterCollector(discovery.config.clusters, APPLICATION_NAME)
    app[_PROCESS] = ProcessMetrics(process_registry())
    app[_MEMORY] = RenderCache()
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


def collect_timeout(header: str | None) -> float:
    """Return the seconds that a look may take, from X-Prometheus-Scrape-Timeout-Seconds."""
    try:
        asked = float(header) if header else DEFAULT_TIMEOUT
    except ValueError:
        asked = DEFAULT_TIMEOUT
    if not math.isfinite(asked):
        asked = DEFAULT_TIMEOUT
    return max(MIN_COLLECT_SECONDS, min(MAX_COLLECT_SECONDS, asked - TIMEOUT_MARGIN))


def accepts_gzip(header: str) -> bool:
    """Return whether this Accept-Encoding asks for gzip, by name and not with a weight of 0."""
    for part in header.lower().split(","):
        coding, _, weight = part.replace(" ", "").partition(";")
        if coding == "gzip":
            return re.fullmatch(r"q=0(\.0*)?", weight) is None
    return False


async def _metrics(request: web.Request) -> web.Response:
    asked = _asked(request)
    snapshots = await request.app[_OBSERVER].collect_all(_timeout(request), collectors.scope_for(asked))
    memory = request.app[_MEMORY]
    series = [part for snapshot in snapshots for part in cluster_series(snapshot, asked, memory=memory)]
    if asked != collectors.ALL:
        return _exposed(request, families(series, CATALOGUE))
    configuration = request.app[_CONFIGURATION]
    for status in request.app[_DISCOVERY].statuses():
        series.extend(patroni_series(**status._asdict()))
    series.extend(process_series(reload_ok=configuration.last_ok, reloaded_at=configuration.loaded_at))
    return _exposed(request, [*families(series, CATALOGUE), *request.app[_PROCESS].collect()])


async def _probe(request: web.Request) -> web.Response:
    for name in ("cluster", "node"):
        if not request.query.get(name):
            return web.Response(status=400, text=f"expected the parameters cluster and node, found no {name}\n")
    cluster, node = request.query["cluster"], request.query["node"]
    observer = request.app[_OBSERVER]
    if not observer.knows(cluster, node):
        return web.Response(status=404, text="no such cluster and node in the configuration\n")
    asked = _asked(request)
    snapshot = await observer.collect_node_with_peers(
        cluster, node, _timeout(request), collectors.scope_for(asked), peers=peers_needed
    )
    series = [*cluster_series(snapshot, asked, only=node, memory=request.app[_MEMORY])]
    if asked == collectors.ALL:
        for status in request.app[_DISCOVERY].statuses(cluster):
            series.extend(patroni_series(**status._asdict()))
    return _exposed(request, families(series, CATALOGUE))


async def _discovery(request: web.Request) -> web.Response:
    """Prometheus' http_sd_configs: each node is a target of this exporter, told apart by its instance label."""
    if not request.app[_DISCOVERY].complete:
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
    page = landing(request.app[_DISCOVERY].config, lifecycle=request.app[_LIFECYCLE])
    return web.Response(text=page, content_type="text/html")


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="pg-slot-exporter is healthy.\n")


async def _ready(_request: web.Request) -> web.Response:
    return web.Response(text="pg-slot-exporter is ready.\n")


async def _reload(request: web.Request) -> web.Response:
    return await answer_reload(request.app[_CONFIGURATION].reload, enabled=request.app[_LIFECYCLE])


def _asked(request: web.Request) -> frozenset[str]:
    try:
        return collectors.parse_collect(request.query.getall("collect[]", []))
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from None


def _timeout(request: web.Request) -> float:
    return collect_timeout(request.headers.get("X-Prometheus-Scrape-Timeout-Seconds"))


def _exposed(request: web.Request, found: list[Family]) -> web.Response:
    pieces, content_type = render_pieces(request.headers.get("Accept", ""), found)
    headers = {"Content-Type": content_type, "Vary": "Accept-Encoding"}
    if accepts_gzip(request.headers.get("Accept-Encoding", "")):
        headers["Content-Encoding"] = "gzip"
        return web.Response(body=response_body.gzipped(pieces), headers=headers)
    return web.Response(body=response_body.response_body(pieces), headers=headers)


async def _close(app: web.Application) -> None:
    await app[_OBSERVER].close()
