"""
Would a failover slot survive a failover now? A pure function of what its primary and its standbys show.

From PostgreSQL 17 on a standby may keep copies of the primary's failover slots. A copy is of use after a promotion if
it is synced, not temporary and not invalidated: that is what PostgreSQL's documentation asks for. Which slots lack one
no server says by itself: it takes the primary and the standby to tell.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.snapshot.rows import Slot, Standby

FIRST_MAJOR = 17
"""Major version from which on there are failover slots."""


class NotReadyReason(StrEnum):
    """Why a standby's copy of a failover slot would be of no use after a promotion."""

    NOT_SYNCED = "not_synced"
    """There is no copy, although the worker runs: it has not come to it, or cannot make it."""
    NOT_PERSISTED = "not_persisted"
    """The copy is temporary, and ends with the promotion: the primary's slot is behind the standby's horizon."""
    NAME_CLASH = "name_clash"
    """A slot of this name is there that is no copy: the worker stops at it, and synchronises no other one either."""
    INVALIDATED = "invalidated"
    """The copy, or the primary's slot itself."""
    SYNC_OFF = "sync_off"
    """There is no copy, and sync_replication_slots is off."""
    WORKER_DOWN = "worker_down"
    """There is no copy, and no worker that would make one: a setting is missing, or it fails again and again."""
    UNKNOWN = "unknown"
    """The standby did not answer in full."""


class Readiness(NamedTuple):
    """One failover slot of the primary on one standby."""

    node: str
    """The standby."""
    original: Slot
    """The primary's."""
    copy: Slot | None
    """The standby's slot of this name. None: there is none, or it is not known."""
    not_ready_reason: NotReadyReason | None
    """None: it is ready."""

    @property
    def ready(self) -> bool | None:
        """Whether its consumer could go on from the copy after a promotion. None: unknown."""
        return None if self.not_ready_reason is NotReadyReason.UNKNOWN else self.not_ready_reason is None

    @property
    def lag_bytes(self) -> int | None:
        """The primary's confirmed_flush_lsn less that of the copy. None where there is no copy, or it has none yet."""
        if self.copy is None or not self.copy.synced or self.copy.confirmed_position is None:
            return None
        # The standby may have been looked at a moment later than the primary.
        return max(0, (self.original.confirmed_position or 0) - self.copy.confirmed_position)


def failover_slots(node: NodeSnapshot) -> tuple[Slot, ...]:
    """Return the slots of a primary that its standbys are to keep copies of; none of any other node."""
    if not node.is_primary:
        return ()
    return tuple(
        slot
        for slot in node.slots or ()
        if slot.failover and slot.slot_type == "logical" and not slot.temporary and not slot.in_creation
    )


def readiness(cluster: ClusterSnapshot) -> Iterator[Readiness]:
    """Tell of each failover slot on each standby that synchronises; where none does, on each that could."""
    primary = cluster.primary
    originals = () if primary is None else failover_slots(primary)
    if originals:
        for node in sync_candidates(cluster):
            yield from _judge(originals, node)


def sync_candidates(cluster: ClusterSnapshot) -> list[NodeSnapshot]:
    """
    Return the standbys whose copies count.

    Those that synchronise. That none at all does can be said only when every node has answered; then those are asked
    that could, as somebody has made a failover slot and gets nothing for it.
    """
    meant = [node for node in cluster.nodes if node.up and not node.is_primary and _is_meant(node, cluster)]
    asked = [node for node in meant if synchronises(node) is not False]
    return asked or (meant if all(node.up for node in cluster.nodes) else [])


def synced_slots(node: NodeSnapshot, cluster: ClusterSnapshot) -> dict[str, Readiness]:
    """Return what holds for each failover slot on this standby, by its name; nothing where none is kept in step."""
    primary = cluster.primary
    if primary is None or node.is_primary or not node.up or not (synchronises(node) and _is_meant(node, cluster)):
        return {}
    return {one.original.slot_name: one for one in _judge(failover_slots(primary), node)}


def synchronises(node: NodeSnapshot) -> bool | None:
    """Return whether the standby keeps copies, by its setting or because somebody calls the function; None: unknown."""
    if any(slot.synced for slot in node.slots or ()):
        return True
    return None if node.standby is None else bool(node.standby.sync_replication_slots)


def missing_settings(standby: Standby) -> dict[str, bool | None]:
    """Return what synchronising asks of a standby, by setting, and whether it is missing here. None: unknown."""
    given = standby.upstream_dbname_given
    return {
        "sync_replication_slots": not standby.sync_replication_slots,
        "hot_standby_feedback": not standby.hot_standby_feedback,
        "primary_slot_name": not standby.primary_slot_name,
        "primary_conninfo_dbname": None if given is None else not given,
    }


def _judge(originals: tuple[Slot, ...], node: NodeSnapshot) -> Iterator[Readiness]:
    """Tell of failover slots on one standby that is to keep copies of them."""
    # By name once: there may be 1,000 of them, and it is asked in each scrape.
    copies = {slot.slot_name: slot for slot in node.slots or ()}
    for original in originals:
        copy = copies.get(original.slot_name)
        yield Readiness(node.node, original, copy, _why_not(original, copy, node))


def _is_meant(node: NodeSnapshot, cluster: ClusterSnapshot) -> bool:
    """Leave out standbys that cannot keep copies in step by what they are, whatever their settings say."""
    if node.standby is None:
        return True
    # The worker reads WAL up to the slot's position before it keeps a copy: that is replayed as late as all the rest.
    return not node.standby.apply_delay_seconds and not _cascades(node.standby.primary_slot_name, node, cluster)


def _cascades(slot_name: str, node: NodeSnapshot, cluster: ClusterSnapshot) -> bool:
    """Return whether the standby streams from another standby, by the physical slot that it uses there."""
    primary = cluster.primary
    if not slot_name or primary is None:
        return False
    others = (other for other in cluster.nodes if other is not primary and other is not node)
    return max((_feeds(slot_name, other) for other in others), default=0) > _feeds(slot_name, primary)


def _feeds(slot_name: str, node: NodeSnapshot) -> int:
    """Return 2 if this physical slot of the node is in use, 1 if it is there."""
    slot = node.slot(slot_name)
    return 0 if slot is None or slot.slot_type != "physical" else 1 + slot.active


def _why_not(original: Slot, copy: Slot | None, node: NodeSnapshot) -> NotReadyReason | None:
    if original.invalidated:
        return NotReadyReason.INVALIDATED
    if node.slots is None:
        return NotReadyReason.UNKNOWN
    if copy is None:
        return _why_no_copy(node.standby)
    if not copy.synced:
        return NotReadyReason.NAME_CLASH
    if copy.invalidated:
        return NotReadyReason.INVALIDATED
    return NotReadyReason.NOT_PERSISTED if copy.temporary else None


def _why_no_copy(standby: Standby | None) -> NotReadyReason:
    if standby is None:
        return NotReadyReason.UNKNOWN
    if not standby.sync_replication_slots:
        return NotReadyReason.SYNC_OFF
    return NotReadyReason.NOT_SYNCED if standby.slotsync_worker_running else NotReadyReason.WORKER_DOWN
