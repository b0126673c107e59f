"""
How near a standby's logical slots are to the loss of the catalog rows that they need: pure functions of a cluster.

Vacuum on the primary removes catalog rows that no slot and no standby there keeps. A standby replays the removal, and
then PostgreSQL invalidates each of its logical slots whose catalog_xmin the removal has passed (rows_removed).
hot_standby_feedback carries the slots' catalog_xmin from standby to standby up to the primary, whose physical slot
keeps it. If that chain is broken, the next vacuum of a catalog may be the end of the slot.
"""

from collections.abc import Iterator
from enum import StrEnum
from typing import NamedTuple

from pgslot.diagnosis.upstream import upstream_standby
from pgslot.postgres.types import xid_distance
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.snapshot.rows import Slot, Standby

FIRST_MAJOR = 16
"""The first major version that decodes on a standby."""


class FeedbackBreak(StrEnum):
    """Why the primary keeps no catalog rows for a standby's logical slots."""

    FEEDBACK_OFF = "hot_standby_feedback_off"
    NO_SLOT = "no_physical_slot"
    """The standby uses no physical slot, and is not connected: what its walsender held back ended with it."""
    SLOT_WITHOUT_XMIN = "slot_without_xmin"
    """The physical slot that it uses holds nothing back: no feedback has arrived yet, or it is withdrawn."""


class BrokenFeedback(NamedTuple):
    """Where the feedback about a standby's logical slots ends before it reaches the primary."""

    reason: FeedbackBreak
    broken_at: str
    """The node to blame: the standby itself, or one that it streams from."""


def depends_on_catalog_rows(node: NodeSnapshot) -> bool:
    """Return whether the node is a standby with a slot for which the primary has to keep catalog rows."""
    facts = node.facts
    return (
        facts is not None
        and facts.in_recovery
        and facts.major >= FIRST_MAJOR
        and any(needs_catalog_rows(slot) for slot in node.slots or ())
    )


def needs_catalog_rows(slot: Slot) -> bool:
    """Return whether catalog rows have to be kept for a standby's slot; not for one that ends with its session."""
    if slot.slot_type != "logical" or slot.invalidated or slot.catalog_xmin is None:
        return False
    return bool(slot.synced) or not (slot.temporary or slot.in_creation)


def catalog_margins(node: NodeSnapshot, cluster: ClusterSnapshot) -> Iterator[tuple[Slot, int]]:
    """
    Yield how many xids each logical slot's catalog_xmin is ahead of the horizon that must not pass it.

    For a temporary copy that is the standby's horizon: while the primary's slot has not reached it, which is a negative
    margin, the copy stays temporary. For any other slot it is the primary's: with a negative margin the next vacuum of
    a catalog there may invalidate the slot. Slots for which the horizon is unknown are left out.
    """
    primary = cluster.primary
    if primary is None or not depends_on_catalog_rows(node):
        return
    horizon = catalog_horizon(primary)
    originals = {slot.slot_name: slot for slot in primary.slots or () if slot.failover}
    for slot in node.slots or ():
        if not needs_catalog_rows(slot) or slot.catalog_xmin is None:
            continue
        if slot.temporary:
            original = originals.get(slot.slot_name)
            if original is not None and original.catalog_xmin is not None:
                yield slot, xid_distance(original.catalog_xmin, slot.catalog_xmin)
        elif horizon is not None:
            yield slot, xid_distance(slot.catalog_xmin, horizon)


def catalog_horizon(primary: NodeSnapshot) -> int | None:
    """
    Return the 32-bit xid from which on the primary keeps catalog rows for slots and standbys; None: unknown.

    Open transactions may keep older ones for a while, which is not counted: the slots have no part in it.
    """
    if primary.facts is None or primary.facts.next_xid is None or primary.slots is None or primary.senders is None:
        return None
    next_xid = primary.facts.next_xid
    kept = [xid for slot in primary.slots if not slot.invalidated for xid in (slot.xmin, slot.catalog_xmin)]
    kept += [sender.xmin for sender in primary.senders]
    age = max((xid_distance(next_xid, xid) for xid in kept if xid is not None), default=0)
    return (next_xid - age) % 2**32


def broken_feedback(node: NodeSnapshot, cluster: ClusterSnapshot) -> BrokenFeedback | None:
    """Return where feedback from a standby with logical slots ends; None: it reaches the primary, or is unknown."""
    if not depends_on_catalog_rows(node):
        return None
    passed: list[NodeSnapshot] = []
    current: NodeSnapshot | None = node
    while current is not None and current not in passed:
        passed.append(current)
        if current.standby is None:
            return None
        upstream = upstream_standby(current, cluster)
        reason = _break_at(current.standby, upstream or cluster.primary)
        if reason is not None:
            return BrokenFeedback(reason, current.node)
        current = upstream
    return None


def _break_at(standby: Standby, upstream: NodeSnapshot | None) -> FeedbackBreak | None:
    """Return why this standby's feedback does not arrive at the server that it streams from; None: nothing shows it."""
    if not standby.hot_standby_feedback:
        return FeedbackBreak.FEEDBACK_OFF
    name = standby.receiver_slot_name or standby.primary_slot_name
    if not name:
        return FeedbackBreak.NO_SLOT if standby.receiver_running is False else None
    slot = None if upstream is None else upstream.slot(name)
    if slot is None or slot.slot_type != "physical":
        return None
    return FeedbackBreak.SLOT_WITHOUT_XMIN if slot.xmin is None and slot.catalog_xmin is None else None
