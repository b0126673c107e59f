"""Pure functions of a slot's state: does a running-xacts record help it, at once, later, only once, or not at all?"""

from healer.remedies.slot_state import SlotCondition, SlotKey, SlotState, evaluate
from pgslot.diagnosis.creation_wait import WaitReason
from pgslot.snapshot.model import ClusterSnapshot

MIN_WAIT_SECONDS = 1.0
"""A younger creation may be about to end: normally it takes milliseconds. The alert is about an older one."""

IN_NEED = frozenset({SlotCondition.WAITING, SlotCondition.STALLED, SlotCondition.NOT_PERSISTED})
"""Conditions that a record may end."""

_HELPED = frozenset({WaitReason.RUNNING_XACTS, WaitReason.UNKNOWN, WaitReason.TRANSACTION})


def record_helps(state: SlotState) -> bool:
    """Return whether a record helps, at once or when a transaction ends."""
    if state.condition in (SlotCondition.STALLED, SlotCondition.NOT_PERSISTED):
        return state.obstacle is None
    if state.wait is None:
        return False
    if state.on_primary:
        # On a primary a creation waits for a transaction; when that ends, the server logs the record itself.
        return False
    creation = state.wait.creation
    old_enough = creation.wait_seconds is not None and creation.wait_seconds >= MIN_WAIT_SECONDS
    # The creation never reads a record written before it has reserved WAL.
    return old_enough and creation.wal_reserved and (state.wait.reason in _HELPED or helps_only_once(state))


def helps_only_once(state: SlotState) -> bool:
    """Return whether one record may help and more would not: an archive delivers only whole segments."""
    return state.wait is not None and state.wait.reason is WaitReason.ARCHIVED_SEGMENT


def awaits_commit(state: SlotState) -> bool:
    """Return whether a creation on a standby waits for a transaction of the primary, and then for a record."""
    return state.wait is not None and state.wait.reason is WaitReason.TRANSACTION and not state.on_primary


def record_cures(state: SlotState) -> bool:
    """Return whether a record alone is enough; False: a transaction has to end first, or a record does not help."""
    if state.wait is None:
        return record_helps(state) and state.blocker is None
    return record_helps(state) and state.wait.reason is not WaitReason.TRANSACTION


def slots_in_need(cluster: ClusterSnapshot) -> list[SlotKey]:
    """Return the slots that a record may help, or for which only more snapshots can decide that."""
    candidates = IN_NEED | {SlotCondition.INCONCLUSIVE}
    return [key for key, state in evaluate(cluster, _listed_slots(cluster)).items() if state.condition in candidates]


def undecided_slots(cluster: ClusterSnapshot) -> list[SlotKey]:
    """Return the slots of nodes that answered whose state this snapshot does not show."""
    states = evaluate(cluster, _listed_slots(cluster))
    answered = {node.node for node in cluster.nodes if node.slots is not None and node.creations is not None}
    return [
        key for key, state in states.items() if state.condition is SlotCondition.UNOBSERVED and key.node in answered
    ]


def _listed_slots(cluster: ClusterSnapshot) -> list[SlotKey]:
    """Return all slots that the nodes show, those in creation included; not those of REPACK."""
    return [
        SlotKey(node.node, name)
        for node in cluster.nodes
        for name in sorted(
            {slot.slot_name for slot in node.slots or () if not slot.used_by_repack}
            | {creation.slot_name for creation in node.creations or ()}
        )
    ]
