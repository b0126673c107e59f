"""`pg-slot-exporter rehearse CLUSTER [--to NODE]`: what a switchover would do to every slot, without doing it."""

import argparse
import asyncio
from collections.abc import Sequence

from exporter.app import APPLICATION_NAME
from exporter.commands.options import read_config
from pgslot.cli import flags
from pgslot.cli import logging as log
from pgslot.cli.errors import ConfigError
from pgslot.cli.progress import show_progress
from pgslot.config.chosen_cluster import chosen_cluster
from pgslot.config.model import Cluster, Config
from pgslot.diagnosis.rehearsal import rehearse, switchover_targets, without_members
from pgslot.diagnosis.rehearsal_model import Rehearsal
from pgslot.diagnosis.switchover_facts import SwitchoverFacts
from pgslot.exposition.rehearsal_report import as_json, as_text
from pgslot.patroni.discovery import discover_once
from pgslot.patroni.switchover_facts import fetch_switchover_facts
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.model import ClusterSnapshot

HELP = "show what a switchover would do to every slot now, without doing it"
EXAMPLES = (
    (
        "Rehearse a switchover of the cluster shop to each of its standbys.",
        "pg-slot-exporter rehearse shop --config.file=pgslot.yml",
    ),
    (
        "Rehearse a switchover to one standby, for a script.",
        "pg-slot-exporter rehearse shop --to=shop-2 --json --config.file=pgslot.yml",
    ),
)
TIMEOUT_SECONDS = 10.0
"""For the queries of all nodes, which are asked at the same time."""
SOMETHING_ENDS = 1
SOMETHING_UNSEEN = 3
"""2 is bad input."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Shows what a switchover would do now: which slots go on and which end, how much each consumer would "
        "receive again, what stands in the way, and what breaks afterwards. The command is read-only. Exit "
        "code: 0 nothing breaks, 1 something breaks, 2 bad input, 3 nothing breaks as far as the command could see, "
        "but it could not see everything."
    )
    parser.add_argument("cluster", metavar="CLUSTER", help="the cluster's name in the configuration")
    parser.add_argument(
        "--to", dest="target", metavar="NODE", help="the standby to switch over to; default: every standby in turn"
    )
    flags.add_config_file(parser, again=True)
    parser.add_argument("--json", action="store_true", help="print JSON, for scripts")


def run(options: argparse.Namespace) -> int:
    """Rehearse and print; raises ConfigError for a cluster or node that is not configured."""
    if options.conninfo is not None:
        raise ConfigError("command line: expected --config.file for rehearse, found --conninfo, which has no standby")
    log.setup("error", "logfmt")
    config = read_config(options)
    chosen_cluster(config, options.cluster)
    with show_progress(f"asking the servers of {options.cluster}"):
        rehearsals = asyncio.run(_rehearse(config, options.cluster, options.target))
    print(as_json(rehearsals) if options.json else as_text(rehearsals))
    return exit_code(rehearsals)


def exit_code(rehearsals: Sequence[Rehearsal]) -> int:
    """Return 1 if something does not go on in one of them, else 3 if something could not be seen, else 0."""
    if not all(rehearsal.everything_goes_on for rehearsal in rehearsals):
        return SOMETHING_ENDS
    return 0 if all(rehearsal.everything_known for rehearsal in rehearsals) else SOMETHING_UNSEEN


async def _rehearse(config: Config, name: str, chosen: str | None) -> list[Rehearsal]:
    """Return the rehearsals of a switchover to the chosen standby, None: to each. Raises ConfigError."""
    config, errors = await discover_once(config, {name})
    if name in errors:
        return [without_members(name, chosen, errors[name])]
    [cluster] = [cluster for cluster in config.clusters if cluster.name == name]
    nodes = [node.name for node in cluster.nodes]
    if chosen is not None and chosen not in nodes:
        raise ConfigError(f"--to: expected one of the nodes {', '.join(nodes)}, found {chosen!r}")
    snapshot, facts = await _observe(cluster)
    targets = switchover_targets(snapshot)
    if not targets:
        raise ConfigError(f"clusters.{name}: expected a standby under nodes, found the primary alone")
    if chosen is not None:
        targets = tuple(node for node in targets if node.node == chosen)
    if not targets:
        raise ConfigError(f"--to: expected a standby, found {chosen!r}, which is the primary")
    return [rehearse(snapshot, target, facts) for target in targets]


async def _observe(cluster: Cluster) -> tuple[ClusterSnapshot, SwitchoverFacts]:
    """Return the cluster's snapshot, and what a rehearsal needs beyond."""
    collector = ClusterCollector([cluster], APPLICATION_NAME)
    try:
        return await asyncio.gather(
            collector.collect_cluster(cluster.name, TIMEOUT_SECONDS),
            fetch_switchover_facts(cluster, APPLICATION_NAME, TIMEOUT_SECONDS),
        )
    finally:
        await collector.close()
