"""What `heal` says it saw, as pure functions of a snapshot and of an episode's report."""

from dataclasses import replace

import pytest

from healer.commands.manual_episode import Exit, exit_code, progress_text, unread_nodes
from healer.episodes.report import Report
from healer.remedies.force_snapshot.need import slots_in_need
from healer.remedies.progress import Outcome
from healer.remedies.slot_state import SlotCondition, SlotKey, SlotState
from pgslot.diagnosis.creation_wait import WaitReason
from pgslot.diagnosis.retention import RetentionCause
from pgslot.snapshot.model import ClusterSnapshot, QueryStatus
from tests.support.builders.slot_states import waiting
from tests.support.builders.snapshots import SLOT, STANDBY, cluster, node, unreachable_node

PRIMARY = node("primary", recovery=False)
REPLICA = node("standby", recovery=True)
COPY = SLOT._replace(synced=True, temporary=True, failover=True)


def without_slots_query(status: QueryStatus) -> ClusterSnapshot:
    standby = node("standby", recovery=True, slots=None)
    standby.statuses["slots"] = status
    return cluster(PRIMARY, standby)


@pytest.mark.parametrize(
    ("snapshot", "unread"),
    [
        (cluster(PRIMARY, REPLICA), {}),
        (cluster(PRIMARY, unreachable_node("standby")), {"standby": "unreachable"}),
        (without_slots_query(QueryStatus.PERMISSION_DENIED), {"standby": "slots: permission_denied"}),
        (
            cluster(unreachable_node("primary"), unreachable_node("standby")),
            {"primary": "unreachable", "standby": "unreachable"},
        ),
    ],
)
def test_nodes_on_which_a_slot_may_wait_unseen_are_named(snapshot: ClusterSnapshot, unread: dict[str, str]) -> None:
    assert unread_nodes(snapshot) == unread
    assert slots_in_need(snapshot) == []


def test_copy_that_only_the_primary_can_explain_is_not_taken_for_well() -> None:
    synchronising = replace(STANDBY, sync_replication_slots=True, slotsync_worker_running=True)
    standby = node("standby", recovery=True, slots=(COPY,), standby=synchronising)
    snapshot = cluster(unreachable_node("primary"), standby)
    assert unread_nodes(snapshot) == {
        "primary": "unreachable",
        "standby": "slot s cannot be judged without the primary's slots",
    }


UNREAD = {"standby": "unreachable"}


@pytest.mark.parametrize(
    ("outcome", "unread", "code"),
    [
        (None, {}, Exit.HEALED),
        (None, UNREAD, Exit.UNAVAILABLE),
        (Outcome.HEALED, {}, Exit.HEALED),
        (Outcome.HEALED, UNREAD, Exit.UNAVAILABLE),
        (Outcome.RESOLVED_ITSELF, {}, Exit.HEALED),
        (Outcome.DRY_RUN, {}, Exit.NOT_HEALED),
        (Outcome.DRY_RUN, UNREAD, Exit.NOT_HEALED),
        (Outcome.GAVE_UP, {}, Exit.NOT_HEALED),
        (Outcome.GAVE_UP, UNREAD, Exit.NOT_HEALED),
        (Outcome.NO_EFFECT, {}, Exit.NOT_HEALED),
        (Outcome.ERROR, {}, Exit.NOT_HEALED),
        (Outcome.UNAVAILABLE, {}, Exit.UNAVAILABLE),
    ],
)
def test_exit_code_0_means_that_every_node_was_read_and_no_slot_waits(
    outcome: Outcome | None, unread: dict[str, str], code: Exit
) -> None:
    report = None if outcome is None else Report("c", "log_standby_snapshot", 0.0, outcome=outcome)
    assert exit_code(report, unread) is code


def test_progress_names_a_few_slots_of_each_reason_and_the_calls() -> None:
    inconclusive = SlotState(SlotCondition.INCONCLUSIVE, cause=RetentionCause.UNKNOWN)
    states = {SlotKey("standby", "w"): waiting(WaitReason.TRANSACTION)}
    assert progress_text(states, 1) == "still working: w waiting for transaction; 1 call so far"
    unknown = {SlotKey("standby", "w"): waiting(WaitReason.UNKNOWN)}
    assert progress_text(unknown, 2) == "still working: w waiting for an unknown reason; 2 calls so far"
    states |= {SlotKey("primary", f"s{i}"): inconclusive for i in range(5)}
    assert progress_text(states, 0) == (
        "still working: w waiting for transaction; s0, s1, s2 and 2 more inconclusive so far"
        " (whether restart_lsn moves shows within a minute); 0 calls so far"
    )
