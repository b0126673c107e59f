"""`pg-slot-healer heal CLUSTER`: runs one episode and prints its timeline as it goes, as the runbooks use it."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from enum import IntEnum

from healer.commands.options import add_config_and_json, read_config
from healer.episodes.budget import CallBudget
from healer.episodes.deadlines import COLLECT_TIMEOUT
from healer.episodes.loop import Episode
from healer.episodes.report import Report, TimelineEntry
from healer.remedies.attempt import APPLICATION_NAME, Capability
from healer.remedies.force_snapshot.connection import has_fallback
from healer.remedies.force_snapshot.need import slots_in_need
from healer.remedies.progress import Outcome
from healer.remedies.registry import FORCE_SNAPSHOT
from healer.remedies.slot_state import SlotKey
from pgslot.cli import logging as log
from pgslot.cli.errors import ConfigError
from pgslot.cli.logging import printable
from pgslot.config.model import Cluster, Config, HealerConfig
from pgslot.config.yaml_values import parse_duration
from pgslot.patroni.discovery import discover_once
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.model import ClusterSnapshot

HELP = "one episode by hand: print what is seen and done"
MAX_GIVE_UP_AFTER = 120.0
"""Seconds, without --give-up-after: a person is waiting, and finding out what keeps a slot's WAL may take a minute."""


class Exit(IntEnum):
    """Exit codes."""

    HEALED = 0
    """No slot waits any more: healed, resolved by itself, or there was nothing to heal."""
    NOT_HEALED = 1
    UNAVAILABLE = 2
    """The remedy's function cannot be called there, or the healer is switched off. Bad input has the same code."""


def find_cluster(config: Config, name: str) -> tuple[Cluster, HealerConfig]:
    """Return the cluster and its healer section. Raises ConfigError if either does not exist."""
    clusters = {cluster.name: cluster for cluster in config.clusters}
    if name not in clusters:
        raise ConfigError(f"command line: expected one of the clusters {', '.join(clusters)}, found {name!r}")
    target = clusters[name].healer
    if target is None:
        raise ConfigError(f"clusters.{name}: expected a healer section, found none: the cluster is only observed")
    return clusters[name], target


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("cluster", metavar="CLUSTER", help="its name in the configuration")
    parser.add_argument("--dry-run", action="store_true", help="look and decide, and call nothing")
    parser.add_argument(
        "--give-up-after",
        metavar="DURATION",
        help="such as 30s or 5m; default the configuration's, and two minutes at the most",
    )
    add_config_and_json(parser)


def run(options: argparse.Namespace) -> int:
    """Discover the cluster's members and heal it; return an Exit."""
    log.setup("error", "logfmt")
    give_up_after = _seconds(options.give_up_after)
    config = read_config(options)
    find_cluster(config, options.cluster)

    async def heal() -> int:
        discovered, errors = await discover_once(config, {options.cluster})
        for name, error in errors.items():
            raise ConfigError(f"clusters.{name}.patroni: expected an answer of one of its URLs, found: {error}")
        return await heal_cluster(
            discovered, options.cluster, dry_run=options.dry_run, give_up_after=give_up_after, as_json=options.json
        )

    return asyncio.run(heal())


def _seconds(duration: str | None) -> float | None:
    if duration is None:
        return None
    try:
        return parse_duration(duration)
    except ValueError:
        raise ConfigError(f"--give-up-after: expected a duration such as 30s or 5m, found {duration!r}") from None


async def heal_cluster(config: Config, name: str, *, dry_run: bool, give_up_after: float | None, as_json: bool) -> Exit:
    """
    Heal all slots of the cluster that wait or are stalled now, and print what was seen and done.

    `give_up_after`: seconds; None: the configuration's, at most MAX_GIVE_UP_AFTER.
    """
    cluster, target = find_cluster(config, name)
    say: Callable[[str], None] = (lambda _text: None) if as_json else _say
    capability = await FORCE_SNAPSHOT.check(target)
    say(f"{name}: {_describe(capability)}")
    fallback = has_fallback(target, capability)
    if not target.enabled or (dry_run and capability.reason is not None and not fallback):
        return _finish(Exit.UNAVAILABLE, None, capability, as_json=as_json)
    collector = ClusterCollector([cluster], APPLICATION_NAME)
    try:
        snapshot = await collector.collect_cluster(name, COLLECT_TIMEOUT)
    finally:
        await collector.close()
    failed = _failed_queries(snapshot)
    for node, why in failed.items():
        say(f"node {node}: cannot look: {why}")
    slots = slots_in_need(snapshot)
    if not slots:
        nothing = (
            "nothing to heal: no slot creation waits, no slot is stalled, and no copy of a failover slot temporary"
        )
        say("nothing else to heal" if failed else nothing)
        return _finish(Exit.NOT_HEALED if failed else Exit.HEALED, None, capability, as_json=as_json)
    acting = replace(cluster, healer=replace(target, dry_run=dry_run or target.dry_run))
    limit = min(config.healer.give_up_after, MAX_GIVE_UP_AFTER) if give_up_after is None else give_up_after
    report = await _run_episode(acting, config, slots, limit, None if as_json else _print)
    return _finish(_exit(report), report, capability, as_json=as_json)


async def _run_episode(
    cluster: Cluster,
    config: Config,
    slots: list[SlotKey],
    limit: float,
    listener: Callable[[TimelineEntry], None] | None,
) -> Report:
    settings = replace(config.healer, give_up_after=limit)
    budget = CallBudget(settings.calls_per_hour, time.monotonic(), at_start=settings.calls_per_hour)
    episode = Episode(FORCE_SNAPSHOT, cluster, settings, budget)
    episode.report.listener = listener
    for slot in slots:
        episode.join(f"{slot.node}/{slot.slot_name}", slot)
    return await episode.run()


def _exit(report: Report) -> Exit:
    if report.outcome in (Outcome.HEALED, Outcome.RESOLVED_ITSELF, Outcome.DRY_RUN):
        return Exit.HEALED
    return Exit.UNAVAILABLE if report.outcome is Outcome.UNAVAILABLE else Exit.NOT_HEALED


def _finish(code: Exit, report: Report | None, capability: Capability, *, as_json: bool) -> Exit:
    if as_json:
        unavailable = {"reason": capability.reason, "remedy": capability.advice}
        result = {"exit": int(code), "capability": unavailable, "episode": report.as_json() if report else None}
        json.dump(result, sys.stdout, indent=2)
        print()
    return code


def _failed_queries(snapshot: ClusterSnapshot) -> dict[str, str]:
    """Return, by node whose slots could not be read, which queries failed and why."""
    return {
        node.node: ", ".join(f"{query} {status}" for query, status in node.statuses.items() if status != "ok")
        for node in snapshot.nodes
        if node.slots is None or node.creations is None
    }


def _describe(capability: Capability) -> str:
    return "can heal" if capability.reason is None else f"cannot heal: {capability.reason}. {capability.advice}"


def _print(entry: TimelineEntry) -> None:
    _say(f"{entry.seconds:7.2f} s  {entry.text}")


def _say(text: str) -> None:
    # Names come from servers and clients: a terminal would act on control characters in them.
    print(printable(text), flush=True)
