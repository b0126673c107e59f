"""`pg-slot-healer heal CLUSTER`: one episode by hand, told line by line, as the runbooks use it."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from enum import IntEnum

from healer.commands.configuration import read_config
from healer.episodes.budget import CallBudget
from healer.episodes.loop import Episode
from healer.episodes.partial_snapshot import COLLECT_TIMEOUT
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

GIVE_UP_AFTER = 120.0
"""Seconds; somebody sits there and waits. What keeps a slot's WAL may take a minute of looking to tell."""


class Exit(IntEnum):
    """Exit codes."""

    HEALED = 0
    """Nothing waits any more, or could wait: healed, resolved by itself, or nothing was there to heal."""
    NOT_HEALED = 1
    UNAVAILABLE = 2
    """The function cannot be called there, or the healer is switched off; and bad input."""


def find_cluster(config: Config, name: str) -> tuple[Cluster, HealerConfig]:
    """Return the cluster and where the healer acts for it. Raises ConfigError when there is none such."""
    known = {cluster.name: cluster for cluster in config.clusters}
    if name not in known:
        raise ConfigError(f"command line: expected one of the clusters {', '.join(known)}, found {name!r}")
    target = known[name].healer
    if target is None:
        raise ConfigError(f"clusters.{name}: expected a healer section, found none: the cluster is only observed")
    return known[name], target


def run(options: argparse.Namespace) -> int:
    """One episode by hand: options.cluster, dry_run, json, config_file."""
    log.setup("error", "logfmt")
    limit = _seconds(options.give_up_after)
    config = read_config(options)
    find_cluster(config, options.cluster)

    async def heal() -> int:
        known, errors = await discover_once(config, {options.cluster})
        for name, error in errors.items():
            raise ConfigError(f"clusters.{name}.patroni: expected an answer of one of its URLs, found: {error}")
        return await heal_cluster(
            known, options.cluster, dry_run=options.dry_run, give_up_after=limit, as_json=options.json
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
    """Heal whatever waits or is stalled in the cluster now, and print what was seen and done."""
    cluster, target = find_cluster(config, name)
    say: Callable[[str], None] = (lambda _text: None) if as_json else _say
    capability = await FORCE_SNAPSHOT.check(target)
    say(f"{name}: {_told(capability)}")
    fallback = has_fallback(target, capability)
    if not target.enabled or (dry_run and capability.reason is not None and not fallback):
        return _finish(Exit.UNAVAILABLE, None, capability, as_json=as_json)
    observer = ClusterCollector([cluster], APPLICATION_NAME)
    try:
        snapshot = await observer.collect_cluster(name, COLLECT_TIMEOUT)
    finally:
        await observer.close()
    unseen = _unseen(snapshot)
    for node, why in unseen.items():
        say(f"node {node}: cannot look: {why}")
    subjects = slots_in_need(snapshot)
    if not subjects:
        nothing = (
            "nothing to heal: no slot creation waits, no slot is stalled, and no copy of a failover slot temporary"
        )
        say("nothing else to heal" if unseen else nothing)
        return _finish(Exit.NOT_HEALED if unseen else Exit.HEALED, None, capability, as_json=as_json)
    acting = replace(cluster, healer=replace(target, dry_run=dry_run or target.dry_run))
    limit = min(config.healer.give_up_after, GIVE_UP_AFTER) if give_up_after is None else give_up_after
    report = await _episode(acting, config, subjects, limit, None if as_json else _print)
    return _finish(_exit(report), report, capability, as_json=as_json)


async def _episode(
    cluster: Cluster,
    config: Config,
    subjects: list[SlotKey],
    limit: float,
    listener: Callable[[TimelineEntry], None] | None,
) -> Report:
    settings = replace(config.healer, give_up_after=limit)
    budget = CallBudget(settings.calls_per_hour, time.monotonic(), at_start=settings.calls_per_hour)
    episode = Episode(FORCE_SNAPSHOT, cluster, settings, budget)
    episode.report.listener = listener
    for subject in subjects:
        episode.join(f"{subject.node}/{subject.slot_name}", subject)
    return await episode.run()


def _exit(report: Report) -> Exit:
    if report.outcome in (Outcome.HEALED, Outcome.RESOLVED_ITSELF, Outcome.DRY_RUN):
        return Exit.HEALED
    return Exit.UNAVAILABLE if report.outcome is Outcome.UNAVAILABLE else Exit.NOT_HEALED


def _finish(code: Exit, report: Report | None, capability: Capability, *, as_json: bool) -> Exit:
    if as_json:
        unavailable = {"reason": capability.reason, "remedy": capability.advice}
        found = {"exit": int(code), "capability": unavailable, "episode": report.as_json() if report else None}
        json.dump(found, sys.stdout, indent=2)
        print()
    return code


def _unseen(snapshot: ClusterSnapshot) -> dict[str, str]:
    return {
        node.node: ", ".join(f"{probe} {status}" for probe, status in node.statuses.items() if status != "ok")
        for node in snapshot.nodes
        if node.slots is None or node.creations is None
    }


def _told(capability: Capability) -> str:
    return "can heal" if capability.reason is None else f"cannot heal: {capability.reason}. {capability.advice}"


def _print(line: TimelineEntry) -> None:
    _say(f"{line.seconds:7.2f} s  {line.text}")


def _say(text: str) -> None:
    """Names come from servers and from whoever prepared a transaction: a terminal would act on what they hold."""
    print(printable(text), flush=True)
