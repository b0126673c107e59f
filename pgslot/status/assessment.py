"""
From a cluster's snapshot to the status of every slot, worst first.

Nothing is diagnosed here: the causes are those of pgslot.diagnosis, as the exporter has them in its series. What this
adds is which slots need a person, and what is not known.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pgslot.config.model import WalVolume
from pgslot.diagnosis.catalog_horizon import broken_feedback, needs_catalog_rows
from pgslot.diagnosis.creation_wait import CreationWait, WaitReason, creation_waits
from pgslot.diagnosis.failover_readiness import NotReadyReason, Readiness, failover_slots, readiness
from pgslot.diagnosis.leftover_slots import Leftover, leftover_slots
from pgslot.diagnosis.retention import CONFIRM_SECONDS, RetentionCause, diagnose_retention
from pgslot.diagnosis.short_lived import is_creation_short_lived, is_short_lived
from pgslot.diagnosis.wal_holders import Holder, wal_holders
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.snapshot.rows import Slot, SlotUser
from pgslot.status.concerns import concerns
from pgslot.status.growth import HeldSample, growth
from pgslot.status.slot_status import Room, RoomLimit, SlotKey, SlotState, SlotStatus, Unseen

SETTLED_SECONDS = 2 * CONFIRM_SECONDS
"""Once a node has been observed for so long, another look does not show a cause that the last one did not show."""

Held = Mapping[SlotKey, Sequence[HeldSample]]
Volumes = Mapping[str, WalVolume]
"""By node."""


@dataclass(frozen=True, slots=True)
class _Context:
    """What all slots of a cluster share."""

    cluster: ClusterSnapshot
    copies: Mapping[str, tuple[Readiness, ...]]
    """Of each failover slot of the primary, by its name."""
    leftovers: Mapping[SlotKey, Leftover]
    held: Held
    volumes: Volumes

    @property
    def primary(self) -> str | None:
        return None if self.cluster.primary is None else self.cluster.primary.node

    @property
    def primary_major(self) -> int | None:
        primary = self.cluster.primary
        return None if primary is None or primary.facts is None else primary.facts.major


def slot_statuses(
    cluster: ClusterSnapshot, *, held: Held | None = None, volumes: Volumes | None = None
) -> tuple[SlotStatus, ...]:
    """
    Return the status of every slot and of every creation of the cluster, worst first; short-lived ones are left out.

    `held`: what each slot retained so far, with this snapshot, oldest first; without it the rows have no growth.
    """
    context = _context(cluster, held or {}, volumes or {})
    waits = {
        SlotKey(wait.node, wait.creation.slot_name): wait
        for wait in creation_waits(cluster)
        if not is_creation_short_lived(wait, cluster)
    }
    statuses = [status for node in cluster.nodes for status in _of_node(node, waits, context)]
    return tuple(sorted(statuses, key=rank))


def _context(cluster: ClusterSnapshot, held: Held, volumes: Volumes) -> _Context:
    copies: dict[str, tuple[Readiness, ...]] = {}
    for copy in readiness(cluster):
        name = copy.original.slot_name
        copies[name] = (*copies.get(name, ()), copy)
    leftovers = {SlotKey(item.node, item.slot.slot_name): item for item in leftover_slots(cluster)}
    return _Context(cluster, copies, leftovers, held, volumes)


def rank(status: SlotStatus) -> tuple[object, ...]:
    """Return what rows are sorted by: the smallest is the worst."""
    left = status.seconds_left
    return (
        -status.severity,
        float("inf") if left is None else left,
        -(status.held_bytes or 0),
        status.node,
        status.slot_name,
    )


def _of_node(node: NodeSnapshot, waits: Mapping[SlotKey, CreationWait], context: _Context) -> Iterator[SlotStatus]:
    shown = [slot for slot in node.slots or () if not is_short_lived(slot)]
    names = {slot.slot_name for slot in shown}
    users = {user.slot_name: user for user in node.users or ()}
    frees = _frees(node)
    unprotected = broken_feedback(node, context.cluster)
    for slot in shown:
        wait = waits.get(SlotKey(node.node, slot.slot_name))
        status = replace(
            _of_slot(slot, wait, node, context),
            frees_bytes=None if frees is None else frees.get(slot.slot_name, 0),
            broken_feedback=unprotected if needs_catalog_rows(slot) else None,
            user=users.get(slot.slot_name) or _creator(wait),
        )
        yield _judged(status, node, context.cluster)
    for key, wait in waits.items():
        if key.node == node.node and key.slot_name not in names:
            yield _judged(_of_creation(wait, node, context), node, context.cluster)


def _judged(status: SlotStatus, node: NodeSnapshot, cluster: ClusterSnapshot) -> SlotStatus:
    return replace(status, concerns=concerns(status), unseen=tuple(_unseen(status, node, cluster)))


def _of_slot(slot: Slot, wait: CreationWait | None, node: NodeSnapshot, context: _Context) -> SlotStatus:
    key = SlotKey(node.node, slot.slot_name)
    return SlotStatus(
        cluster=node.cluster,
        node=node.node,
        slot_name=slot.slot_name,
        database=slot.database,
        slot_type=slot.slot_type,
        state=_state(slot, wait, node),
        on_primary=node.is_primary,
        primary=context.primary,
        primary_major=context.primary_major,
        slot=slot,
        facts=node.facts,
        creation=wait,
        retention=None if slot.in_creation else diagnose_retention(slot, node, context.cluster),
        growth=None if slot.invalidated else growth(context.held.get(key, ())),
        room=_room(slot, node, context.volumes.get(node.node)),
        failover=context.copies.get(slot.slot_name, ()) if node.node == context.primary else (),
        is_failover_slot=any(slot is original for original in failover_slots(node)) if slot.failover else False,
        leftover=context.leftovers.get(key),
        history=node.history.slots.get(slot.slot_name),
        observed_seconds=_observed_seconds(node),
        observed_at=node.history.at,
    )


def _of_creation(wait: CreationWait, node: NodeSnapshot, context: _Context) -> SlotStatus:
    """Return the status of a creation whose slot was not seen: it had just begun, or the slots could not be read."""
    return SlotStatus(
        cluster=node.cluster,
        node=node.node,
        slot_name=wait.creation.slot_name,
        database=wait.creation.database,
        slot_type="logical",
        state=SlotState.CREATING,
        on_primary=node.is_primary,
        primary=context.primary,
        primary_major=context.primary_major,
        facts=node.facts,
        creation=wait,
        user=_creator(wait),
    )


def _state(slot: Slot, wait: CreationWait | None, node: NodeSnapshot) -> SlotState:
    if slot.invalidated:
        return SlotState.LOST
    if slot.in_creation or wait is not None:
        return SlotState.CREATING
    if slot.synced and not node.is_primary:
        return SlotState.COPY
    return SlotState.ACTIVE if slot.active else SlotState.INACTIVE


def _creator(wait: CreationWait | None) -> SlotUser | None:
    if wait is None:
        return None
    creation = wait.creation
    return SlotUser(creation.slot_name, creation.pid, creation.usename, creation.application_name, None, None)


def _frees(node: NodeSnapshot) -> Mapping[str, int] | None:
    """Return how much the server could remove if one slot moved, by its name: only the furthest back frees anything."""
    holders = [item for item in wal_holders(node) or () if item.holder is not Holder.REST]
    if not holders:
        return None
    first = holders[0]
    return {first.slot_name: first.held_bytes} if first.holder is Holder.SLOT and first.slot_name else {}


def _room(slot: Slot, node: NodeSnapshot, volume: WalVolume | None) -> Room | None:
    """Return the smaller of the slot's own limit and of the volume, which only the slot furthest back fills."""
    if slot.invalidated or slot.retained_wal_bytes is None:
        return None
    rooms = []
    if slot.safe_wal_size_bytes is not None:
        rooms.append(Room(slot.safe_wal_size_bytes, RoomLimit.SLOT))
    directory = None if node.wal is None else node.wal.directory
    if volume is not None and volume.size_bytes is not None and directory is not None and _furthest_back(slot, node):
        rooms.append(Room(max(0, volume.size_bytes - directory.size_bytes), RoomLimit.VOLUME))
    return min(rooms, default=None)


def _furthest_back(slot: Slot, node: NodeSnapshot) -> bool:
    positions = [other.restart_position for other in node.slots or () if not other.invalidated]
    return slot.restart_position == min((position for position in positions if position is not None), default=None)


def _unseen(status: SlotStatus, node: NodeSnapshot, cluster: ClusterSnapshot) -> Iterator[Unseen]:
    """Yield what is not known about the slot."""
    if any(copy.not_ready_reason is NotReadyReason.UNKNOWN for copy in status.failover):
        yield Unseen.STANDBY
    waiting = status.state is SlotState.CREATING
    if waiting and status.creation is not None and status.creation.reason is not WaitReason.UNKNOWN:
        return
    if not waiting and (status.retention is None or status.retention.cause is not RetentionCause.UNKNOWN):
        return
    if node.facts is None or not node.facts.reads_all_stats:
        yield Unseen.PRIVILEGE
    elif not node.is_primary and (cluster.primary is None or cluster.primary.transactions is None):
        yield Unseen.PRIMARY
    elif _observed_seconds(node) < SETTLED_SECONDS:
        yield Unseen.SECOND_LOOK
    else:
        yield Unseen.UNEXPLAINED


def _observed_seconds(node: NodeSnapshot) -> float:
    samples = node.history.samples
    return node.history.at - samples[0].at if samples else 0.0
