"""
Whether a failover slot would survive a failover now: a pure function of what its primary and its standbys show.

From PostgreSQL 17 on a standby can keep copies of the primary's failover slots. A copy can be used after a promotion
if it is synced, not temporary and not invalidated: that is what PostgreSQL's documentation requires. PostgreSQL shows
such a copy as synced forever, so that it also has to be kept in step: its consumer would get again what it has had
since. No single server shows which slots lack such a copy: it takes the primary and the standby.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.snapshot.rows import Slot, Standby

FIRST_MAJOR = 17
"""The first major version that has failover slots."""

STALE_SECONDS = 90.0
"""
Without a synchronisation for so long, a copy that is behind is stale.

The worker pauses for 30 s at most (MAX_SLOTSYNC_WORKER_NAPTIME_MS in slotsync.c), and starts again 10 s after it has
failed; the rest is for a round with many slots.
"""


class NotReadyReason(StrEnum):
    """Why a standby's copy of a failover slot could not be used after a promotion."""

    NOT_SYNCED = "not_synced"
    """There is no copy, although the worker runs: it has not made one yet, or cannot."""
    NOT_PERSISTED = "not_persisted"
    """The copy is temporary, and is dropped at the promotion: the primary's slot is behind the standby's horizon."""
    NAME_CLASH = "name_clash"
    """The standby has a slot of this name that is not a copy: the worker stops at it, and synchronises no other."""
    INVALIDATED = "invalidated"
    """The copy is invalidated, or the primary's slot itself."""
    SYNC_OFF = "sync_off"
    """There is no copy, and sync_replication_slots is off."""
    WORKER_DOWN = "worker_down"
    """There is no copy, and no worker to make one: a setting is missing, or the worker keeps failing."""
    STALE = "stale"
    """The copy is not synchronised any more, and the primary's slot has moved on: a setting, or the worker fails."""
    UNKNOWN = "unknown"
    """The standby did not answer all queries."""


class Readiness(NamedTuple):
    """Whether one failover slot of the primary is ready on one standby."""

    node: str
    """The standby's name."""
    original: Slot
    """The primary's slot."""
    copy: Slot | None
    """The standby's slot of the same name. None: there is none, or it is unknown."""
    not_ready_reason: NotReadyReason | None
    """None: it is ready."""

    @property
    def ready(self) -> bool | None:
        """Whether the consumer could continue from the copy after a promotion. None: unknown."""
        return None if self.not_ready_reason is NotReadyReason.UNKNOWN else self.not_ready_reason is None

    @property
    def lag_bytes(self) -> int | None:
        """The primary's confirmed_flush_lsn minus the copy's. None: there is no copy, or it has none yet."""
        if self.copy is None or not self.copy.synced or self.copy.confirmed_position is None:
            return None
        # The standby may have answered a moment later than the primary.
        return max(0, (self.original.confirmed_position or 0) - self.copy.confirmed_position)

    @property
    def last_synchronized(self) -> float | None:
        """
        When the copy was last synchronised, or when the standby started if that is later: Unix time by its clock.

        None: there is no persistent copy, or it is being synchronised at this moment.
        """
        if self.copy is None or not self.copy.synced or self.copy.temporary:
            return None
        return self.copy.inactive_since


def failover_slots(node: NodeSnapshot) -> tuple[Slot, ...]:
    """Return the slots of a primary that its standbys should keep copies of; empty for any other node."""
    if not node.is_primary:
        return ()
    return tuple(
        slot
        for slot in node.slots or ()
        if slot.failover and slot.slot_type == "logical" and not slot.temporary and not slot.in_creation
    )


def readiness(cluster: ClusterSnapshot) -> Iterator[Readiness]:
    """Yield every failover slot on every standby that synchronises, or if none does, on every one that could."""
    primary = cluster.primary
    originals = () if primary is None else failover_slots(primary)
    if originals:
        for node in sync_candidates(cluster):
            yield from _readiness_on(node, originals)


def sync_candidates(cluster: ClusterSnapshot) -> list[NodeSnapshot]:
    """
    Return the standbys on which failover slots should be ready: those that synchronise.

    If none does, which is certain only when every node has answered, return those that could: someone has created a
    failover slot, and it has no effect.
    """
    capable = [node for node in cluster.nodes if node.up and not node.is_primary and _can_sync(node, cluster)]
    synchronising = [node for node in capable if synchronises(node) is not False]
    return synchronising or (capable if all(node.up for node in cluster.nodes) else [])


def synced_slots(node: NodeSnapshot, cluster: ClusterSnapshot) -> dict[str, Readiness]:
    """Return every failover slot's readiness on this standby, by slot name; empty if it does not synchronise."""
    primary = cluster.primary
    if primary is None or node.is_primary or not node.up or not (synchronises(node) and _can_sync(node, cluster)):
        return {}
    return {slot.original.slot_name: slot for slot in _readiness_on(node, failover_slots(primary))}


def synchronises(node: NodeSnapshot) -> bool | None:
    """Return whether the standby keeps copies, by its setting or by calls of the function; None: unknown."""
    if any(slot.synced for slot in node.slots or ()):
        return True
    return None if node.standby is None else bool(node.standby.sync_replication_slots)


def missing_settings(standby: Standby) -> dict[str, bool | None]:
    """Return whether each setting that synchronisation requires is missing on the standby. None: unknown."""
    dbname_given = standby.upstream_dbname_given
    return {
        "sync_replication_slots": not standby.sync_replication_slots,
        "hot_standby_feedback": not standby.hot_standby_feedback,
        "primary_slot_name": not standby.primary_slot_name,
        "primary_conninfo_dbname": None if dbname_given is None else not dbname_given,
    }


def _readiness_on(node: NodeSnapshot, originals: tuple[Slot, ...]) -> Iterator[Readiness]:
    # By name, to go through them once: there may be 1,000, and every scrape does this.
    copies = {slot.slot_name: slot for slot in node.slots or ()}
    waits = any(_waits_for_replay(original, copies.get(original.slot_name), node) for original in originals)
    for original in originals:
        copy = copies.get(original.slot_name)
        yield Readiness(node.node, original, copy, _not_ready_reason(original, copy, node, waits))


def _waits_for_replay(original: Slot, copy: Slot | None, node: NodeSnapshot) -> bool:
    """Return whether the worker is at this copy and needs WAL that the standby has not replayed yet."""
    if copy is None or not copy.synced or copy.temporary or not copy.active:
        return False
    replayed = None if node.facts is None else node.facts.wal_written_bytes
    return replayed is not None and (original.confirmed_position or 0) > replayed


def _can_sync(node: NodeSnapshot, cluster: ClusterSnapshot) -> bool:
    """Return whether the standby's place and delay let it keep copies up to date, whatever its settings say."""
    if node.standby is None:
        return True
    # The worker needs WAL up to the slot's position before it keeps a copy, and that WAL is replayed with the delay.
    return not node.standby.apply_delay_seconds and not _cascades(node.standby.primary_slot_name, node, cluster)


def _cascades(slot_name: str, node: NodeSnapshot, cluster: ClusterSnapshot) -> bool:
    """Return whether the standby streams from another standby, judged by the physical slot that it uses there."""
    primary = cluster.primary
    if not slot_name or primary is None:
        return False
    standbys = (standby for standby in cluster.nodes if standby is not primary and standby is not node)
    return max((_feeds(slot_name, standby) for standby in standbys), default=0) > _feeds(slot_name, primary)


def _feeds(slot_name: str, node: NodeSnapshot) -> int:
    """Return 2 if this physical slot of the node is in use, 1 if it only exists, 0 if it does not."""
    slot = node.slot(slot_name)
    return 0 if slot is None or slot.slot_type != "physical" else 1 + slot.active


def _not_ready_reason(
    original: Slot, copy: Slot | None, node: NodeSnapshot, worker_waits: bool
) -> NotReadyReason | None:
    if original.invalidated:
        return NotReadyReason.INVALIDATED
    if node.slots is None:
        return NotReadyReason.UNKNOWN
    if copy is None:
        return _no_copy_reason(node.standby)
    if not copy.synced:
        return NotReadyReason.NAME_CLASH
    if copy.invalidated:
        return NotReadyReason.INVALIDATED
    if copy.temporary:
        return NotReadyReason.NOT_PERSISTED
    stale = _is_stale(original, copy, node, worker_waits)
    return NotReadyReason.UNKNOWN if stale is None else NotReadyReason.STALE if stale else None


def _is_stale(original: Slot, copy: Slot, node: NodeSnapshot, worker_waits: bool) -> bool | None:
    """
    Return whether a persistent copy is behind and no longer synchronised; None: unknown.

    A copy of an idle slot is in step without any synchronisation. A copy lags, and is not stale, while the worker waits
    for WAL that the standby has not received yet, or for the replay of what it has; then it holds a copy, this or
    another one, and comes to the others only after that.
    """
    position, copied = original.confirmed_position, copy.confirmed_position
    if position is None or copied is None or position <= copied or copy.active or node.facts is None:
        return False
    if worker_waits:
        return False
    if copy.inactive_since is None:
        return None
    if node.facts.server_time - copy.inactive_since <= STALE_SECONDS:
        return False
    standby = node.standby
    replayed = node.facts.wal_written_bytes
    if replayed is not None and position <= replayed:
        return True
    if standby is None or replayed is None:
        return None
    lags = position > replayed + (standby.replay_lag_bytes or 0)
    return not (lags and standby.slotsync_worker_running and not any(missing_settings(standby).values()))


def _no_copy_reason(standby: Standby | None) -> NotReadyReason:
    if standby is None:
        return NotReadyReason.UNKNOWN
    if not standby.sync_replication_slots:
        return NotReadyReason.SYNC_OFF
    return NotReadyReason.NOT_SYNCED if standby.slotsync_worker_running else NotReadyReason.WORKER_DOWN
