"""The model knows which transaction holds a slot: the rules that facts/postgresql measured on real servers."""

import random

import pytest

from tests.simulations.terminations.judge import unproven
from tests.simulations.terminations.primary import Primary
from tests.simulations.terminations.slots import Consumer, ModelCreation, ModelSlot
from tests.simulations.terminations.transactions import Owner, Transaction

OWNER = Owner()


@pytest.fixture
def primary() -> Primary:
    return Primary(0.0, random.Random(1), rate=1000.0, next_xid=2**32 - 2, position=1_000_000)


@pytest.fixture
def slot(primary: Primary) -> ModelSlot:
    slot = ModelSlot("s", primary, Consumer(interval=1.0))
    slot.start()
    return slot


def begin(primary: Primary, *, writes: bool = True, subtransaction: bool = False) -> Transaction:
    transaction = primary.begin(OWNER)
    primary.assign_xid(transaction)
    if writes:
        primary.write_in(transaction, subtransaction=subtransaction)
    primary.become_idle(transaction)
    return transaction


def test_slot_moves_with_each_record_while_nothing_is_open(primary: Primary, slot: ModelSlot) -> None:
    before = slot.restart
    primary.settle(40.0)
    assert slot.restart > before
    assert slot.holders() == []


@pytest.mark.parametrize("subtransaction", [False, True])
def test_transaction_that_wrote_holds_the_slot(primary: Primary, slot: ModelSlot, *, subtransaction: bool) -> None:
    holder = begin(primary, subtransaction=subtransaction)
    primary.settle(100.0)
    assert slot.holders() == [holder]
    assert primary.restart_decoding_lsn(holder.first_lsn or 0) == slot.restart


def test_prepared_transaction_holds_the_slot(primary: Primary, slot: ModelSlot) -> None:
    holder = begin(primary)
    primary.prepare(holder, "gid")
    primary.settle(100.0)
    assert slot.holders() == [holder]


def test_older_transaction_without_wal_does_not_hold_it(primary: Primary, slot: ModelSlot) -> None:
    begin(primary, writes=False)
    holder = begin(primary)
    primary.settle(100.0)
    assert slot.holders() == [holder]


def test_nothing_holds_it_once_the_holder_has_committed_though_it_moves_only_after_the_next_record(
    primary: Primary, slot: ModelSlot
) -> None:
    holder = begin(primary)
    primary.settle(100.0)
    stood, record = slot.restart, primary.records[-1]
    primary.end(holder)
    primary.settle(100.5)
    assert primary.records[-1] is record
    assert (slot.restart, slot.holders()) == (stood, [])
    primary.settle(120.0)
    assert slot.restart > stood


def test_younger_transaction_holds_it_only_after_the_older_one(primary: Primary, slot: ModelSlot) -> None:
    first = begin(primary)
    primary.settle(40.0)
    second = begin(primary)
    primary.settle(100.0)
    assert slot.holders() == [first]
    primary.end(first)
    primary.settle(140.0)
    assert slot.holders() == [second]


def test_slot_moves_only_once_its_consumer_has_confirmed_the_record(primary: Primary) -> None:
    slow = ModelSlot("slow", primary, Consumer(interval=60.0))
    slow.start()
    before = slow.restart
    primary.settle(40.0)
    assert slow.restart == before
    primary.settle(80.0)
    assert slow.restart > before


def test_creation_on_the_primary_waits_for_every_transaction_with_an_xid(primary: Primary) -> None:
    first, second = begin(primary, writes=False), begin(primary)
    creation = ModelCreation("c", primary, "a", on_primary=True, pid=1, began=0.0)
    creation.start()
    primary.settle(10.0)
    assert creation.holders() == [first, second]
    primary.end(first)
    primary.settle(20.0)
    assert creation.waits
    primary.end(second)
    primary.settle(21.0)
    assert not creation.waits


def test_creation_on_a_standby_also_lacks_a_record_and_the_replay_of_an_end(primary: Primary) -> None:
    holder = begin(primary)
    creation = ModelCreation("c", primary, "b", on_primary=False, pid=1, began=0.0)
    creation.start()
    primary.settle(40.0)
    assert creation.holders() == [holder]
    creation.stop_replay()
    primary.end(holder)
    primary.settle(80.0)
    assert creation.waits
    assert creation.holders() == []
    assert creation.polls()
    creation.resume_replay()
    primary.settle(120.0)
    assert not creation.waits


def test_proof_needs_a_record_since_it_was_shown_at_which_it_was_alone(primary: Primary, slot: ModelSlot) -> None:
    holder = begin(primary)
    primary.settle(50.0)
    assert unproven(slot, holder) == "no record that was logged since it was first shown has been confirmed"
    holder.shown_since = 50.0
    assert unproven(slot, holder) is not None
    primary.settle(70.0)
    assert unproven(slot, holder) is None


def test_nothing_is_proven_while_others_could_be_the_cause(primary: Primary, slot: ModelSlot) -> None:
    idle, holder = begin(primary, writes=False), begin(primary)
    idle.shown_since = holder.shown_since = 0.0
    primary.settle(70.0)
    assert unproven(slot, holder) == "at none of the confirmed records it was the only one that could be the cause"
    primary.end(idle)
    assert unproven(slot, holder) is not None, "the record may have shown what the other one held"
    primary.settle(90.0)
    assert unproven(slot, holder) is None
