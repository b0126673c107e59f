"""What `status` and `explain` share: their flags, the nodes to ask, and how they are asked."""

import argparse
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from exporter.app import APPLICATION_NAME
from pgslot.cli import flags
from pgslot.cli.errors import ConfigError
from pgslot.config.chosen_cluster import chosen_cluster
from pgslot.config.loader import load
from pgslot.config.model import Cluster, Config, HealerSettings, Node
from pgslot.config.secrets import check_secrets
from pgslot.config.yaml_values import parse_duration
from pgslot.patroni.discovery import discover_once
from pgslot.postgres.hosts import nodes_of
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.deadlines import LISTING_INTERVAL_SECONDS
from pgslot.status.growth import HeldSample
from pgslot.status.held_memory import HeldMemory
from pgslot.status.report import Report, cluster_report, joined
from pgslot.status.slot_status import SlotKey

CLUSTER = "default"
"""The cluster of the servers of --conninfo, as for `serve`."""
TIMEOUT_SECONDS = 4.0
"""For one look: all nodes are asked at the same time."""
MIN_SECONDS = 0.5
"""The shortest interval between two looks."""


def add_server_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--conninfo",
        dest="conninfos",
        action="append",
        default=[],
        metavar="CONNINFO",
        help="a server, or several of one cluster (host=a,b), in libpq's notation; can be repeated, once for each "
        "server; keep the password in a passfile, not here",
    )
    flags.add_config_file(parser, again=True)
    parser.add_argument("--cluster", metavar="CLUSTER", help="only this cluster of the configuration")


def read_servers(options: argparse.Namespace) -> Config:
    """Return the clusters to look at. Raises ConfigError."""
    # Before the command --conninfo is the flag of `serve`, and means the same.
    conninfos = [*([options.conninfo] if options.conninfo is not None else []), *options.conninfos]
    if (options.config_file is None) == (not conninfos):
        given = "neither" if options.config_file is None else "both"
        raise ConfigError(f"command line: expected exactly one of --config.file and --conninfo, found {given}")
    if conninfos:
        if options.cluster is not None:
            raise ConfigError("command line: expected --config.file with --cluster, found --conninfo")
        nodes: dict[str, Node] = {node.name: node for text in conninfos for node in nodes_of(text, CLUSTER)}
        return Config((Cluster(CLUSTER, tuple(nodes.values()), None),), HealerSettings())
    config = load(options.config_file)
    check_secrets(config, healer=False)
    if options.cluster is None:
        return config
    return Config((chosen_cluster(config, options.cluster, "--cluster"),), config.healer)


def positive_duration(flag: str, text: str) -> float:
    """Return the seconds of a flag's value, at least MIN_SECONDS. Raises ConfigError."""
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0.0
    if seconds < MIN_SECONDS:
        raise ConfigError(f"{flag}: expected a duration of at least 500ms, such as 2s or 1m, found {text!r}")
    return seconds


def require_slot(report: Report, slot_name: str, place: str, node: str | None = None) -> None:
    """Raise ConfigError if everything was seen, and there is no slot of this name, on this node or on any for None."""
    if report.only(slot_name=slot_name, node=node).slots or report.unseen:
        return
    if all(status.answered for status in report.nodes):
        where = "these servers" if node is None else f"node {node}"
        raise ConfigError(f"{place}: expected a slot of {where}, found {slot_name!r}, which is not there")


class Observer:
    """Looks at some clusters again and again, and remembers what moves."""

    def __init__(self, config: Config, errors: dict[str, str]) -> None:
        self._config = config
        self._errors = errors
        self._memory = HeldMemory()
        self._collector = ClusterCollector(config.clusters, APPLICATION_NAME, LISTING_INTERVAL_SECONDS, slot_users=True)

    async def look(self) -> Report:
        """Ask all nodes at the same time, for TIMEOUT_SECONDS at most."""
        snapshots = await self._collector.collect_all(TIMEOUT_SECONDS)
        reports = [Report((), (), unseen=tuple(self._unlisted()))]
        clusters = {cluster.name: cluster for cluster in self._config.clusters}
        for snapshot in snapshots:
            self._memory.add(snapshot)
            volumes = {node.name: node.wal_volume for node in clusters[snapshot.cluster].nodes}
            held = self._memory.samples(snapshot.cluster)
            reports.append(cluster_report(snapshot, held=held, volumes=volumes))
        return joined(reports)

    def samples(self) -> dict[tuple[str, SlotKey], Sequence[HeldSample]]:
        """Return what each slot retained in the looks so far."""
        return {
            (cluster.name, key): samples
            for cluster in self._config.clusters
            for key, samples in self._memory.samples(cluster.name).items()
        }

    async def close(self) -> None:
        await self._collector.close()

    def _unlisted(self) -> list[str]:
        return [f"the nodes of {name}, which Patroni did not list: {error}" for name, error in self._errors.items()]


@asynccontextmanager
async def observing(config: Config) -> AsyncIterator[Observer]:
    """Give an observer of these clusters, with the nodes that Patroni lists now; its sessions end with the block."""
    config, errors = await discover_once(config)
    observer = Observer(config, errors)
    try:
        yield observer
    finally:
        await observer.close()
