"""`pg-slot-healer replay FILE`: prints what the healer would do with each alert of a saved webhook, and why."""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from healer.commands.options import add_config_and_json, read_config
from healer.episodes.deadlines import COLLECT_TIMEOUT
from healer.episodes.journal import describe_failures, describe_state
from healer.remedies.attempt import APPLICATION_NAME, Capability, Wait
from healer.remedies.base import EpisodeProgress
from healer.remedies.slot_state import SlotCondition, SlotState, evaluate
from healer.webhook.alert_filter import AcceptedAlert, classify
from healer.webhook.payload import Action, Alert, WebhookError, parse_saved
from healer.webhook.reasons import REASONS
from pgslot.cli import logging as log
from pgslot.cli.errors import ConfigError
from pgslot.cli.logging import printable
from pgslot.cli.progress import show_progress
from pgslot.config.model import Config, HealerSettings
from pgslot.patroni.discovery import discover_once
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot

HELP = "print what the healer would do with each alert of a saved webhook, or of Alertmanager's list"
EXAMPLES = (
    (
        "See what the healer would do with the alerts that Alertmanager has now.",
        "curl -s http://localhost:9093/api/v2/alerts | pg-slot-healer replay - --config.file=pgslot.yml",
    ),
    (
        "See it for a saved webhook, without asking a server.",
        "pg-slot-healer replay webhook.json --offline --config.file=pgslot.yml",
    ),
)

_MISTAKES = frozenset(REASONS) - {
    *(Action.HEARTBEAT, Action.IGNORED_TEST, Action.IGNORED_NO_HEAL_LABEL, Action.IGNORED_UNMEASURED),
    *(Action.IGNORED_REMEDY_OFF, Action.IGNORED_DISABLED),
}
"""Alerts on which the healer was meant to act, and will not."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What the healer would do with one alert."""

    place: str
    """Where the alert is in the file, as in `alerts[0]`."""
    alertname: str
    cluster: str
    node: str
    slot_name: str
    would: str
    """ignore, end (an episode), call, message (the fallback), wait, nothing, fail, or start (with --offline)."""
    why: str

    @property
    def mistaken(self) -> bool:
        """Whether the healer cannot act on this alert until a person fixes something."""
        return self.would == "fail"


@dataclass(frozen=True, slots=True)
class _Observation:
    """What a snapshot and a capability check of a cluster have shown."""

    snapshot: ClusterSnapshot
    capability: Capability


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="a file with a webhook's body or with the answer of Alertmanager's GET /api/v2/alerts; '-' means "
        "standard input",
    )
    parser.add_argument(
        "--offline", action="store_true", help="query no database: only show which alerts would start an episode"
    )
    add_config_and_json(parser)


def run(options: argparse.Namespace) -> int:
    """Discover the clusters' members and print a decision for each alert."""
    log.setup("error", "logfmt")
    config = read_config(options)

    async def replay() -> int:
        # A cluster without an answer has no nodes, so that the nodes of its alerts are unknown.
        with show_progress("asking Patroni for the members"):
            discovered, errors = await discover_once(config)
        for name, error in errors.items():
            print(log.printable(f"Patroni did not list the members of {name}: {error}"), file=sys.stderr)
        return await replay_file(discovered, options.file, offline=options.offline, as_json=options.json)

    return asyncio.run(replay())


async def replay_file(config: Config, file: Path, *, offline: bool, as_json: bool) -> int:
    """
    Print a decision for each alert; return 1 if the healer cannot act on one until a person fixes something, else 0.

    Raises ConfigError if the file is neither a webhook nor a list from Alertmanager's API.
    """
    alerts = _read(file)
    clusters = {cluster.name: cluster for cluster in config.clusters}
    classified = [classify(alert, clusters) for alert in alerts]
    observations: dict[tuple[str, str], _Observation] = {}
    with show_progress("asking the servers") as progress:
        for accepted in classified:
            if isinstance(accepted, AcceptedAlert) and _key(accepted) not in observations and not offline:
                progress.show(f"asking the servers of {accepted.cluster.name}")
                observations[_key(accepted)] = await _observe(accepted)
    decisions = [
        _decide(f"alerts[{i}]", alert, result, observations, config.healer)
        for i, (alert, result) in enumerate(zip(alerts, classified, strict=True))
    ]
    if as_json:
        json.dump([asdict(decision) for decision in decisions], sys.stdout, indent=2)
        print()
    else:
        _print(decisions)
    return int(any(decision.mistaken for decision in decisions))


def _read(file: Path) -> Sequence[Alert]:
    try:
        body = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{file}: expected a readable file, found: {error.strerror}") from None
    try:
        return parse_saved(body)
    except WebhookError as error:
        raise ConfigError(f"{file}: {error}") from None


async def _observe(accepted: AcceptedAlert) -> _Observation:
    collector = ClusterCollector([accepted.cluster], APPLICATION_NAME)
    try:
        snapshot = await collector.collect_cluster(accepted.cluster.name, COLLECT_TIMEOUT)
    finally:
        await collector.close()
    return _Observation(snapshot, await accepted.remedy.check(accepted.target))


def _key(accepted: AcceptedAlert) -> tuple[str, str]:
    return accepted.cluster.name, accepted.remedy.name


def _decide(
    place: str,
    alert: Alert,
    classified: AcceptedAlert | Action,
    observations: Mapping[tuple[str, str], _Observation],
    settings: HealerSettings,
) -> Decision:
    names = {name: alert.labels.get(name, "") for name in ("alertname", "cluster", "node", "slot_name")}

    def decision(would: str, why: str) -> Decision:
        return Decision(place, **names, would=would, why=why)

    if not isinstance(classified, AcceptedAlert):
        return decision("fail" if classified in _MISTAKES and alert.firing else "ignore", REASONS[classified])
    if not alert.firing:
        return decision("end", "it is resolved: its episode ends, unless the episode has another alert")
    if _key(classified) not in observations:
        return decision("start", "an episode observes the slot first; no database was asked (--offline)")
    observation = observations[_key(classified)]
    slot_state = evaluate(observation.snapshot, [classified.slot])[classified.slot]
    unobserved = _why_unobserved(observation.snapshot.node(classified.slot.node))
    return decision(*_step(slot_state, observation.capability, classified, settings, unobserved))


def _why_unobserved(node: NodeSnapshot | None) -> str:
    if node is None:
        return "its node was not queried"
    failures = describe_failures(node)
    return f"its node could not be read ({failures})" if failures else "only the primary can show it"


def _step(
    slot_state: SlotState, capability: Capability, accepted: AcceptedAlert, settings: HealerSettings, unobserved: str
) -> tuple[str, str]:
    """Return what an episode that begins now would do, and why."""
    remedy, target = accepted.remedy, accepted.target
    if slot_state.condition is SlotCondition.UNOBSERVED:
        return "fail", f"the slot's state is unknown: {unobserved}"
    seen = f"the slot is {' '.join(describe_state(slot_state))}"
    episode = EpisodeProgress(now=0.0, dry_run=target.dry_run)
    progress = remedy.apply_timeouts(remedy.apply_observation(remedy.begin(), slot_state, 0.0), episode, settings)
    if progress.outcome is not None:
        return "nothing", f"{seen}: {progress.outcome} ({progress.why})"
    if slot_state.condition in (SlotCondition.RETAINED, SlotCondition.UNREADY) and not remedy.wants_attempt(progress):
        return "nothing", f"{seen}, which {remedy.cannot_help}"
    if slot_state.condition is SlotCondition.INCONCLUSIVE:
        return "wait", f"{seen}: the reason why it retains WAL shows within a minute of observing"
    if isinstance(remedy.next_step([progress], episode, settings), Wait):
        return "wait", f"{seen}: {remedy.not_now}"
    if capability.reason is None:
        dry = " (dry run: it would only report that)" if target.dry_run else ""
        return "call", f"{seen}: {remedy.plan}{dry}"
    fallback = remedy.fallback_plan(target, capability)
    if fallback is not None:
        return "message", f"{seen}; {capability.reason}, so {fallback}"
    return "fail", f"{seen}, but {capability.reason}: {capability.advice}"


def _print(decisions: Sequence[Decision]) -> None:
    if not decisions:
        print("there are no alerts in it")
    for decision in decisions:
        slot = "/".join(filter(None, (decision.cluster, decision.node, decision.slot_name)))
        name = f"{decision.alertname or 'without a name'}{f' {slot}' if slot else ''}"
        print(printable(f"{decision.place}  {decision.would:8}{name}"))
        print(printable(f"{'':{len(decision.place)}}  {decision.why}"))
