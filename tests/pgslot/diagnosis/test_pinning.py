"""The only candidate is proven to pin a slot by later records that were confirmed and moved nothing."""

import math
from dataclasses import dataclass, replace

import pytest

from pgslot.diagnosis.pinning import Pinning, pinning
from pgslot.snapshot.history import SEGMENT_BYTES as SEGMENT
from pgslot.snapshot.history import LoggedRecords, Sample, add_records, extend_history
from pgslot.snapshot.rows import Transaction
from tests.support.builders.retention import HERE, NOW, PINNED, RECORD, SLOT_HISTORY, primary_with
from tests.support.builders.snapshots import FACTS, SLOT, TRANSACTION, cluster

BOUND = 580
HOLDER = replace(TRANSACTION, pid=1, xid=500, xid_age=203)
SECOND = replace(TRANSACTION, pid=2, xid=510, xid_age=193)
PREPARED = replace(TRANSACTION, kind="prepared", backend_type="prepared", pid=None, xid=480, xid_age=223)
LATER = replace(TRANSACTION, pid=3, xid=BOUND, xid_age=123)
WITHOUT_XID = replace(TRANSACTION, kind="snapshot", pid=4, xid=None, xid_age=None)

FORCED_FIRST = LoggedRecords(NOW - 50.2, NOW - 50.0, HERE - 60_200, HERE - 60_000)
FORCED_AGAIN = LoggedRecords(NOW - 8.2, NOW - 8.0, HERE - 20_200, HERE - 20_000)
RECORDS = (FORCED_FIRST, FORCED_AGAIN)
CONFIRMED = PINNED | {"restart_position": RECORD, "sent_position": HERE}


def sample(age: float, *xids: int, next_xid: int = BOUND) -> Sample:
    """Return a sample of a snapshot that ended `age` seconds ago and took 0.1 s, with these xids open."""
    first, second = (*xids, None, None)[:2]
    return Sample(NOW - age, int(HERE - age * 1_000), first, next_xid, second, NOW - age - 0.1)


AT_BOUND = sample(45, 500, 510)
ALONE = sample(10, 500, next_xid=590)
LAST = sample(0, 500, next_xid=600)
SAMPLES = (AT_BOUND, ALONE, LAST)


def pinned(
    *transactions: Transaction,
    samples: tuple[Sample, ...] = SAMPLES,
    records: tuple[LoggedRecords, ...] = RECORDS,
    **changes: object,
) -> Pinning | None:
    slot = SLOT._replace(**CONFIRMED | changes)
    node = primary_with(slot, SLOT_HISTORY, transactions)
    node = replace(node, history=replace(node.history, samples=samples, records=records))
    return pinning(slot, node, cluster(node))


@dataclass(frozen=True)
class Case:
    """What the snapshots showed, and whether it proves that the holder pins the slot."""

    name: str
    transactions: tuple[Transaction, ...] = (HOLDER,)
    samples: tuple[Sample, ...] = SAMPLES
    records: tuple[LoggedRecords, ...] = RECORDS
    sent: int | None = HERE
    confirmed: int = HERE
    proven: bool = False


CASES = (
    Case("the only candidate, and later records were confirmed", proven=True),
    Case(
        "beside transactions without an xid, or with one from the bound on", (HOLDER, LATER, WITHOUT_XID), proven=True
    ),
    Case("a consumer that reads by a function has decoded what it confirms", sent=None, proven=True),
    Case("nobody is open", ()),
    Case("another session could be the cause", (HOLDER, SECOND)),
    Case("a prepared transaction could be the cause", (HOLDER, PREPARED)),
    Case("the later records have not been confirmed", confirmed=HERE - 20_001),
    Case("the consumer confirms more than was decoded for it", sent=HERE - 20_001),
    Case("no later record was asked for", records=(FORCED_FIRST,)),
    Case("of the later records only one is known", records=(FORCED_FIRST, FORCED_AGAIN._replace(after=math.inf))),
    Case("the other candidate ended after the later records had been logged", samples=(AT_BOUND, LAST)),
    Case("the records were logged while the snapshot was taken", samples=(AT_BOUND, sample(8.1, 500), LAST)),
    Case("earlier transactions are not known", samples=(AT_BOUND, ALONE._replace(oldest_xid=0, second_xid=0), LAST)),
    Case("the second oldest is not known", samples=(AT_BOUND, ALONE._replace(second_xid=0), LAST)),
    Case("the holder was not open when the other one ended", samples=(AT_BOUND, sample(10, 560, 570), LAST)),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_only_proof_makes_the_only_candidate_the_holder(case: Case) -> None:
    shown = pinned(
        *case.transactions,
        samples=case.samples,
        records=case.records,
        sent_position=case.sent,
        confirmed_position=case.confirmed,
    )
    assert shown is not None
    assert shown.proven is case.proven
    assert shown.certain


def test_bound_is_the_next_xid_after_a_record_that_follows_the_slots_own_was_certainly_logged() -> None:
    shown = pinned(HOLDER)
    assert shown is not None
    assert (shown.bound, shown.awaited) == (BOUND, FORCED_AGAIN.end)


def test_record_that_restart_lsn_stands_at_sets_no_bound() -> None:
    own = LoggedRecords(NOW - 301, NOW - 300, RECORD, RECORD + 56)
    shown = pinned(HOLDER, records=(own, *RECORDS))
    assert shown is not None
    assert shown.bound == BOUND


def test_snapshot_that_had_begun_before_the_record_was_logged_sets_no_bound() -> None:
    shown = pinned(HOLDER, samples=(sample(49.95, 500, next_xid=400), *SAMPLES))
    assert shown is not None
    assert shown.bound == BOUND


def test_candidates_are_shown_oldest_first_and_a_transaction_in_its_preparation_once() -> None:
    prepared_meanwhile = replace(PREPARED, xid=SECOND.xid, xid_age=SECOND.xid_age)
    shown = pinned(SECOND, HOLDER, prepared_meanwhile, PREPARED)
    assert shown is not None
    assert [transaction.xid for transaction in shown.candidates] == [480, 500, 510]


def test_slot_that_moved_within_the_snapshot_is_pinned_by_nobody() -> None:
    shown = pinned(HOLDER, restart_position=RECORD + 1)
    assert shown is not None
    assert not shown.proven


def test_without_known_records_the_usual_time_between_two_counts_and_it_is_not_certain() -> None:
    taken = (sample(400, 500), sample(300, 500), sample(250, 500), sample(180, 500), LAST)
    samples = tuple(entry._replace(position=HERE - 5 * SEGMENT - int((NOW - entry.at) * 1_000)) for entry in taken)
    shown = pinned(HOLDER, samples=samples, records=())
    assert shown is not None
    assert shown.proven
    assert not shown.certain
    waiting = pinned(HOLDER, samples=samples[:3], records=())
    assert waiting is not None
    assert (waiting.awaited, waiting.proven) == (None, False)


def test_unknown_transactions_and_unknown_history_show_nothing() -> None:
    slot = SLOT._replace(**CONFIRMED)
    node = primary_with(slot, SLOT_HISTORY, (HOLDER,))
    assert pinning(slot, replace(node, transactions=None), cluster(node)) is None
    node = primary_with(slot, None, (HOLDER,))
    assert pinning(slot, node, cluster(node)) is None


def test_thinned_samples_keep_the_two_oldest_xids_of_those_they_replace() -> None:
    history = replace(primary_with(SLOT, None, ()).history, samples=())
    transactions = [(HOLDER, SECOND), (HOLDER,), (SECOND, HOLDER, LATER), (HOLDER,), (HOLDER,), (HOLDER,)]
    for at, opened in enumerate(transactions):
        history = extend_history(history, replace(FACTS, wal_written_bytes=1_000 + at), (), opened, float(at))
    shown = [(entry.oldest_xid, entry.second_xid) for entry in history.samples]
    assert shown == [(500, 510), (500, 510), (500, None)]


def test_as_many_records_are_kept_as_an_episode_needs() -> None:
    history = primary_with(SLOT, None, ()).history
    for at in range(100):
        history = add_records(history, FORCED_FIRST._replace(after=float(at)))
    assert [records.after for records in history.records] == [float(at) for at in range(80, 100)]
