"""`pg-slot-healer heal CLUSTER`: runs one episode and prints its timeline as it goes, as the runbooks use it."""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from enum import IntEnum

from healer.commands.options import add_config_and_json, read_config
from healer.episodes.budget import CallBudget
from healer.episodes.deadlines import COLLECT_TIMEOUT
from healer.episodes.journal import describe_failures, describe_state
from healer.episodes.loop import Episode
from healer.episodes.report import Report, TimelineEntry
from healer.remedies.attempt import APPLICATION_NAME, Capability, Unavailable
from healer.remedies.force_snapshot.connection import has_fallback
from healer.remedies.force_snapshot.need import slots_in_need, undecided_slots
from healer.remedies.progress import WELL, Outcome
from healer.remedies.registry import FORCE_SNAPSHOT
from healer.remedies.slot_state import SlotCondition, SlotKey, SlotState
from pgslot.cli import logging as log
from pgslot.cli.errors import ConfigError
from pgslot.cli.logging import printable
from pgslot.config.model import Cluster, Config, HealerConfig
from pgslot.config.yaml_values import parse_duration
from pgslot.patroni.discovery import discover_once
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.model import ClusterSnapshot

HELP = "run one episode by hand, and print what the healer sees and does"
MAX_GIVE_UP_AFTER = 120.0
"""Seconds, without --give-up-after: a person is waiting, and finding out what keeps a slot's WAL may take a minute."""
QUIET_SECONDS = 1.5
"""After this time without a line, a line says what the episode waits for."""
PROGRESS_INTERVAL = 10.0
"""Seconds from such a line to the next."""
MAX_NAMES_SHOWN = 3
"""Slots that such a line names, per reason."""
NOTHING_TO_HEAL = (
    "nothing to heal: no slot creation waits, no slot is stalled, and no copy of a failover slot is temporary"
)


class Exit(IntEnum):
    """Exit codes."""

    HEALED = 0
    """No slot waits any more: healed, resolved by itself, or there was nothing to heal. Every node was read."""
    NOT_HEALED = 1
    """A slot still waits; after --dry-run as well."""
    UNAVAILABLE = 2
    """
    The remedy's function cannot be called there, the healer is switched off, or a node could not be read, so that a
    slot may wait there. Bad input has the same code.
    """


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
    parser.add_argument("cluster", metavar="CLUSTER", help="the cluster's name in the configuration")
    parser.add_argument("--dry-run", action="store_true", help="observe and decide, but call nothing")
    parser.add_argument(
        "--give-up-after",
        metavar="DURATION",
        help="when to stop, such as 30s or 5m; default: give_up_after of the configuration, but two minutes at most",
    )
    add_config_and_json(parser)


def run(options: argparse.Namespace) -> int:
    """Discover the cluster's members and heal it; return an Exit."""
    log.setup("error", "logfmt")
    give_up_after = _seconds(options.give_up_after)
    config = read_config(options)
    cluster, _ = find_cluster(config, options.cluster)

    async def heal() -> int:
        if cluster.patroni is not None:
            _Output(silent=options.json).line(f"{cluster.name}: asking Patroni for the members")
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
    output = _Output(silent=as_json)
    output.line(f"{name}: asking the primary whether a call is possible")
    capability = await FORCE_SNAPSHOT.check(target)
    output.line(f"{name}: {_describe(capability)}")
    fallback = has_fallback(target, capability)
    if not target.enabled or (dry_run and capability.reason is not None and not fallback):
        return _finish(Exit.UNAVAILABLE, None, capability, {}, as_json=as_json)
    output.line(f"{name}: reading the slots of {_names([node.name for node in cluster.nodes])}")
    collector = ClusterCollector([cluster], APPLICATION_NAME)
    try:
        snapshot = await collector.collect_cluster(name, COLLECT_TIMEOUT)
    finally:
        await collector.close()
    unread = unread_nodes(snapshot)
    for node, why in unread.items():
        output.line(f"node {node}: could not be read: {why}")
    slots = slots_in_need(snapshot)
    report = None
    if slots:
        acting = replace(cluster, healer=replace(target, dry_run=dry_run or target.dry_run))
        limit = min(config.healer.give_up_after, MAX_GIVE_UP_AFTER) if give_up_after is None else give_up_after
        report = await _run_episode(acting, config, slots, limit, output)
    elif not unread:
        output.line(NOTHING_TO_HEAL)
    if unread:
        read = ", ".join(node.node for node in snapshot.nodes if node.node not in unread)
        output.line(
            f"{f'nothing to heal on {read}; ' if read and not slots else ''}"
            f"whether a slot waits on {', '.join(unread)} is unknown: pg-slot-healer doctor shows what servers answer"
        )
    return _finish(exit_code(report, unread), report, capability, unread, as_json=as_json)


async def _run_episode(
    cluster: Cluster, config: Config, slots: list[SlotKey], limit: float, output: "_Output"
) -> Report:
    settings = replace(config.healer, give_up_after=limit)
    budget = CallBudget(settings.calls_per_hour, time.monotonic(), at_start=settings.calls_per_hour)
    episode = Episode(FORCE_SNAPSHOT, cluster, settings, budget)
    episode.report.listener = output.entry
    for slot in slots:
        episode.join(f"{slot.node}/{slot.slot_name}", slot)
    run = asyncio.create_task(episode.run())
    try:
        while not (await asyncio.wait({run}, timeout=output.seconds_to_progress()))[0]:
            if output.seconds_to_progress() <= 0:
                output.progress(time.time() - episode.report.started_at, episode)
    finally:
        if not run.done():
            run.cancel()
            await asyncio.wait({run})
    return run.result()


def exit_code(report: Report | None, unread: Mapping[str, str]) -> Exit:
    """Return the exit code. `report` None: no slot needed help. `unread`: nodes on which a slot may wait unseen."""
    if report is None or report.outcome in WELL:
        return Exit.UNAVAILABLE if unread else Exit.HEALED
    return Exit.UNAVAILABLE if report.outcome is Outcome.UNAVAILABLE else Exit.NOT_HEALED


def _finish(
    code: Exit, report: Report | None, capability: Capability, unread: Mapping[str, str], *, as_json: bool
) -> Exit:
    if as_json:
        result = {
            "exit": int(code),
            "capability": {"reason": capability.reason, "remedy": capability.advice},
            "unread_nodes": unread,
            "episode": report.as_json() if report else None,
        }
        json.dump(result, sys.stdout, indent=2)
        print()
    return code


def unread_nodes(snapshot: ClusterSnapshot) -> dict[str, str]:
    """Return, by node on which a slot may wait unseen, why: a failed query, or a primary that is not known."""
    unread = {
        node.node: describe_failures(node) for node in snapshot.nodes if node.slots is None or node.creations is None
    }
    for slot in undecided_slots(snapshot):
        unread.setdefault(slot.node, f"slot {slot.slot_name} cannot be judged without the primary's slots")
    return unread


def _describe(capability: Capability) -> str:
    if capability.reason is None:
        return "can heal"
    if capability.reason is Unavailable.DISABLED:
        return f"healing is switched off: {capability.advice}"
    return f"cannot heal: {capability.reason}. {capability.advice}"


def progress_text(states: Mapping[SlotKey, SlotState], calls: int) -> str:
    """Return one line about the slots that are still open, grouped by what they wait for."""
    groups: dict[str, list[str]] = {}
    for key, state in states.items():
        groups.setdefault(" ".join(describe_state(state)), []).append(key.slot_name)
    slots = "; ".join(f"{_names(names)} {words}" for words, names in groups.items())
    inconclusive = any(state.condition is SlotCondition.INCONCLUSIVE for state in states.values())
    hint = " (whether restart_lsn moves shows within a minute)" if inconclusive else ""
    return f"still working: {slots}{hint}; {calls} call{'' if calls == 1 else 's'} so far"


def _names(names: list[str]) -> str:
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return ", ".join(names[:MAX_NAMES_SHOWN]) + more


class _Output:
    """Prints lines for people, and knows when nothing has been printed for too long. `silent`: prints nothing."""

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent
        self._progress_due = time.monotonic() + QUIET_SECONDS

    def line(self, text: str) -> None:
        self._progress_due = time.monotonic() + QUIET_SECONDS
        if not self._silent:
            # Names come from servers and clients: a terminal would act on control characters in them.
            print(printable(text), flush=True)

    def entry(self, entry: TimelineEntry) -> None:
        self.line(f"{entry.seconds:7.2f} s  {entry.text}")

    def progress(self, seconds: float, episode: Episode) -> None:
        self.entry(TimelineEntry(seconds, progress_text(episode.open_slots, episode.report.calls)))
        self._progress_due = time.monotonic() + PROGRESS_INTERVAL

    def seconds_to_progress(self) -> float:
        return max(0.0, self._progress_due - time.monotonic())
