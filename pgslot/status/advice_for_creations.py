"""What to do about a slot creation that waits."""

from pgslot.diagnosis.creation_wait import WaitReason
from pgslot.status.commands import cancel_creation, end_transaction, force_record
from pgslot.status.slot_status import SlotStatus
from pgslot.status.step import Step

_BLOCKED = "PgSlotCreationBlocked"


def creation_advice(status: SlotStatus) -> tuple[Step, ...]:
    """Return what lets the creation finish; if nothing does, how to cancel it."""
    wait = status.creation
    if wait is None:
        return ()
    cancel = Step(
        "Or cancel the creation: its consumer gets an error and tries again",
        cancel_creation(wait.creation),
        status.node,
        costs="no data is lost",
        runbook=_BLOCKED,
    )
    if wait.reason is WaitReason.RUNNING_XACTS:
        return (force_record(status, runbook="PgSlotCreationStuck"),)
    if wait.reason is WaitReason.TRANSACTION:
        return _blocked(status, cancel)
    if wait.reason is WaitReason.REPLAY_PAUSED:
        resume = Step(
            "Resume replay, if you know why it was paused",
            "SELECT pg_wal_replay_resume();",
            status.node,
            costs="the person who paused it to look at an old state loses that state",
            runbook=_BLOCKED,
        )
        return (resume, cancel)
    if wait.reason is WaitReason.ARCHIVED_SEGMENT:
        archive = Step(
            "Force the record into the archive",
            "SELECT pg_log_standby_snapshot(); SELECT pg_sleep(0.5); SELECT pg_switch_wal();",
            status.primary,
            costs="one nearly empty WAL segment in the archive",
            runbook=_BLOCKED,
        )
        return (archive, cancel)
    text = _WAITING.get(wait.reason)
    return (cancel,) if text is None else (Step(text, None, status.node, runbook=_BLOCKED), cancel)


_WAITING = {
    WaitReason.WAL_RECEIVER_DOWN: "Let the standby stream again: its log shows why it does not connect",
    WaitReason.REPLAY_LAG: "Wait until the standby has caught up",
    WaitReason.RECOVERY_CONFLICT: "End the session on the standby that stops replay: the runbook shows how to find it",
    WaitReason.REPLAY_DELAYED: "Wait for recovery_min_apply_delay, or create the slot on another node",
}


def _blocked(status: SlotStatus, cancel: Step) -> tuple[Step, ...]:
    blocker = status.culprit
    if blocker is None:
        find = Step("Find the transaction that blocks it, and ask its owner", None, status.primary, runbook=_BLOCKED)
        return (find, cancel)
    end = end_transaction(blocker, status.primary)
    if status.on_primary:
        return (end, cancel)
    return (end, force_record(status, runbook=_BLOCKED))
