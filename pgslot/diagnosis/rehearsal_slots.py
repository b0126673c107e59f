"""What becomes of each slot in a switchover: pure functions of the primary, the standby and Patroni's configuration."""

import re
from collections.abc import Iterator
from dataclasses import replace

from pgslot.diagnosis.failover_readiness import FIRST_MAJOR, NotReadyReason, Readiness, readiness
from pgslot.diagnosis.rehearsal_model import Outcome, SlotOutcome, SlotReason
from pgslot.diagnosis.switchover_facts import PatroniSlots, SwitchoverFacts
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.snapshot.rows import Slot

_WITHOUT_COPY = {
    NotReadyReason.NOT_SYNCED: SlotReason.NOT_SYNCED,
    NotReadyReason.SYNC_OFF: SlotReason.SYNC_OFF,
    NotReadyReason.WORKER_DOWN: SlotReason.WORKER_DOWN,
}


def primary_slot_outcomes(
    primary: NodeSnapshot, target: NodeSnapshot, facts: SwitchoverFacts, members: tuple[str, ...]
) -> Iterator[SlotOutcome]:
    """
    Yield the outcome of each of the primary's slots; `members`: the names of the cluster's nodes.

    The slot of a REPACK is left out: it has no consumer, and the REPACK can be run again.
    """
    copies = _readiness_on(primary, target)
    for slot in primary.slots or ():
        if slot.used_by_repack:
            continue
        if slot.slot_type == "logical":
            yield _logical(slot, primary, target, copies.get(slot.slot_name), facts.patroni)
        else:
            yield _physical(slot, target, facts, members)


def target_slot_outcomes(primary: NodeSnapshot, target: NodeSnapshot, facts: SwitchoverFacts) -> Iterator[SlotOutcome]:
    """Yield the outcome of each slot of the standby that is not part of the primary's outcomes."""
    reported = {(slot.slot_name, slot.slot_type) for slot in primary.slots or ()}
    for slot in target.slots or ():
        if (slot.slot_name, slot.slot_type) not in reported:
            outcome = _own(slot, facts.patroni)
            if outcome is not None:
                yield outcome


def patroni_creates(name: str, target: str, patroni: PatroniSlots | None, members: tuple[str, ...]) -> bool:
    """Return whether Patroni creates this physical slot on the new primary, for a member or as a permanent one."""
    if patroni is None or not patroni.use_slots:
        return False
    permanent = patroni.permanent_slot(name)
    slots_of_members = {member_slot(member) for member in members if member != target}
    return name in slots_of_members or (permanent is not None and permanent.type == "physical")


def member_slot(member: str) -> str:
    """Return the name of a member's slot, as Patroni makes it of the member's name."""
    return re.sub(r"[^a-z0-9_]", lambda c: "_" if c[0] in "-." else f"u{ord(c[0]):04d}", member.lower())[:63]


def _readiness_on(primary: NodeSnapshot, target: NodeSnapshot) -> dict[str, Readiness]:
    """Return the readiness of the primary's failover slots on this standby, by name, wherever it streams from."""
    standby = target.standby
    # A promotion ends the delay.
    undelayed = target if standby is None else replace(target, standby=replace(standby, apply_delay_seconds=0.0))
    pair = ClusterSnapshot(primary.cluster, (primary, undelayed))
    return {slot.original.slot_name: slot for slot in readiness(pair)}


def _outcome(slot: Slot, outcome: Outcome, reason: SlotReason, *, other: Slot | None = None) -> SlotOutcome:
    """Return the slot's outcome; `other`: the slot from which its consumer continues."""
    repeated = skipped = None
    if other is not None and slot.confirmed_position is not None and other.confirmed_position is not None:
        distance = slot.confirmed_position - other.confirmed_position
        repeated = max(0, distance)
        # A copy is never ahead: the standby may have answered a moment later than the primary.
        skipped = -distance if distance < 0 and outcome is Outcome.OTHER_SLOT else None
    return SlotOutcome(slot.slot_name, slot.database, slot.slot_type, outcome, reason, repeated, skipped)


def _logical(
    slot: Slot,
    primary: NodeSnapshot,
    target: NodeSnapshot,
    copy: Readiness | None,
    patroni: PatroniSlots | None,
) -> SlotOutcome:
    for reason, applies in (
        (SlotReason.TEMPORARY, slot.temporary),
        (SlotReason.IN_CREATION, slot.in_creation),
        (SlotReason.INVALIDATED, slot.invalidated),
    ):
        if applies:
            return _outcome(slot, Outcome.ENDS, reason)
    if target.slots is None:
        return _outcome(slot, Outcome.UNKNOWN, SlotReason.NOT_READ)
    there = target.slot(slot.slot_name)
    if there is None:
        return _outcome(slot, Outcome.ENDS, _reason_without_copy(slot, primary, copy, patroni))
    return _copied(slot, there, copy, patroni) if there.synced else _taken(slot, there, patroni)


def _reason_without_copy(
    slot: Slot, primary: NodeSnapshot, copy: Readiness | None, patroni: PatroniSlots | None
) -> SlotReason:
    if slot.failover:
        unready = None if copy is None else copy.not_ready_reason
        return SlotReason.NO_COPY if unready is None else _WITHOUT_COPY.get(unready, SlotReason.NO_COPY)
    if patroni is not None and patroni.permanent_slot(slot.slot_name) is not None:
        return SlotReason.PATRONI_RECREATES
    if primary.facts is not None and primary.facts.major < FIRST_MAJOR:
        return SlotReason.BEFORE_17
    return SlotReason.NO_FAILOVER


def _copied(slot: Slot, there: Slot, copy: Readiness | None, patroni: PatroniSlots | None) -> SlotOutcome:
    if there.invalidated:
        return _outcome(slot, Outcome.ENDS, SlotReason.COPY_INVALIDATED)
    if there.temporary:
        return _outcome(slot, Outcome.ENDS, SlotReason.NOT_PERSISTED)
    if patroni is not None and patroni.drops(there):
        return _outcome(slot, Outcome.ENDS, SlotReason.PATRONI_DROPS)
    # Without failover on the primary's slot nothing keeps the copy in step.
    stale = copy is None or copy.not_ready_reason is NotReadyReason.STALE
    return _outcome(slot, Outcome.GOES_ON, SlotReason.STALE if stale else SlotReason.COPY, other=there)


def _taken(slot: Slot, there: Slot, patroni: PatroniSlots | None) -> SlotOutcome:
    """Return the outcome of a slot whose name another slot of the standby has."""
    usable = (there.slot_type, there.database, there.plugin) == ("logical", slot.database, slot.plugin)
    if there.invalidated or there.in_creation or not usable:
        return _outcome(slot, Outcome.ENDS, SlotReason.NAME_TAKEN)
    if patroni is not None and patroni.permanent_slot(slot.slot_name) is not None and not slot.failover:
        return _outcome(slot, Outcome.GOES_ON, SlotReason.PATRONI, other=there)
    return _outcome(slot, Outcome.OTHER_SLOT, SlotReason.NAME_TAKEN, other=there)


def _physical(slot: Slot, target: NodeSnapshot, facts: SwitchoverFacts, members: tuple[str, ...]) -> SlotOutcome:
    settings = facts.of(target.node)
    upstream = {
        settings.primary_slot_name if settings is not None else None,
        target.standby.receiver_slot_name if target.standby is not None else None,
    }
    if slot.slot_name in upstream:
        return _outcome(slot, Outcome.NOT_NEEDED, SlotReason.STREAMS_TO_TARGET)
    if slot.temporary:
        return _outcome(slot, Outcome.ENDS, SlotReason.TEMPORARY)
    if target.slots is None:
        return _outcome(slot, Outcome.UNKNOWN, SlotReason.NOT_READ)
    there = target.slot(slot.slot_name)
    if there is not None and there.slot_type == "physical" and not there.invalidated:
        return _outcome(slot, Outcome.GOES_ON, SlotReason.SAME_NAME)
    if patroni_creates(slot.slot_name, target.node, facts.patroni, members):
        return _outcome(slot, Outcome.GOES_ON, SlotReason.PATRONI)
    return _outcome(slot, Outcome.ENDS, SlotReason.PHYSICAL)


def _own(slot: Slot, patroni: PatroniSlots | None) -> SlotOutcome | None:
    """Return the outcome of a slot of the standby; None for a copy that ends with nobody using it."""
    if slot.invalidated:
        return _outcome(slot, Outcome.ENDS, SlotReason.INVALIDATED)
    if slot.synced:
        return None if slot.temporary else _outcome(slot, Outcome.GOES_ON, SlotReason.LEFT_BEHIND)
    if slot.in_creation:
        return _outcome(slot, Outcome.UNKNOWN, SlotReason.IN_CREATION)
    if patroni is not None and slot.slot_type == "logical" and patroni.drops(slot):
        # Not at the promotion: Patroni reads the slots again when the server starts, or one of its own is missing.
        return _outcome(slot, Outcome.GOES_ON, SlotReason.PATRONI_DROPS)
    return _outcome(slot, Outcome.GOES_ON, SlotReason.TEMPORARY if slot.temporary else SlotReason.OWN)
