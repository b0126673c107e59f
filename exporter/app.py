"""The exporter's HTTP endpoints."""

import asyncio
import math
import re

from aiohttp import web

from exporter import runbooks
from exporter.catalogue import CATALOGUE
from exporter.collectors import ALL, parse_collect, scope_for
from exporter.landing import landing
from exporter.latest_look import ClusterLook, LatestLook
from exporter.response_body import ChunkedBody, gzipped
from exporter.series import cluster_series
from exporter.service_discovery import ExporterAddress, address_of_request, target_groups
from exporter.slot_evidence import slot_evidence
from exporter.slot_page import no_slot_page, slot_page
from exporter.wal_series import volume_series
from pgslot.config.reload import ConfigReloader
from pgslot.diagnosis.peers import peers_needed
from pgslot.exposition.cache import RenderCache
from pgslot.exposition.families import families, render_pieces
from pgslot.exposition.process_metrics import ProcessMetrics, process_registry
from pgslot.exposition.shared_metrics import patroni_series, process_series
from pgslot.exposition.text_format import Family
from pgslot.httpserver.lifecycle import answer_reload
from pgslot.pages.frame import REFRESHING_HEADERS
from pgslot.patroni.discovery import Discovery
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.deadlines import LISTING_INTERVAL_SECONDS, MIN_COLLECT_SECONDS
from pgslot.snapshot.queries import Scope

APPLICATION_NAME = "pg_slot_exporter"

DEFAULT_TIMEOUT_SECONDS = 10.0
"""For a scrape without Prometheus' header; Prometheus' own default."""
RESPONSE_SECONDS = 0.5
"""The part of a scrape's timeout that is kept for rendering and sending the response."""
MAX_COLLECT_SECONDS = 60.0
"""The most that a scraper is granted, whatever its header says."""

_CONFIGURATION = web.AppKey("configuration", ConfigReloader)
_DISCOVERY = web.AppKey("discovery", Discovery)
_LIFECYCLE = web.AppKey("lifecycle", bool)
_EXTERNAL_ADDRESS: web.AppKey[ExporterAddress | None] = web.AppKey("external_address")
_COLLECTOR = web.AppKey("collector", ClusterCollector)
_PROCESS_METRICS = web.AppKey("process_metrics", ProcessMetrics)
_LOOK = web.AppKey("look", LatestLook)
_RENDER_CACHE = web.AppKey("render_cache", RenderCache)


def application(
    configuration: ConfigReloader,
    *,
    lifecycle: bool = False,
    external_address: ExporterAddress | None = None,
    listing_interval: float = LISTING_INTERVAL_SECONDS,
) -> web.Application:
    """
    Build the application; the first scrape opens its connections, and its clean-up closes them.

    `external_address`: for the targets of /sd; None: the host that Prometheus asked. `listing_interval`: seconds
    between two listings of a node's WAL directory.

    It owns the cache of rendered slots, which all scrapes and probes share and a change of the nodes clears.
    """
    app = web.Application()
    app[_CONFIGURATION] = configuration
    app[_LIFECYCLE] = lifecycle
    app[_EXTERNAL_ADDRESS] = external_address
    discovery = app[_DISCOVERY] = Discovery(configuration)
    app[_COLLECTOR] = ClusterCollector(discovery.config.clusters, APPLICATION_NAME, listing_interval)
    app[_PROCESS_METRICS] = ProcessMetrics(process_registry())
    app[_RENDER_CACHE] = RenderCache()
    discovery.on_change(lambda _: app[_RENDER_CACHE].clear())
    discovery.on_change(lambda config: app[_COLLECTOR].reconfigure(config.clusters))
    app[_LOOK] = LatestLook(app[_COLLECTOR])
    discovery.on_change(app[_LOOK].reconfigure)
    app.cleanup_ctx.append(discovery.run)
    app.on_cleanup.append(_close)
    app.add_routes(
        [
            web.get("/", _landing),
            web.get("/slots/{cluster}/{node}/{slot}", _slot),
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
    """Return the seconds that collecting may take, from the header X-Prometheus-Scrape-Timeout-Seconds."""
    try:
        timeout = float(header) if header else DEFAULT_TIMEOUT_SECONDS
    except ValueError:
        timeout = DEFAULT_TIMEOUT_SECONDS
    if not math.isfinite(timeout):
        timeout = DEFAULT_TIMEOUT_SECONDS
    return max(MIN_COLLECT_SECONDS, min(MAX_COLLECT_SECONDS, timeout - RESPONSE_SECONDS))


def accepts_gzip(header: str) -> bool:
    """Return whether this Accept-Encoding asks for gzip, by name and not with a weight of 0."""
    for part in header.lower().split(","):
        coding, _, weight = part.replace(" ", "").partition(";")
        if coding == "gzip":
            return re.fullmatch(r"q=0(\.0*)?", weight) is None
    return False


async def _metrics(request: web.Request) -> web.Response:
    collectors = _collectors(request)
    scope = scope_for(collectors)
    snapshots = await request.app[_COLLECTOR].collect_all(_timeout(request), scope)
    if scope is Scope.EVERYTHING:
        request.app[_LOOK].scraped(node for snapshot in snapshots for node in snapshot.nodes)
    cache = request.app[_RENDER_CACHE]
    series = [block for snapshot in snapshots for block in cluster_series(snapshot, collectors, cache=cache)]
    if "wal_directory" in collectors:
        series.extend(volume_series(request.app[_DISCOVERY].config))
    if collectors != ALL:
        return _rendered(request, families(series, CATALOGUE))
    configuration = request.app[_CONFIGURATION]
    series.extend(patroni_series(request.app[_DISCOVERY].statuses()))
    series.extend(process_series(reload_ok=configuration.last_ok, reloaded_at=configuration.loaded_at))
    return _rendered(request, [*families(series, CATALOGUE), *request.app[_PROCESS_METRICS].collect()])


async def _probe(request: web.Request) -> web.Response:
    for name in ("cluster", "node"):
        if not request.query.get(name):
            return web.Response(status=400, text=f"expected the parameters cluster and node, found no {name}\n")
    cluster, node = request.query["cluster"], request.query["node"]
    collector = request.app[_COLLECTOR]
    if not collector.knows(cluster, node):
        return web.Response(status=404, text="no such cluster and node in the configuration\n")
    collectors = _collectors(request)
    scope = scope_for(collectors)
    snapshot = await collector.collect_node_with_peers(cluster, node, _timeout(request), scope, peers=peers_needed)
    if scope is Scope.EVERYTHING:
        request.app[_LOOK].scraped(member for member in snapshot.nodes if member.node == node)
    series = [*cluster_series(snapshot, collectors, only=node, cache=request.app[_RENDER_CACHE])]
    if "wal_directory" in collectors:
        series.extend(volume_series(request.app[_DISCOVERY].config, cluster, node))
    if collectors == ALL:
        series.extend(patroni_series(request.app[_DISCOVERY].statuses(cluster)))
    return _rendered(request, families(series, CATALOGUE))


async def _discovery(request: web.Request) -> web.Response:
    if not request.app[_DISCOVERY].complete:
        # Prometheus then keeps its targets; an incomplete list would remove them for a minute.
        raise web.HTTPServiceUnavailable(text="Patroni has not been asked about all clusters yet.\n")
    address = request.app[_EXTERNAL_ADDRESS] or address_of_request(request.scheme, request.host)
    if address is None:
        raise web.HTTPBadRequest(text="expected a name or an address as Host, or --web.external-url\n")
    return web.json_response(target_groups(request.app[_DISCOVERY].config, address))


async def _runbook(request: web.Request) -> web.Response:
    page = runbooks.runbook(request.match_info["alert"])
    if page is None:
        raise web.HTTPNotFound(text="no runbook of this name\n")
    return web.Response(text=page, content_type="text/html")


async def _landing(request: web.Request) -> web.Response:
    config, chosen = request.app[_DISCOVERY].config, request.query.get("cluster")
    clusters = [cluster for cluster in config.clusters if chosen in (None, cluster.name)]
    if chosen is not None and not clusters:
        raise web.HTTPNotFound(text="no such cluster in the configuration\n")
    # Clusters wait for slow servers at the same time.
    looks = await asyncio.gather(*(request.app[_LOOK].cluster(cluster) for cluster in clusters))
    page = landing(config, looks, lifecycle=request.app[_LIFECYCLE], chosen=chosen)
    return _refreshing(page)


async def _slot(request: web.Request) -> web.Response:
    cluster, node, name = (request.match_info[part] for part in ("cluster", "node", "slot"))
    known = {configured.name: configured for configured in request.app[_DISCOVERY].config.clusters}
    if not request.app[_COLLECTOR].knows(cluster, node) or cluster not in known:
        return _refreshing(no_slot_page(f"The configuration has no node {node} of a cluster {cluster}."), status=404)
    look = await request.app[_LOOK].cluster(known[cluster])
    slot = next((slot for slot in look.slots if (slot.node, slot.slot_name) == (node, name)), None)
    if slot is None:
        return _refreshing(no_slot_page(_why_missing(look, node, name)), status=404)
    samples = request.app[_LOOK].samples(look, slot)
    evidence = slot_evidence(look.snapshot, slot, request.app[_RENDER_CACHE])
    return _refreshing(slot_page(look, slot, samples, evidence))


def _why_missing(look: ClusterLook, node: str, name: str) -> str:
    snapshot = look.snapshot.node(node)
    if snapshot is None or snapshot.slots is None:
        return f"Whether {node} has a slot {name} is not known: the node did not show its slots."
    return f"{node} has no slot {name}, or one that comes and goes by itself, which no series shows."


def _refreshing(page: str, status: int = 200) -> web.Response:
    return web.Response(text=page, content_type="text/html", headers=REFRESHING_HEADERS, status=status)


async def _healthy(_request: web.Request) -> web.Response:
    return web.Response(text="pg-slot-exporter is healthy.\n")


async def _ready(_request: web.Request) -> web.Response:
    return web.Response(text="pg-slot-exporter is ready.\n")


async def _reload(request: web.Request) -> web.Response:
    return await answer_reload(request.app[_CONFIGURATION].reload, enabled=request.app[_LIFECYCLE])


def _collectors(request: web.Request) -> frozenset[str]:
    try:
        return parse_collect(request.query.getall("collect[]", []))
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"{error}\n") from None


def _timeout(request: web.Request) -> float:
    return collect_timeout(request.headers.get("X-Prometheus-Scrape-Timeout-Seconds"))


def _rendered(request: web.Request, collected: list[Family]) -> web.Response:
    pieces, content_type = render_pieces(request.headers.get("Accept", ""), collected)
    headers = {"Content-Type": content_type, "Vary": "Accept-Encoding"}
    if accepts_gzip(request.headers.get("Accept-Encoding", "")):
        headers["Content-Encoding"] = "gzip"
        return web.Response(body=gzipped(pieces), headers=headers)
    return web.Response(body=ChunkedBody(pieces), headers=headers)


async def _close(app: web.Application) -> None:
    await app[_COLLECTOR].close()
