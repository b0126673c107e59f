"""Which of several transactions is named as the one that pins a slot: none, unless the snapshots show it."""

from dataclasses import dataclass, replace

import pytest

from pgslot.diagnosis.pinning import pinning
from pgslot.snapshot.history import OLDEST_XIDS, History, Sample
from pgslot.snapshot.queries import QUERIES
from pgslot.snapshot.rows import Transaction
from tests.support.builders.retention import HERE, NOW, PINNED, RECORD, SLOT_HISTORY, primary_with
from tests.support.builders.snapshots import SLOT, TRANSACTION, cluster

AT_RESTART, BOUND = 400, 580
"""The next xid shortly before restart_lsn's record, and half a minute after it."""
IDLER = replace(TRANSACTION, pid=1, application_name="innocent_etl", xid=390, xid_age=313)
"""Had an xid before restart_lsn moved to where it is, such as by a write into an unlogged table."""
WRITER = replace(TRANSACTION, pid=2, application_name="guilty", xid=500, xid_age=203)
SECOND = replace(TRANSACTION, pid=3, xid=510, xid_age=193)


def sample(age: float, position: int, *xids: int, next_xid: int | None = BOUND) -> Sample:
    first, second = (*xids, None, None)[:2]
    return Sample(NOW - age, position, first, next_xid, second, NOW - age - 0.1, xids)


BEFORE = sample(400, RECORD - 1000, 390, next_xid=AT_RESTART)
SAMPLES = (
    BEFORE,
    sample(390, RECORD + 1_000_000, 390, 500, next_xid=540),
    sample(350, RECORD + 2_000_000, 390, 500),
    sample(200, HERE - 2_000_000, 390, 500, next_xid=600),
    sample(0, HERE, 390, 500, next_xid=700),
)


@dataclass(frozen=True)
class Case:
    """What the snapshots showed, and who is named."""

    name: str
    named: Transaction | None = None
    transactions: tuple[Transaction, ...] = (IDLER, WRITER)
    samples: tuple[Sample, ...] = SAMPLES
    confirmed: int = HERE
    moved_here: bool = True


CASES = (
    Case("all but one had an xid before, and let restart_lsn move", WRITER),
    Case("the exporter was started since: nothing shows which", samples=SAMPLES[1:]),
    Case("restart_lsn was not seen to move to where it is", moved_here=False),
    Case("two got their xid since", transactions=(IDLER, WRITER, SECOND)),
    Case(
        "the second one has just ended",
        samples=(*SAMPLES[:2], *(_._replace(oldest_xids=(390, 500, 510)) for _ in SAMPLES[2:])),
    ),
    Case("later records are not confirmed yet", confirmed=HERE - 2_000_001),
    Case("no later record has been logged yet", samples=SAMPLES[:3]),
    Case(
        "more were open than snapshots show",
        samples=(BEFORE, *(_._replace(oldest_xids=(390, 391, 392, 393, 500)) for _ in SAMPLES[1:])),
    ),
    Case(
        "what was open is not known", samples=(BEFORE, *(_._replace(oldest_xid=0, oldest_xids=()) for _ in SAMPLES[1:]))
    ),
    Case(
        "one is left, and later records were confirmed: proof",
        WRITER,
        (WRITER,),
        tuple(_._replace(oldest_xid=500, second_xid=None) for _ in SAMPLES),
    ),
    Case("one is left, and its rival has just ended", None, (IDLER,)),
    Case("nobody is open", None, ()),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_transaction_is_named_only_with_evidence(case: Case) -> None:
    slot = SLOT._replace(
        **PINNED | {"restart_position": RECORD, "sent_position": HERE, "confirmed_position": case.confirmed}
    )
    slot_history = SLOT_HISTORY._replace(moved_here=case.moved_here)
    node = primary_with(slot, slot_history, case.transactions)
    node = replace(node, history=History(NOW, case.samples, slots={slot.slot_name: slot_history}))
    shown = pinning(slot, node, cluster(node))
    assert shown is not None
    assert shown.named == case.named


def test_as_many_xids_are_kept_as_a_snapshot_shows_for_certain() -> None:
    """It may show more, as prepared transactions are counted apart: but not fewer, while more are open."""
    [query] = [query for query in QUERIES if query.name == "transactions"]
    assert f"r.by_xid <= {OLDEST_XIDS}" in query.sql(18)
