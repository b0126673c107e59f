"""
Slots that nobody needs any more, each with the exact statement that removes it and the proof that nothing uses it.

Nothing here is executed: the slot's owner decides. Each statement checks by itself what the finding saw, and drops
nothing if somebody has used the slot since.
"""

from collections.abc import Iterator, Mapping

from healer.doctor.result import CheckStatus, Finding
from healer.status_page import duration
from pgslot.diagnosis.failover_readiness import FIRST_MAJOR
from pgslot.diagnosis.leftover_slots import Leftover, LeftoverReason, leftover_slots
from pgslot.postgres.types import format_lsn
from pgslot.snapshot.model import ClusterSnapshot, NodeSnapshot
from pgslot.snapshot.rows import Slot

_MEBIBYTE = 1024 * 1024
UNUSED_SECONDS = 24 * 3600.0
"""A consumer that has been away from the primary for so long may never come back."""

RECONNECT_SECONDS = 120.0
"""A standby that has only lost its connection streams again by then."""

_WHY = {
    LeftoverReason.NAME_CLASH: "left over from when this server was the primary; it stops the synchronisation of all"
    " failover slots to this standby",
    LeftoverReason.FORMER_PRIMARY: "left over from when this server was the primary",
    LeftoverReason.ORPHANED_COPY: "a copy whose original is gone from the primary, and nothing synchronises",
}


def judge_leftovers(cluster: ClusterSnapshot) -> Iterator[Finding]:
    """Report slots that are left over on standbys, and slots of the primary that stop pg_upgrade."""
    nodes = {node.node: node for node in cluster.nodes}
    for leftover in leftover_slots(cluster):
        yield _judge_leftover(leftover, nodes[leftover.node])
    if cluster.primary is not None:
        yield from _judge_upgrade(cluster.primary)


def judge_timelines(cluster: ClusterSnapshot, timelines: Mapping[str, int | None]) -> Iterator[Finding]:
    """
    Report each standby that is on an older timeline than the primary and does not stream, whose slot holds WAL there.

    `timelines`: by the node's name; None: unknown. A standby's control file is behind what it has replayed, so that a
    standby that has lost its connection for other reasons looks the same: its own log decides.
    """
    primary = cluster.primary
    present = None if primary is None else timelines.get(primary.node)
    if primary is None or present is None:
        return
    for node in cluster.nodes:
        standby, timeline = node.standby, timelines.get(node.node)
        if standby is None or timeline is None or timeline >= present or standby.receiver_status == "streaming":
            continue
        slot = primary.slot(standby.primary_slot_name)
        if slot is None or slot.slot_type != "physical" or slot.active or slot.restart_position is None:
            continue
        if slot.inactive_since is not None and primary.facts is not None:
            away = primary.facts.server_time - slot.inactive_since
            if away < RECONNECT_SECONDS:
                continue
        found = (
            f"{node.node} does not stream, its control file has timeline {timeline}, the primary is on {present};"
            f" its slot {slot.slot_name} {_holds(slot)} on the primary{_unused(slot, primary)}"
        )
        guard = (
            f"slot_type = 'physical' AND NOT active AND restart_lsn = '{format_lsn(slot.restart_position)}'"
            " AND NOT pg_catalog.pg_is_in_recovery()"
        )
        advice = (
            f'If the log of {node.node} says "not in this server\'s history" or "forked off", it can never follow: run'
            f" pg_rewind or rebuild it, which goes on with the slot. If it is not to return, on {primary.node}:"
            f" {_drop(slot, guard)}"
        )
        yield Finding("leftovers", f"{node.cluster}/{primary.node}", CheckStatus.WARNING, found, advice)


def _judge_leftover(leftover: Leftover, node: NodeSnapshot) -> Finding:
    slot = leftover.slot
    found = f"slot {slot.slot_name} is {_WHY[leftover.reason]}; it {_holds(slot)}{_unused(slot, node)}"
    if leftover.original is not None:
        in_use = "is in use there" if leftover.original.active else "is not in use there either"
        found += f"; the primary's slot of that name {in_use}"
    if leftover.reason is LeftoverReason.ORPHANED_COPY:
        advice = (
            f"PostgreSQL refuses to drop it on a standby. On {node.node}: ALTER SYSTEM SET sync_replication_slots = on;"
            " SELECT pg_catalog.pg_reload_conf(); then the worker drops it within 30 s."
        )
    else:
        kind = "failover AND NOT synced AND " if slot.failover is not None else ""
        guard = f"{kind}NOT active AND {_unmoved(slot)} AND pg_catalog.pg_is_in_recovery()"
        advice = f"On {node.node}: {_drop(slot, guard)}"
    return Finding("leftovers", f"{node.cluster}/{node.node}", CheckStatus.WARNING, found, advice)


def _judge_upgrade(primary: NodeSnapshot) -> Iterator[Finding]:
    """Report the logical slots at which pg_upgrade stops: invalidated ones, and those with changes nobody has read."""
    facts = primary.facts
    if facts is None or facts.major < FIRST_MAJOR:
        return
    for slot in primary.slots or ():
        if slot.slot_type != "logical" or slot.temporary or slot.active:
            continue
        if slot.invalidated:
            found = f"slot {slot.slot_name} is invalidated: nobody can use it, and pg_upgrade stops at it"
            guard = f"NOT active AND wal_status = 'lost' AND {_unmoved(slot)}"
        elif (
            slot.inactive_since is not None
            and facts.server_time - slot.inactive_since > UNUSED_SECONDS
            and (slot.unconfirmed_wal_bytes or 0) > 0
        ):
            found = f"slot {slot.slot_name} {_holds(slot)}{_unused(slot, primary)}; pg_upgrade stops at unread changes"
            guard = f"NOT active AND {_unmoved(slot)}"
        else:
            continue
        advice = f"If its owner does not need it, on {primary.node}: {_drop(slot, guard)}"
        yield Finding("leftovers", f"{primary.cluster}/{primary.node}", CheckStatus.WARNING, found, advice)


def _drop(slot: Slot, guard: str) -> str:
    name = slot.slot_name.replace("'", "''")
    drop = "SELECT pg_catalog.pg_drop_replication_slot(slot_name) FROM pg_catalog.pg_replication_slots"
    return f"{drop} WHERE slot_name = '{name}' AND {guard};"


def _unmoved(slot: Slot) -> str:
    """Return the condition that nobody has confirmed anything since this snapshot."""
    if slot.confirmed_position is None:
        return "confirmed_flush_lsn IS NULL"
    return f"confirmed_flush_lsn = '{format_lsn(slot.confirmed_position)}'"


def _holds(slot: Slot) -> str:
    if slot.retained_wal_bytes is None:
        return "retains nothing"
    return f"retains {slot.retained_wal_bytes / _MEBIBYTE:.0f} MiB of WAL"


def _unused(slot: Slot, node: NodeSnapshot) -> str:
    if slot.inactive_since is None or node.facts is None:
        return ", and no session uses it"
    return f", and no session has used it for {duration(node.facts.server_time - slot.inactive_since)}"
