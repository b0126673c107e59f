"""`pg-slot-exporter preflight`: would the creation of a logical slot work now, and how long would it wait?"""

import argparse
import asyncio
import re
import shutil
import sys
import time

from exporter.app import APPLICATION_NAME
from exporter.commands.options import read_config
from pgslot.cli import flags
from pgslot.cli import logging as log
from pgslot.cli.errors import ConfigError
from pgslot.cli.progress import show_progress
from pgslot.config.chosen_cluster import chosen_cluster
from pgslot.config.model import Cluster
from pgslot.diagnosis.preflight import preflight, without_node
from pgslot.diagnosis.preflight_model import Observation, Outcome, Preflight
from pgslot.exposition.preflight_report import as_json, as_text
from pgslot.patroni.discovery import discover_once
from pgslot.postgres.hosts import nodes_of
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.deadlines import LISTING_INTERVAL_SECONDS
from pgslot.snapshot.model import ClusterSnapshot
from pgslot.snapshot.preflight import PreflightFacts, SlotRequest, fetch_preflight, fetch_server
from pgslot.snapshot.preflight_rows import PreflightServer

HELP = "show whether a logical slot could be created now, and how long that would wait"
EXAMPLES = (
    (
        "See whether the user cdc could create a slot in the database shop now, on the primary of two hosts.",
        'pg-slot-exporter preflight --conninfo="host=shop-1,shop-2 user=pgslot_exporter" --database=shop --user=cdc',
    ),
    (
        "The same on a standby, with the publication that the consumer reads.",
        'pg-slot-exporter preflight --conninfo="host=shop-1,shop-2" --on=shop-2:5432 --user=cdc --publication=shop',
    ),
)
TIMEOUT_SECONDS = 10.0
"""For each look at all nodes, which are asked at the same time."""
SETTLED_SECONDS = 0.4
"""The first questions may write WAL themselves, such as hint bits; the WAL writer has written it by then."""
APART_SECONDS = 1.2
"""Between two looks: a transaction in both does not end at once, and a primary that writes has moved."""
FAILS_OR_WAITS = 1
SOMETHING_UNSEEN = 3
"""2 is bad input."""

_PLUGIN = re.compile(r"[A-Za-z0-9_$-]{1,63}")
_SLOT = re.compile(r"[a-z0-9_]{1,63}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Shows whether the creation of a logical replication slot would work now, and what it would wait for: with the "
        "statement that fixes what stands in the way, and on which server. The command creates nothing. Exit code: 0 "
        "the creation would work at once, 1 it would wait, or it or its consumer would fail, 2 bad input, 3 as far as "
        "the command could see it would work, but it could not see everything."
    )
    parser.add_argument(
        "--conninfo",
        metavar="CONNINFO",
        default=argparse.SUPPRESS,
        help="the server, or several hosts of a cluster (host=a,b); keep the password in a passfile, not here",
    )
    flags.add_config_file(parser, again=True)
    parser.add_argument(
        "--cluster", metavar="CLUSTER", help="with --config.file: the cluster's name; default: the only one"
    )
    parser.add_argument(
        "--on",
        metavar="NODE",
        help="where the slot would be created: the name of a node in the configuration, or HOST:PORT of --conninfo; "
        "default: the only node, or the primary",
    )
    parser.add_argument(
        "--database", default="", metavar="NAME", help="the slot's database; default: that of the connection"
    )
    parser.add_argument(
        "--user", default="", metavar="ROLE", help="who would create it; default: the connection's user"
    )
    parser.add_argument("--plugin", default="pgoutput", metavar="NAME", help="the output plugin; default %(default)s")
    parser.add_argument("--publication", metavar="NAME", help="also check this publication, which pgoutput reads")
    parser.add_argument("--slot", metavar="NAME", help="also check whether this name is free")
    parser.add_argument(
        "--no-login",
        action="store_true",
        help="do not try a replication connection as the user, which shows whether pg_hba.conf allows it",
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def run(options: argparse.Namespace) -> int:
    """Look and print; raises ConfigError for bad input."""
    log.setup("error", "logfmt")
    request = _request(options)
    with show_progress("asking the servers"):
        result = asyncio.run(_preflight(options, request))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    print(as_json(result) if options.json else as_text(result, width))
    return exit_code(result)


def exit_code(result: Preflight) -> int:
    """Return 1 if the creation would wait, or it or its consumer would fail, else 3 if something is unknown, else 0."""
    if result.fails or result.outcome is Outcome.WAITS:
        return FAILS_OR_WAITS
    return 0 if result.everything_known else SOMETHING_UNSEEN


def _request(options: argparse.Namespace) -> SlotRequest:
    if _PLUGIN.fullmatch(options.plugin) is None:
        raise ConfigError(
            f"--plugin: expected the name of an output plugin, such as pgoutput, found {options.plugin!r}"
        )
    if options.slot is not None and _SLOT.fullmatch(options.slot) is None:
        raise ConfigError(
            f"--slot: expected 1 to 63 lower-case letters, digits and underscores, found {options.slot!r}"
        )
    return SlotRequest(options.database, options.user, options.plugin, options.publication, options.slot)


async def _cluster(options: argparse.Namespace) -> Cluster:
    """Return the nodes to ask. Raises ConfigError."""
    if options.conninfo is not None and options.config_file is None:
        return Cluster("default", nodes_of(options.conninfo, "default"), None)
    config = read_config(options)
    only = config.clusters[0].name if len(config.clusters) == 1 else ""
    name = chosen_cluster(config, options.cluster or only, "--cluster").name
    config, errors = await discover_once(config, {name})
    if name in errors:
        raise ConfigError(f"clusters.{name}: expected the members that Patroni lists, found none: {errors[name]}")
    [cluster] = [cluster for cluster in config.clusters if cluster.name == name]
    return cluster


async def _preflight(options: argparse.Namespace, request: SlotRequest) -> Preflight:
    cluster = await _cluster(options)
    names = [node.name for node in cluster.nodes]
    if options.on is not None and options.on not in names:
        raise ConfigError(f"--on: expected one of the nodes {', '.join(names)}, found {options.on!r}")
    collector = ClusterCollector([cluster], APPLICATION_NAME, LISTING_INTERVAL_SECONDS)
    try:
        first = await collector.collect_cluster(cluster.name, TIMEOUT_SECONDS)
        chosen = options.on or (names[0] if len(names) == 1 else _name_of_primary(first))
        if chosen is None:
            return without_node(first, request)
        facts, primary, _ = await asyncio.gather(
            _facts(cluster, chosen, request, login=not options.no_login),
            _primary(cluster, first, chosen, request),
            asyncio.sleep(SETTLED_SECONDS),
        )
        before, began = await collector.collect_cluster(cluster.name, TIMEOUT_SECONDS), time.monotonic()
        await asyncio.sleep(APART_SECONDS)
        after = await collector.collect_cluster(cluster.name, TIMEOUT_SECONDS)
    finally:
        await collector.close()
    [node] = [node for node in cluster.nodes if node.name == chosen]
    return preflight(
        Observation(
            request,
            chosen,
            after,
            before,
            time.monotonic() - began,
            facts,
            primary,
            wal_volume_bytes=node.wal_volume.size_bytes,
        )
    )


def _name_of_primary(snapshot: ClusterSnapshot) -> str | None:
    return None if snapshot.primary is None else snapshot.primary.node


async def _facts(cluster: Cluster, name: str, request: SlotRequest, *, login: bool) -> PreflightFacts:
    [node] = [node for node in cluster.nodes if node.name == name]
    return await fetch_preflight(
        node.conninfo, request, application_name=APPLICATION_NAME, timeout=TIMEOUT_SECONDS, login=login
    )


async def _primary(
    cluster: Cluster, snapshot: ClusterSnapshot, chosen: str, request: SlotRequest
) -> PreflightServer | None:
    """Return what the primary shows; None: it is the chosen node itself, or it did not answer."""
    nodes = [node for node in cluster.nodes if node.name == _name_of_primary(snapshot) and node.name != chosen]
    if not nodes:
        return None
    row = await fetch_server(nodes[0].conninfo, request, application_name=APPLICATION_NAME, timeout=TIMEOUT_SECONDS)
    return row if isinstance(row, PreflightServer) else None
