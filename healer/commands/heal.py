"""`pg-slot-healer heal CLUSTER` or `heal --conninfo`: runs one episode by hand and prints its timeline as it goes."""

import argparse
import asyncio
import sys
from collections.abc import Collection
from dataclasses import replace

from healer.commands.heal_hosts import Request, ask_on_terminal, heal_hosts
from healer.commands.manual_episode import (
    MAX_GIVE_UP_AFTER,
    NOTHING_TO_HEAL,
    Exit,
    Output,
    describe_capability,
    exit_code,
    finish,
    names_of,
    run_episode,
    unread_nodes,
)
from healer.commands.options import add_config_and_json, read_config
from healer.episodes.deadlines import COLLECT_TIMEOUT
from healer.remedies.attempt import APPLICATION_NAME
from healer.remedies.force_snapshot.connection import has_fallback
from healer.remedies.force_snapshot.need import slots_in_need
from healer.remedies.registry import FORCE_SNAPSHOT
from pgslot.cli import logging as log
from pgslot.cli.errors import ConfigError
from pgslot.config.chosen_cluster import chosen_cluster
from pgslot.config.model import Cluster, Config, HealerConfig
from pgslot.config.yaml_values import parse_duration
from pgslot.patroni.discovery import discover_once
from pgslot.snapshot.cluster import ClusterCollector

HELP = "run one episode by hand, and print what the healer sees and does"
EXAMPLES = (
    (
        "Heal the slots of a primary and its standbys without a configuration; the command asks first.",
        'pg-slot-healer heal --conninfo="host=shop-1,shop-2 user=postgres dbname=postgres"',
    ),
    (
        "See what the healer would do for the slots of the cluster shop now.",
        "pg-slot-healer heal shop --dry-run --config.file=pgslot.yml",
    ),
    (
        "Heal them, and stop after half a minute.",
        "pg-slot-healer heal shop --give-up-after=30s --config.file=pgslot.yml",
    ),
)


def find_cluster(config: Config, name: str) -> tuple[Cluster, HealerConfig]:
    """Return the cluster and its healer section. Raises ConfigError if either does not exist."""
    cluster = chosen_cluster(config, name)
    if cluster.healer is None:
        raise ConfigError(f"clusters.{name}: expected a healer section, found none: the cluster is only observed")
    return cluster, cluster.healer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Heals slots that wait now. Give the name of a cluster of the configuration; or, without a configuration,"
        " --conninfo with the primary and the standbys: the command then shows what it would do, and asks."
    )
    parser.add_argument("cluster", metavar="CLUSTER", nargs="?", help="the cluster's name in the configuration")
    parser.add_argument(
        "--conninfo",
        metavar="CONNINFO",
        help="instead of a cluster: libpq's connection string with all hosts of the cluster, such as "
        '"host=a,b user=postgres"; keep the password in a passfile or PGPASSWORD, not here',
    )
    parser.add_argument(
        "--slot",
        dest="slots",
        action="append",
        default=[],
        metavar="NAME",
        help="the slot to heal; repeat it for several; default: every slot of the cluster that waits, with --conninfo"
        " the one that waits",
    )
    parser.add_argument("--yes", action="store_true", help="with --conninfo: do not ask")
    parser.add_argument("--dry-run", action="store_true", help="observe and decide, but call nothing")
    parser.add_argument(
        "--give-up-after",
        metavar="DURATION",
        help="when to stop, such as 30s or 5m; default: give_up_after of the configuration, but two minutes at most",
    )
    add_config_and_json(parser)


def run(options: argparse.Namespace) -> int:
    """Heal a cluster of the configuration, or the servers of --conninfo; return an Exit."""
    log.setup("error", "logfmt")
    give_up_after = _seconds(options.give_up_after)
    if (options.cluster is None) == (options.conninfo is None):
        given = "neither" if options.cluster is None else "both"
        raise ConfigError(f"command line: expected either CLUSTER or --conninfo, found {given}")
    if options.conninfo is not None:
        return _heal_hosts(options, MAX_GIVE_UP_AFTER if give_up_after is None else give_up_after)
    config = read_config(options)
    cluster, _ = find_cluster(config, options.cluster)

    async def heal() -> int:
        if cluster.patroni is not None:
            Output(silent=options.json).line(f"{cluster.name}: asking Patroni for the members")
        discovered, errors = await discover_once(config, {options.cluster})
        for name, error in errors.items():
            raise ConfigError(f"clusters.{name}.patroni: expected an answer of one of its URLs, found: {error}")
        return await heal_cluster(
            discovered,
            options.cluster,
            dry_run=options.dry_run,
            give_up_after=give_up_after,
            as_json=options.json,
            only=options.slots,
        )

    return asyncio.run(heal())


def _heal_hosts(options: argparse.Namespace, give_up_after: float) -> int:
    if options.config_file is not None:
        raise ConfigError("command line: expected either --config.file or --conninfo, found both")
    asks = not (options.yes or options.dry_run)
    if asks and (options.json or not sys.stdin.isatty()):
        where = "with --json" if options.json else "where there is no terminal to ask at"
        raise ConfigError(f"command line: expected --yes or --dry-run {where}, found neither")
    request = Request(options.conninfo, tuple(options.slots), options.dry_run, give_up_after, options.json)
    return heal_hosts(request, ask_on_terminal if asks else None)


def _seconds(duration: str | None) -> float | None:
    if duration is None:
        return None
    try:
        return parse_duration(duration)
    except ValueError:
        raise ConfigError(f"--give-up-after: expected a duration such as 30s or 5m, found {duration!r}") from None


async def heal_cluster(
    config: Config,
    name: str,
    *,
    dry_run: bool,
    give_up_after: float | None,
    as_json: bool,
    only: Collection[str] = (),
) -> Exit:
    """
    Heal the slots of the cluster that wait or are stalled now, and print what was seen and done.

    `give_up_after`: seconds; None: the configuration's, at most MAX_GIVE_UP_AFTER. `only`: the names of the slots to
    heal; empty: all.
    """
    cluster, target = find_cluster(config, name)
    output = Output(silent=as_json)
    output.line(f"{name}: asking the primary whether a call is possible")
    capability = await FORCE_SNAPSHOT.check(target)
    output.line(f"{name}: {describe_capability(capability)}")
    fallback = has_fallback(target, capability)
    if not target.enabled or (dry_run and capability.reason is not None and not fallback):
        return finish(Exit.UNAVAILABLE, None, capability, {}, as_json=as_json)
    output.line(f"{name}: reading the slots of {names_of([node.name for node in cluster.nodes])}")
    collector = ClusterCollector([cluster], APPLICATION_NAME)
    try:
        snapshot = await collector.collect_cluster(name, COLLECT_TIMEOUT)
    finally:
        await collector.close()
    unread = unread_nodes(snapshot)
    for node, why in unread.items():
        output.line(f"node {node}: could not be read: {why}")
    slots = [key for key in slots_in_need(snapshot) if not only or key.slot_name in only]
    report = None
    if slots:
        acting = replace(cluster, healer=replace(target, dry_run=dry_run or target.dry_run))
        limit = min(config.healer.give_up_after, MAX_GIVE_UP_AFTER) if give_up_after is None else give_up_after
        report = await run_episode(acting, config, slots, limit, output)
    elif not unread:
        output.line(f"nothing to heal: {', '.join(only)} needs no call" if only else NOTHING_TO_HEAL)
    if unread:
        read = ", ".join(node.node for node in snapshot.nodes if node.node not in unread)
        output.line(
            f"{f'nothing to heal on {read}; ' if read and not slots else ''}"
            f"whether a slot waits on {', '.join(unread)} is unknown: pg-slot-healer doctor shows what servers answer"
        )
    return finish(exit_code(report, unread), report, capability, unread, as_json=as_json)
