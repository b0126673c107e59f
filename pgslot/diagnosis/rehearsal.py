"""
A rehearsal of a switchover: what it would do to every slot now, what stands in its way, and what breaks afterwards.

A pure function of the cluster's snapshot and of settings. It assumes what every switchover does: the primary is shut
down cleanly, the standby receives the rest of its WAL and is promoted, and every other node then follows the standby.
"""

from collections.abc import Iterator

from pgslot.diagnosis.failover_readiness import failover_slots, missing_settings
from pgslot.diagnosis.rehearsal_model import Outcome, Problem, ProblemKind, Rehearsal, SlotOutcome, SlotReason, Unknown
from pgslot.diagnosis.rehearsal_slots import member_slot, patroni_creates, primary_slot_outcomes, target_slot_outcomes
from pgslot.diagnosis.switchover_facts import SwitchoverFacts
from pgslot.diagnosis.synchronized_standbys import listed_slots
from pgslot.diagnosis.upstream import fed_from_archive
from pgslot.diagnosis.wal_level import SINCE_MAJOR as RAISED_SINCE_MAJOR
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.snapshot.privileges import grant
from pgslot.snapshot.switchover import SwitchoverSettings

_NEEDED = frozenset({"slots", "standby"})
"""Queries without which a part is unknown; on a primary `standby` has no row."""


def rehearse(cluster: ClusterSnapshot, target: NodeSnapshot, facts: SwitchoverFacts) -> Rehearsal:
    """Return what a switchover to this standby would do now; everything is unknown without a single primary."""
    primary = cluster.primary
    if primary is None:
        silent = [f"{node.node}: {_statuses(node)}" for node in cluster.nodes if not node.up]
        needs = f"nodes to answer: {'; '.join(silent)}" if silent else "exactly one node that is not in recovery"
        unknown: tuple[Unknown, ...] = (Unknown("which node is the primary", needs),)
        return Rehearsal(cluster.cluster, None, target.node, (), (), (), unknown)
    members = tuple(node.node for node in cluster.nodes)
    slots = tuple(primary_slot_outcomes(primary, target, facts, members))
    own = tuple(target_slot_outcomes(primary, target, facts))
    problems = (
        *_obstacles(primary, target, facts, slots),
        *_consequences(cluster, primary, target, facts, slots),
    )
    unknown = tuple(_unknown(cluster, target, facts))
    return Rehearsal(cluster.cluster, primary.node, target.node, slots, own, problems, unknown)


def without_members(cluster: str, target: str | None, error: str) -> Rehearsal:
    """Return a rehearsal of a cluster whose members are not known, as Patroni did not answer; `error` says why."""
    unknown = Unknown(f"the members of {cluster}", f"Patroni to answer: {error}")
    return Rehearsal(cluster, None, target or "", (), (), (), (unknown,))


def _obstacles(
    primary: NodeSnapshot, target: NodeSnapshot, facts: SwitchoverFacts, slots: tuple[SlotOutcome, ...]
) -> Iterator[Problem]:
    standby = target.standby
    if standby is not None and standby.receiver_running is False and not fed_from_archive(standby):
        yield Problem(ProblemKind.NOT_STREAMING, target.node, needed=_missing_wal(primary, target))
    if target.facts is not None:
        sufficient = {"logical", "replica"} if target.facts.major >= RAISED_SINCE_MAJOR else {"logical"}
        if any(slot.slot_type == "logical" for slot in slots) and target.facts.wal_level not in sufficient:
            yield Problem(ProblemKind.WAL_LEVEL, target.node, (target.facts.wal_level,))
    failover = {slot.slot_name for slot in failover_slots(primary)}
    taken = tuple(s.slot_name for s in slots if s.reason is SlotReason.NAME_TAKEN and s.slot_name in failover)
    if taken:
        yield Problem(ProblemKind.NAME_TAKEN, target.node, taken)
    if target.facts is not None and target.slots is not None:
        names = {slot.slot_name for slot in target.slots}
        settings = facts.of(target.node)
        copies = failover - names if settings is not None and settings.sync_replication_slots else set()
        needed = len(copies) + len(_slots_of_other_nodes(target, facts) - names)
        free = target.facts.max_replication_slots - target.facts.replication_slots
        if needed > free:
            yield Problem(ProblemKind.NO_FREE_SLOT, target.node, needed=needed, available=max(0, free))
    settings, now = facts.of(target.node), facts.of(primary.node)
    if settings is not None and now is not None:
        # The old primary's walreceiver takes the place of the standby's own.
        needed = now.wal_senders + settings.wal_senders
        if needed > settings.max_wal_senders:
            yield Problem(ProblemKind.FEW_WAL_SENDERS, target.node, needed=needed, available=settings.max_wal_senders)


def _consequences(
    cluster: ClusterSnapshot,
    primary: NodeSnapshot,
    target: NodeSnapshot,
    facts: SwitchoverFacts,
    slots: tuple[SlotOutcome, ...],
) -> Iterator[Problem]:
    members = tuple(node.node for node in cluster.nodes)
    physical = {
        slot.slot_name: slot for slot in target.slots or () if slot.slot_type == "physical" and not slot.invalidated
    }
    failover = {slot.slot_name for slot in failover_slots(primary)}
    kept = tuple(s.slot_name for s in slots if s.outcome is Outcome.GOES_ON and s.slot_name in failover)
    if kept and target.slots is not None:
        yield from _standby_slots(primary, target, facts, members, set(physical))
    for node, settings in _other_nodes(target, facts):
        name = settings.primary_slot_name
        certain = target.slots is not None and name and name not in physical
        if certain and not facts.by_patroni and _follows_primary(node, primary, cluster):
            yield Problem(ProblemKind.PRIMARY_SLOT_MISSING, node, (name,))
    if kept:
        missing = {node: _missing_for_sync(node, settings, cluster) for node, settings in _other_nodes(target, facts)}
        if len(missing) == len(members) - 1 and all(missing.values()):
            names = tuple(f"{node}: {', '.join(lacks)}" for node, lacks in missing.items())
            yield Problem(ProblemKind.NO_STANDBY_SYNCS, target.node, names)
        yield Problem(ProblemKind.LEFTOVER, primary.node, kept)


def _standby_slots(
    primary: NodeSnapshot, target: NodeSnapshot, facts: SwitchoverFacts, members: tuple[str, ...], physical: set[str]
) -> Iterator[Problem]:
    """Yield what is wrong with the new primary's synchronized_standby_slots, for which consumers then wait."""
    listed, listed_now = listed_slots(target.facts), listed_slots(primary.facts)
    if listed is None:
        return
    created = {name for name in listed if patroni_creates(name, target.node, facts.patroni, members)}
    missing = tuple(name for name in listed if name not in physical | created)
    if missing:
        yield Problem(ProblemKind.STANDBY_SLOT_MISSING, target.node, missing)
    idle = [name for name in listed if name in physical | created and not _active(target, name)]
    expected = _slots_of_other_nodes(target, facts) | (
        {member_slot(member) for member in members if member != target.node} if facts.by_patroni else set()
    )
    unused = tuple(name for name in idle if name not in expected)
    if unused:
        yield Problem(ProblemKind.STANDBY_SLOT_UNUSED, target.node, unused)
    waited = tuple(name for name in idle if name in expected)
    if waited:
        yield Problem(ProblemKind.WAITS_FOR_STANDBY, target.node, waited)
    if not listed and target.facts is not None and listed_now:
        yield Problem(ProblemKind.NOTHING_TO_WAIT_FOR, target.node, listed_now)


def _active(node: NodeSnapshot, name: str) -> bool:
    slot = node.slot(name)
    return slot is not None and slot.active


def _other_nodes(target: NodeSnapshot, facts: SwitchoverFacts) -> Iterator[tuple[str, SwitchoverSettings]]:
    """Yield the other nodes whose settings are known, the old primary among them."""
    for node in facts.settings:
        settings = facts.of(node)
        if node != target.node and settings is not None:
            yield node, settings


def _slots_of_other_nodes(target: NodeSnapshot, facts: SwitchoverFacts) -> set[str]:
    return {settings.primary_slot_name for _, settings in _other_nodes(target, facts) if settings.primary_slot_name}


def _follows_primary(node: str, primary: NodeSnapshot, cluster: ClusterSnapshot) -> bool:
    """Return whether a node will stream from the new primary: the old primary, and what streams from it now."""
    snapshot = cluster.node(node)
    if snapshot is None or node == primary.node:
        return True
    name = "" if snapshot.standby is None else snapshot.standby.primary_slot_name
    # A standby whose slot is in use on another standby streams from that one, before and after.
    return not any(_active(other, name) for other in cluster.nodes if not other.is_primary and other.node != node)


def _missing_for_sync(node: str, settings: SwitchoverSettings, cluster: ClusterSnapshot) -> list[str]:
    """Return what the node lacks to keep copies of failover slots; what is set at a demotion does not count."""
    snapshot = cluster.node(node)
    standby = None if snapshot is None else snapshot.standby
    if standby is not None:
        return [setting for setting, lacks in missing_settings(standby).items() if lacks]
    lacking = {
        "sync_replication_slots": not settings.sync_replication_slots,
        "hot_standby_feedback": not settings.hot_standby_feedback,
    }
    return [setting for setting, lacks in lacking.items() if lacks]


def _missing_wal(primary: NodeSnapshot, target: NodeSnapshot) -> int | None:
    """Return how many bytes of WAL the standby has not received; None: unknown."""
    written = None if primary.facts is None else primary.facts.wal_written_bytes
    replayed = None if target.facts is None else target.facts.wal_written_bytes
    if written is None or replayed is None or target.standby is None:
        return None
    return max(0, written - replayed - (target.standby.replay_lag_bytes or 0))


def _unknown(cluster: ClusterSnapshot, target: NodeSnapshot, facts: SwitchoverFacts) -> Iterator[Unknown]:
    for node in filter(None, (cluster.primary, target)):
        if node.facts is not None and listed_slots(node.facts) is None:
            setting = node.facts.synchronized_standby_slots
            what = f"which standbys consumers of failover slots wait for on {node.node}"
            yield Unknown(what, f"a list of slots in synchronized_standby_slots, which is {setting!r}")
    for node in cluster.nodes:
        yield from _unknown_of_node(node, facts)
        standby = node.standby
        if standby is not None and node.node != target.node and standby.upstream_dbname_given is None:
            role = "" if node.facts is None else grant(node.facts.role)
            yield Unknown(f"whether primary_conninfo of {node.node} has a dbname", f"a privilege: {role}")
    if facts.patroni_error:
        yield Unknown("which slots Patroni creates, keeps and drops", f"Patroni to answer: {facts.patroni_error}")
    patroni = facts.patroni
    if patroni is not None and any(patroni.drops(slot) is None for slot in target.slots or ()):
        yield Unknown("whether Patroni drops failover slots, as it does before 4.1", "its version, in GET /patroni")


def _unknown_of_node(node: NodeSnapshot, facts: SwitchoverFacts) -> Iterator[Unknown]:
    name = node.node
    if node.facts is None:
        yield Unknown(f"what {name} does after the switchover", f"{name} to answer: {_statuses(node)}")
    elif node.facts.in_recovery and not node.facts.reads_all_stats:
        yield Unknown(f"whether and how {name} streams", f"a privilege: {grant(node.facts.role)}")
    elif node.failures.keys() & (_NEEDED if node.facts.in_recovery else {"slots"}):
        yield Unknown(f"a part of what {name} shows", f"its queries to work: {_statuses(node)}")
    elif facts.of(name) is None:
        status = facts.settings.get(name, "not asked")
        yield Unknown(f"the settings of {name}", f"its query of settings to work: {status}")


def _statuses(node: NodeSnapshot) -> str:
    """Return how the queries that a rehearsal needs have failed."""
    failed = [f"{name} {status}" for name, status in node.failures.items() if name in {"node", *_NEEDED}]
    return ", ".join(failed) or "not asked"


def switchover_targets(cluster: ClusterSnapshot) -> tuple[NodeSnapshot, ...]:
    """Return the nodes to switch over to: all but the primary, in the configuration's order."""
    primary = cluster.primary
    return tuple(node for node in cluster.nodes if node is not primary)
