"""The words for the status of a slot: what it is, what it waits for, why it retains WAL, and who is to blame."""

from pgslot.cli.amounts import duration, size
from pgslot.diagnosis.creation_wait import WaitReason
from pgslot.diagnosis.failover_readiness import NotReadyReason, Readiness
from pgslot.diagnosis.leftover_slots import LeftoverReason
from pgslot.diagnosis.retention import RetentionCause
from pgslot.snapshot.rows import SlotUser, Transaction
from pgslot.status.slot_status import RoomLimit, SlotState, SlotStatus, Unseen

WAITS_FOR = {
    WaitReason.TRANSACTION: "waits for a transaction to end",
    WaitReason.RUNNING_XACTS: "waits for a running-xacts record from the primary",
    WaitReason.REPLAY_PAUSED: "replay is paused on this standby",
    WaitReason.WAL_RECEIVER_DOWN: "this standby receives no WAL",
    WaitReason.REPLAY_LAG: "replay lags on this standby",
    WaitReason.RECOVERY_CONFLICT: "a session on this standby stops replay",
    WaitReason.REPLAY_DELAYED: "recovery_min_apply_delay delays replay",
    WaitReason.ARCHIVED_SEGMENT: "waits for the next archived WAL segment",
    WaitReason.UNKNOWN: "waits, and it is not known for what",
}

RETAINS_BECAUSE = {
    RetentionCause.INVALIDATED: "lost",
    RetentionCause.CREATION: "is being created",
    RetentionCause.INACTIVE: "no consumer is connected",
    RetentionCause.CONSUMER: "its consumer does not confirm",
    RetentionCause.DECODING: "a large transaction is being decoded",
    RetentionCause.TABLE_COPY: "a table is being copied",
    RetentionCause.IDLE_PUBLICATION: "nothing that it publishes changes",
    RetentionCause.STANDBY: "waits for a standby",
    RetentionCause.TRANSACTION: "a transaction pins it",
    RetentionCause.STALLED: "lacks a running-xacts record",
    RetentionCause.UNKNOWN: "not known",
    RetentionCause.NONE: "",
}

LOST_BECAUSE = {
    "wal_removed": "retained more WAL than max_slot_wal_keep_size allows",
    "rows_removed": "the primary removed catalog rows that it needs",
    "wal_level_insufficient": "the primary's wal_level is too low",
    "idle_timeout": "nobody used it for idle_replication_slot_timeout",
    "unknown": "PostgreSQL 16 does not report why",
}
"""By invalidation_reason. A reason that a newer PostgreSQL adds is shown as it is."""

NOT_READY_BECAUSE = {
    NotReadyReason.NOT_SYNCED: "not copied yet",
    NotReadyReason.NOT_PERSISTED: "its copy is temporary",
    NotReadyReason.NAME_CLASH: "another slot has its name",
    NotReadyReason.INVALIDATED: "its copy is invalidated",
    NotReadyReason.SYNC_OFF: "sync_replication_slots is off",
    NotReadyReason.WORKER_DOWN: "no slot synchronization worker runs",
    NotReadyReason.STALE: "its copy is no longer kept in step",
    NotReadyReason.UNKNOWN: "not known",
}

UNSEEN_BECAUSE = {
    Unseen.SECOND_LOOK: "needs a second look",
    Unseen.PRIVILEGE: "the role may not see other sessions",
    Unseen.PRIMARY: "the primary was not seen",
    Unseen.STANDBY: "a standby was not seen",
    Unseen.UNEXPLAINED: "no cause shows",
}

LEFT_OVER_BECAUSE = {
    LeftoverReason.NAME_CLASH: "left over, and stops the synchronization of slots",
    LeftoverReason.FORMER_PRIMARY: "left over from when this server was the primary",
    LeftoverReason.ORPHANED_COPY: "a copy whose original is gone",
}

STATES = {
    SlotState.CREATING: "being created",
    SlotState.LOST: "LOST",
    SlotState.COPY: "copy",
    SlotState.ACTIVE: "in use",
    SlotState.INACTIVE: "not in use",
}


def state(status: SlotStatus) -> str:
    """Return what the slot is, and for how long if the server shows it."""
    since = None if status.slot is None else status.slot.inactive_since
    if status.creation is not None and status.creation.creation.wait_seconds is not None:
        return f"being created for {duration(status.creation.creation.wait_seconds)}"
    if status.state is SlotState.INACTIVE and since is not None and status.facts is not None:
        return f"not in use for {duration(status.facts.server_time - since)}"
    return STATES[status.state]


def why(status: SlotStatus) -> str:
    """Return what it waits for or why it retains WAL, without culprits; empty: nothing is wrong with it."""
    if status.leftover is not None:
        return LEFT_OVER_BECAUSE[status.leftover.reason]
    if status.creation is not None and status.creation.reason is not WaitReason.UNKNOWN:
        return WAITS_FOR[status.creation.reason]
    if status.state is SlotState.LOST:
        reason = None if status.slot is None else status.slot.invalidation_reason
        return LOST_BECAUSE.get(reason or "unknown", reason or "")
    cause = RetentionCause.NONE if status.retention is None else status.retention.cause
    if cause not in (RetentionCause.UNKNOWN, RetentionCause.NONE):
        awaited = None if status.retention is None else status.retention.standby_slot
        text = RETAINS_BECAUSE[cause]
        return f"{text} (slot {awaited})" if awaited else text
    reasons = [reason for reason in status.unseen if reason is not Unseen.STANDBY]
    if reasons:
        prefix = "waits: " if status.state is SlotState.CREATING else ""
        return prefix + UNSEEN_BECAUSE[reasons[0]]
    if status.broken_feedback is not None:
        return "the primary keeps no catalog rows for it"
    return ""


def culprit(transaction: Transaction) -> str:
    """Return whose transaction it is, such as `pid 3433, batch (nightly load), idle in transaction, open for 1 h`."""
    who = transaction.usename or "unknown user"
    age = "" if transaction.age_seconds is None else f" for {duration(transaction.age_seconds)}"
    if transaction.pid is None:
        return f"gid {transaction.application_name}, {who}, prepared{age}"
    name = f"{who} ({transaction.application_name})" if transaction.application_name else who
    return f"pid {transaction.pid}, {name}, {transaction.state or 'open'}{age}"


def culprits(status: SlotStatus) -> str:
    """Return who is to blame, or may be; empty: no transaction is."""
    named = status.culprits
    if not named:
        return ""
    if status.culprit is not None:
        return culprit(status.culprit)
    return "perhaps " + "; or ".join(culprit(transaction) for transaction in named)


def user(user: SlotUser | None) -> str:
    """Return who uses a slot, such as `pid 4970, cdc (debezium) at 10.0.0.7`; empty: nobody, or it is not known."""
    if user is None:
        return ""
    who = user.usename or "unknown user"
    name = f"{who} ({user.application_name})" if user.application_name else who
    return f"pid {user.pid}, {name}" + (f" at {user.client_addr}" if user.client_addr else "")


def held(status: SlotStatus) -> str:
    """Return how much WAL it retains; empty: none, or not known."""
    return "" if status.held_bytes is None else size(status.held_bytes)


def growth(status: SlotStatus) -> str:
    """Return how much the retained WAL grows in an hour; empty: not observed for long enough."""
    if status.growth is None:
        return ""
    per_hour = status.growth.bytes_per_second * 3600
    return f"{'+' if per_hour > 0 else ''}{size(per_hour)}/h" if abs(per_hour) >= 1 else "0 B/h"


def room(status: SlotStatus) -> str:
    """Return how much more it can retain; empty: not known, or it retains nothing."""
    if status.room is None:
        limit = None if status.facts is None else status.facts.max_slot_wal_keep_size_bytes
        return "no limit" if status.held_bytes is not None and status.facts is not None and limit is None else ""
    left = size(max(0, status.room.left_bytes))
    return f"{left} (volume)" if status.room.limit is RoomLimit.VOLUME else left


def time_left(status: SlotStatus) -> str:
    """Return when the room ends at the present rate; empty: it does not, or is not known."""
    return "" if status.seconds_left is None else duration(status.seconds_left)


def failover(status: SlotStatus) -> str:
    """Return whether it would survive a failover to each standby; empty: it is not meant to, or no standby was seen."""
    return "; ".join(_ready(copy) for copy in status.failover)


def _ready(copy: Readiness) -> str:
    if copy.not_ready_reason is None:
        return f"ready on {copy.node}"
    if copy.ready is None:
        return f"not known on {copy.node}"
    return f"not ready on {copy.node}: {NOT_READY_BECAUSE[copy.not_ready_reason]}"
