"""`pg-slot-healer replay FILE`: what would the healer do with each alert that was saved, and why? It only says."""

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from healer.commands.configuration import read_config
from healer.episodes.journal import describe_state
from healer.episodes.partial_snapshot import COLLECT_TIMEOUT
from healer.remedies.attempt import APPLICATION_NAME, Capability, Wait
from healer.remedies.base import EpisodeProgress
from healer.remedies.registry import REMEDIES
from healer.remedies.slot_state import SlotCondition, SlotState, evaluate
from healer.webhook.body import Action, Alert, WebhookError, parse_saved
from healer.webhook.filter import AcceptedAlert, classify
from pgslot.cli import logging as log
from pgslot.cli.errors import ConfigError
from pgslot.cli.logging import printable
from pgslot.config.model import Config, HealerSettings
from pgslot.patroni.discovery import discover_once
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot

_WHY = {
    Action.IGNORED_TEST: "the doctor sent it, to see whether it arrives",
    Action.IGNORED_NO_HEAL_LABEL: f"it lacks the label heal with one of {', '.join(REMEDIES)}",
    Action.IGNORED_UNMEASURED: "Grafana had no data, or an error, for its rule: nothing was measured",
    Action.IGNORED_UNKNOWN_CLUSTER: "its label cluster names none of the configuration",
    Action.IGNORED_NOT_CONFIGURED: "its cluster has no healer section: it is only observed",
    Action.IGNORED_NO_SLOT: "it lacks the label node or slot_name",
    Action.IGNORED_UNKNOWN_NODE: "its label node names none of the cluster",
    Action.IGNORED_REMEDY_OFF: "its remedy is off by default, and the cluster has no section that allows it",
    Action.IGNORED_DISABLED: "the healer is switched off for its cluster",
}
_MISTAKES = frozenset(_WHY) - {
    *(Action.IGNORED_TEST, Action.IGNORED_NO_HEAL_LABEL, Action.IGNORED_UNMEASURED),
    *(Action.IGNORED_REMEDY_OFF, Action.IGNORED_DISABLED),
}
"""Somebody meant the healer to act on these, and it will not."""


@dataclass(frozen=True, slots=True)
class Decision:
    """What would be done with one alert."""

    place: str
    alertname: str
    cluster: str
    node: str
    slot_name: str
    would: str
    """ignore, end (an episode), call, message (the fallback), wait, nothing, fail, or start (no database asked)."""
    why: str

    @property
    def mistaken(self) -> bool:
        """Somebody has to put something right before this alert is of use."""
        return self.would == "fail"


@dataclass(frozen=True, slots=True)
class _Known:
    """What one look and one check of a cluster have shown."""

    snapshot: ClusterSnapshot
    capability: Capability


def run(options: argparse.Namespace) -> int:
    """Tell what would be done with a saved webhook body: options.file, json, config_file."""
    log.setup("error", "logfmt")
    config = read_config(options)

    async def replay() -> int:
        # Without an answer there are no nodes, and of each alert it is said that its node is unknown.
        known, errors = await discover_once(config)
        for name, error in errors.items():
            print(log.printable(f"Patroni does not tell the members of {name}: {error}"), file=sys.stderr)
        return await replay_file(known, options.file, offline=options.offline, as_json=options.json)

    return asyncio.run(replay())


async def replay_file(config: Config, file: Path, *, offline: bool, as_json: bool) -> int:
    """
    Print a decision for each alert; return 1 if somebody has to put something right for one of them, else 0.

    Raises ConfigError when the file is neither a webhook nor what Alertmanager's API lists.
    """
    alerts = _read(file)
    clusters = {cluster.name: cluster for cluster in config.clusters}
    examined = [classify(alert, clusters) for alert in alerts]
    known: dict[tuple[str, str], _Known] = {}
    for each in examined:
        if isinstance(each, AcceptedAlert) and _key(each) not in known and not offline:
            known[_key(each)] = await _look(each)
    decisions = [
        _decide(f"alerts[{i}]", alert, each, known, config.healer)
        for i, (alert, each) in enumerate(zip(alerts, examined, strict=True))
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


async def _look(accepted: AcceptedAlert) -> _Known:
    observer = ClusterCollector([accepted.cluster], APPLICATION_NAME)
    try:
        snapshot = await observer.collect_cluster(accepted.cluster.name, COLLECT_TIMEOUT)
    finally:
        await observer.close()
    return _Known(snapshot, await accepted.remedy.check(accepted.target))


def _key(accepted: AcceptedAlert) -> tuple[str, str]:
    return accepted.cluster.name, accepted.remedy.name


def _decide(
    place: str,
    alert: Alert,
    examined: AcceptedAlert | Action,
    known: Mapping[tuple[str, str], _Known],
    settings: HealerSettings,
) -> Decision:
    names = {name: alert.labels.get(name, "") for name in ("alertname", "cluster", "node", "slot_name")}

    def decision(would: str, why: str) -> Decision:
        return Decision(place, **names, would=would, why=why)

    if not isinstance(examined, AcceptedAlert):
        return decision("fail" if examined in _MISTAKES and alert.firing else "ignore", _WHY[examined])
    if not alert.firing:
        return decision("end", "it is resolved: an episode that it takes part in ends, if no other alert is left in it")
    if _key(examined) not in known:
        return decision("start", "an episode looks at the slot first; no database was asked (--offline)")
    found = known[_key(examined)]
    sight = evaluate(found.snapshot, [examined.slot])[examined.slot]
    unseen = _why_unseen(found.snapshot.node(examined.slot.node))
    return decision(*_step(sight, found.capability, examined, settings, unseen))


def _why_unseen(node: NodeSnapshot | None) -> str:
    failed = [] if node is None else [f"{probe} {status}" for probe, status in node.statuses.items() if status != "ok"]
    return f"the node did not answer, or not in full ({', '.join(failed) or 'it was not asked'})"


def _step(
    state: SlotState, capability: Capability, accepted: AcceptedAlert, settings: HealerSettings, unobserved: str
) -> tuple[str, str]:
    """Ask the remedy's own rules, with a heal that begins now."""
    remedy, target = accepted.remedy, accepted.target
    if state.condition is SlotCondition.UNOBSERVED:
        return "fail", f"nobody can tell: {unobserved}"
    seen = f"the slot is {' '.join(describe_state(state))}"
    episode = EpisodeProgress(now=0.0, dry_run=target.dry_run)
    progress = remedy.apply_timeouts(remedy.apply_observation(remedy.begin(), state, 0.0), episode, settings)
    if progress.outcome is not None:
        return "nothing", f"{seen}: {progress.outcome} ({progress.why})"
    if state.condition in (SlotCondition.RETAINED, SlotCondition.UNREADY) and not remedy.wants_attempt(progress):
        return "nothing", f"{seen}, which {remedy.cannot_help}"
    if state.condition is SlotCondition.INCONCLUSIVE:
        return "wait", f"{seen}: what keeps its WAL shows within a minute of looking"
    if isinstance(remedy.next_step([progress], episode, settings), Wait):
        return "wait", f"{seen}: {remedy.not_now}"
    if capability.reason is None:
        dry = " (dry run: it would only say so)" if target.dry_run else ""
        return "call", f"{seen}: {remedy.plan}{dry}"
    fallback = remedy.fallback_plan(target, capability)
    if fallback is not None:
        return "message", f"{seen}; {capability.reason}, so {fallback}"
    return "fail", f"{seen}, but {capability.reason}: {capability.advice}"


def _print(decisions: Sequence[Decision]) -> None:
    if not decisions:
        print("there are no alerts in it")
    for each in decisions:
        about = "/".join(filter(None, (each.cluster, each.node, each.slot_name)))
        name = f"{each.alertname or 'without a name'}{f' {about}' if about else ''}"
        print(printable(f"{each.place}  {each.would:8}{name}"))
        print(printable(f"{'':{len(each.place)}}  {each.why}"))
