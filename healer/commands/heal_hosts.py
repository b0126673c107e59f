"""
`heal --conninfo`: heals slots of the servers that a connection string lists, without a configuration file.

It looks, asks, and then runs the same episode as the program. While it asks, no session is open.
"""

import asyncio
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from psycopg.conninfo import conninfo_to_dict

from healer.commands.heal_plan import choose, may_help, obstacles, plan
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
from healer.episodes.deadlines import COLLECT_TIMEOUT
from healer.episodes.journal import describe_failures
from healer.remedies.attempt import APPLICATION_NAME, Capability, Unavailable
from healer.remedies.force_snapshot.need import slots_in_need
from healer.remedies.registry import FORCE_SNAPSHOT
from healer.remedies.slot_state import SlotKey, SlotState, evaluate
from pgslot.cli.errors import ConfigError
from pgslot.cli.logging import print_warnings
from pgslot.config.model import Cluster, Config, HealerConfig, HealerSettings
from pgslot.postgres.hosts import nodes_of, primary_conninfo
from pgslot.snapshot.cluster import ClusterCollector
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot, QueryStatus
from pgslot.snapshot.privileges import grant

CLUSTER = "conninfo"
"""The cluster's name in logs and JSON."""
QUESTION = "Go ahead? [y/N] "


@dataclass(frozen=True, slots=True)
class Request:
    """What the command line asks for."""

    conninfo: str
    slots: tuple[str, ...] = ()
    """Names; empty: the slot that waits."""
    dry_run: bool = False
    give_up_after: float = MAX_GIVE_UP_AFTER
    """Seconds."""
    as_json: bool = False


@dataclass(frozen=True, slots=True)
class Look:
    """What the servers showed before anything is done."""

    snapshot: ClusterSnapshot
    capability: Capability
    unread: Mapping[str, str]
    """By node on which a slot may wait unseen, why."""
    slots: dict[SlotKey, SlotState]
    """Those to heal; empty: no call may help any slot."""


def heal_hosts(request: Request, confirm: Callable[[], bool] | None) -> Exit:
    """
    Look, ask `confirm` (None: do not ask), heal and prove it. Raises ConfigError for hosts of two clusters.

    It looks and acts in an event loop each: within one, Ctrl-C would not end a question.
    """
    nodes = nodes_of(request.conninfo, CLUSTER)
    if conninfo_to_dict(request.conninfo).get("password"):
        print_warnings(
            ["--conninfo has a password, which every user of this machine can read in the list of processes"]
        )
    target = HealerConfig(primary_conninfo(request.conninfo), enabled=True, dry_run=request.dry_run)
    cluster = Cluster(CLUSTER, nodes, target)
    config = Config((cluster,), HealerSettings(give_up_after=request.give_up_after))
    output = Output(silent=request.as_json)
    look = asyncio.run(_look(cluster, target, request, output))
    code, report = _end_before_acting(look, config.healer, output), None
    if code is None and confirm is not None and not request.dry_run and not confirm():
        output.line("nothing was done")
        code = Exit.NOT_HEALED
    if code is None:
        slots = list(look.slots)
        report = asyncio.run(run_episode(cluster, config, slots, request.give_up_after, output))
        code = exit_code(report, look.unread)
        if code is Exit.NOT_HEALED and not request.dry_run:
            asyncio.run(_show_obstacles(cluster, slots, output))
        elif look.unread:
            output.line(_unknown(look.unread))
    return finish(code, report, look.capability, look.unread, as_json=request.as_json)


def _end_before_acting(look: Look, settings: HealerSettings, output: Output) -> Exit | None:
    """Print what would be done; return the exit code if nothing can be, otherwise None."""
    if not look.slots:
        output.line(_nothing_to_heal(look))
        if look.unread and look.capability.reason is not None:
            output.line(describe_capability(look.capability))
        return exit_code(None, look.unread)
    for line in plan(look.slots, look.snapshot.primary, settings):
        output.line(line)
    if look.capability.reason is not None:
        output.line(describe_capability(look.capability))
        if look.capability.reason is Unavailable.NO_PRIMARY:
            output.line("add the primary to the hosts of --conninfo: only it can log the record")
        return Exit.UNAVAILABLE
    return None if any(map(may_help, look.slots.values())) else Exit.NOT_HEALED


def ask_on_terminal() -> bool:
    """Ask the person at the terminal; only a clear yes counts."""
    print(QUESTION, end="", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        # Ctrl-D leaves the cursor behind the question.
        print(file=sys.stderr)
    return answer.strip().lower() in ("y", "yes")


async def _show_obstacles(cluster: Cluster, slots: Collection[SlotKey], output: Output) -> None:
    """Print what these slots wait for now, and what is in the way."""
    collector = ClusterCollector([cluster], APPLICATION_NAME)
    try:
        snapshot = await collector.collect_cluster(cluster.name, COLLECT_TIMEOUT)
    finally:
        await collector.close()
    for line in obstacles(evaluate(snapshot, slots), snapshot.primary):
        output.line(line)


async def _look(cluster: Cluster, target: HealerConfig, request: Request, output: Output) -> Look:
    """Read all nodes, print what each is, and choose the slots. Raises ConfigError."""
    output.line(f"reading the slots of {names_of([node.name for node in cluster.nodes])}")
    collector = ClusterCollector([cluster], APPLICATION_NAME)
    try:
        snapshot = await collector.collect_cluster(cluster.name, COLLECT_TIMEOUT)
        identifiers = collector.system_identifiers(cluster.name)
    finally:
        await collector.close()
    for line in describe_nodes(snapshot, identifiers):
        output.line(line)
    check_one_cluster(identifiers)
    capability = await FORCE_SNAPSHOT.check(target)
    states = evaluate(snapshot, slots_in_need(snapshot))
    unread = unread_nodes(snapshot)
    # A node that could not be read may have the slot that was named.
    chosen = choose(states, request.slots, request.slots if unread else _existing(snapshot))
    return Look(snapshot, capability, unread, {key: states[key] for key in chosen})


def describe_nodes(snapshot: ClusterSnapshot, identifiers: Mapping[str, str | None]) -> list[str]:
    """Return a line for each node: its role and version, or why it could not be read."""
    several = len(snapshot.nodes) > 1

    def describe(node: NodeSnapshot) -> str:
        if node.facts is None:
            foreign = identifiers.get(node.node)
            what = "belongs to another cluster" if foreign is not None else "could not be read"
            return f"{node.node}: {what}: {describe_failures(node)}"
        role = "standby" if node.facts.in_recovery else "primary"
        unproven = several and identifiers.get(node.node) is None
        note = (
            "; its system identifier cannot be read: nothing proves that it belongs to the others" if unproven else ""
        )
        if node.failures:
            note += f"; not read: {describe_failures(node)}"
        if QueryStatus.PERMISSION_DENIED in node.failures.values():
            note += f"; on the primary, this lets the role read it: {grant(node.facts.role)}"
        return f"{node.node}: {role}, PostgreSQL {node.facts.version}{note}"

    return [describe(node) for node in snapshot.nodes]


def check_one_cluster(identifiers: Mapping[str, str | None]) -> None:
    """Raise ConfigError if the nodes have different system identifiers: copies of one server share theirs."""
    nodes: dict[str, list[str]] = {}
    for node, identifier in identifiers.items():
        if identifier is not None:
            nodes.setdefault(identifier, []).append(node)
    if len(nodes) > 1:
        found = "; ".join(f"{', '.join(names)} (system identifier {number})" for number, names in nodes.items())
        raise ConfigError(f"--conninfo: expected hosts of one cluster, found {len(nodes)} clusters: {found}")


def _existing(snapshot: ClusterSnapshot) -> set[str]:
    slots = {slot.slot_name for node in snapshot.nodes for slot in node.slots or ()}
    return slots | {creation.slot_name for node in snapshot.nodes for creation in node.creations or ()}


def _nothing_to_heal(look: Look) -> str:
    if not look.unread:
        return NOTHING_TO_HEAL
    return f"no slot waits on what could be read; {_unknown(look.unread)}"


def _unknown(unread: Mapping[str, str]) -> str:
    return f"whether a slot waits on {', '.join(unread)} is unknown"
