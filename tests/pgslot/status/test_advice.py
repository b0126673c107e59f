"""What to do about a slot: exact, guarded, and on the right server."""

from dataclasses import replace
from typing import Any

import pytest

from pgslot.diagnosis.creation_wait import WaitReason
from pgslot.diagnosis.retention import Retention, RetentionCause
from pgslot.postgres.types import quote_literal
from pgslot.status.advice import advice
from pgslot.status.slot_status import Concern, SlotStatus, Unseen
from tests.support.builders.snapshots import TRANSACTION
from tests.support.builders.statuses import (
    GIB,
    HEALTHY,
    LOST,
    UNUSED,
    creation_on_standby,
    pinned_status,
    status_of,
)
from tests.support.paths import ROOT

PREPARED = replace(TRANSACTION, pid=None, backend_type="prepared", kind="prepared", application_name="it's", xid=7)


def retaining(cause: RetentionCause, **changes: Any) -> SlotStatus:
    """Return the status of a slot that retains 3 GiB because of this."""
    retention = Retention(cause, standby_slot="gone" if cause is RetentionCause.STANDBY else None)
    concern = Concern.INACTIVE if cause is RetentionCause.INACTIVE else Concern.RETAINS
    return replace(status_of(UNUSED), retention=retention, concerns=(concern,), **changes)


def test_healthy_slot_needs_no_advice() -> None:
    assert advice(status_of(HEALTHY)) == ()


def test_lost_slot_is_dropped_only_while_it_is_lost() -> None:
    [step] = advice(status_of(LOST))
    assert step.command == (
        "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
        " WHERE slot_name = 'gone' AND wal_status = 'lost';"
    )
    assert (step.node, step.runbook) == ("p", "PgSlotLost")


def test_unused_slot_is_started_first_and_dropped_only_while_nobody_uses_it() -> None:
    start, drop = advice(status_of(UNUSED))
    assert start.command is None
    assert drop.command is not None
    assert drop.command.endswith("slot_name = 'unused' AND NOT active;")
    assert "new copy of its data; this cannot be undone" in drop.costs
    assert drop.frees == "up to 3.0 GiB"
    assert drop.lines[-1].startswith("Costs: its consumer needs a new slot")


@pytest.mark.parametrize(
    ("frees", "text"),
    [
        (None, "up to 3.0 GiB"),
        (GIB, "1.0 GiB"),
        (0, "nothing yet: the last checkpoint, another slot or a setting keeps older WAL"),
    ],
)
def test_advice_says_what_it_frees(frees: int | None, text: str) -> None:
    assert advice(replace(status_of(UNUSED), frees_bytes=frees))[0].frees == text


def test_transaction_is_ended_only_if_it_is_still_that_one() -> None:
    [step] = advice(pinned_status())
    assert step.command == (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = 200 AND backend_xid = '500'::xid;"
    )
    assert "rolled back" in step.costs
    assert step.node == "p"


def test_prepared_transaction_is_for_its_owner_to_decide() -> None:
    status = pinned_status()
    assert status.retention is not None
    [step] = advice(replace(status, retention=replace(status.retention, blocker=PREPARED)))
    assert step.text.startswith("Ask its owner (worker)")
    assert step.command == (
        "SELECT format('ROLLBACK PREPARED %L', gid) FROM pg_prepared_xacts"
        " WHERE gid = 'it''s' AND transaction = '7'::xid \\gexec"
    )


def test_no_transaction_is_ended_while_several_may_be_the_cause() -> None:
    [step] = advice(retaining(RetentionCause.TRANSACTION))
    assert step.command is None
    assert "before you end one" in step.text


def test_record_is_forced_on_the_primary_of_a_standby() -> None:
    [step] = advice(creation_on_standby())
    assert (step.command, step.node) == ("SELECT pg_log_standby_snapshot();", "p")


def test_server_before_16_has_no_function_to_force_a_record() -> None:
    [step] = advice(retaining(RetentionCause.STALLED, primary_major=15))
    assert step.command == "CHECKPOINT;"


@pytest.mark.parametrize("reason", list(WaitReason))
def test_every_reason_of_a_waiting_creation_has_advice(reason: WaitReason) -> None:
    status = creation_on_standby()
    assert status.creation is not None
    assert advice(replace(status, creation=replace(status.creation, reason=reason)))


@pytest.mark.parametrize("cause", sorted(set(RetentionCause) - {"none", "unknown", "creation", "invalidated"}), ids=str)
def test_every_cause_has_advice(cause: RetentionCause) -> None:
    steps = advice(retaining(cause))
    assert steps
    for step in steps:
        assert 1 <= len(step.lines) <= 3
        assert step.runbook is None or (ROOT / "alerts/runbooks" / f"{step.runbook}.md").exists()


def test_near_loss_comes_with_a_way_to_buy_time() -> None:
    status = replace(retaining(RetentionCause.CONSUMER), concerns=(Concern.NEAR_LOSS,))
    assert [step.runbook for step in advice(status)] == ["PgSlotNotConfirmed", "PgSlotWalHeadroomLow"]


def test_second_look_is_advised_where_movement_decides() -> None:
    [step] = advice(replace(status_of(HEALTHY), unseen=(Unseen.SECOND_LOOK,)))
    assert "--watch" in step.text


@pytest.mark.parametrize(
    ("text", "literal"),
    [("cdc", "'cdc'"), ("it's", "'it''s'"), ("a\\b", "E'a\\\\b'"), ("a\nb", "E'a\\U0000000ab'"), ("", "''")],
)
def test_literal_cannot_end_early(text: str, literal: str) -> None:
    assert quote_literal(text) == literal
