"""What is recorded of earlier snapshots, in bounded space."""

from dataclasses import replace

import pytest

from exporter.series import cluster_series
from pgslot.snapshot.history import EMPTY_HISTORY, MAX_SAMPLES, SEGMENT_BYTES, History, extend_history, record_seconds
from pgslot.snapshot.rows import Slot
from tests.support.builders.snapshots import FACTS, SLOT, TRANSACTION, cluster, node

primary = node("p", recovery=False)


def extended(before: History, now: float, position: int, *slots: Slot, xid: int | None = None) -> History:
    transactions = () if xid is None else (replace(TRANSACTION, xid=xid),)
    return extend_history(before, replace(FACTS, wal_written_bytes=position), slots, transactions, now)


@pytest.mark.parametrize("interval", [0.005, 1, 5, 15, 60])
def test_history_is_bounded_and_spans_the_whole_time(interval: float) -> None:
    history = EMPTY_HISTORY
    snapshots = 3_000
    for i in range(snapshots):
        history = extended(history, i * interval, i)
        assert len(history.samples) <= MAX_SAMPLES
    spans = history.samples[-1].at - history.samples[0].at
    assert spans == pytest.approx(snapshots * interval, rel=0.3)
    gaps = [b.at - a.at for a, b in zip(history.samples, history.samples[1:], strict=False)]
    ages = [history.at - sample.at for sample in history.samples[:-1]]
    assert all(gap <= 2 * max(3.0, interval, 0.25 * (age + interval)) for gap, age in zip(gaps, ages, strict=True))


def test_history_returns_positions_by_time_and_times_by_position() -> None:
    history = EMPTY_HISTORY
    for at in range(0, 600, 15):
        history = extended(history, at, at * 100)
    assert history.position_before(300.0) in range(24_000, 30_001)
    assert history.position_before(-1.0) is None
    assert (history.reached(30_000) or 0) in range(300, 380)
    assert history.reached(10**9) is None
    sample = history.last_before(30_000)
    assert sample is not None
    assert sample.at in range(240, 301)
    assert history.last_before(-1) is None
    sample = history.first_from(300)
    assert sample is not None
    assert sample.at in range(300, 380)
    assert history.first_from(600) is None


def test_transactions_of_dropped_samples_count_in_the_next_kept_sample() -> None:
    history = extended(EMPTY_HISTORY, 0, 0)
    for at in range(1, 100):
        history = extended(history, at, at, xid={50: 100, 51: 90}.get(at))
    held = [sample.at for sample in history.samples if sample.may_hold(101)]
    assert len(held) == 1
    assert 51 <= held[0] < 51 + 0.3 * 50 + 3
    assert not any(sample.may_hold(90) for sample in history.samples)


def test_older_xid_is_kept_across_wraparound() -> None:
    history = extended(EMPTY_HISTORY, 0, 0)
    for at, xid in ((1, 5), (2, 2**32 - 5), (3, 7)):
        history = extended(history, at, at, xid=xid)
    assert [sample.oldest_xid for sample in history.samples] == [None, 2**32 - 5]


def test_open_transactions_are_unknown_where_the_query_failed() -> None:
    history = extend_history(EMPTY_HISTORY, FACTS, (), None, 5.0)
    assert history.samples[-1].may_hold(3)
    history = extended(history, 6.0, 1001, xid=500)
    assert [sample.may_hold(3) for sample in history.samples] == [True, False]
    assert extend_history(history, replace(FACTS, wal_written_bytes=None), (), (), 9.0) is history


def test_history_starts_over_when_wal_goes_backwards() -> None:
    history = extended(EMPTY_HISTORY, 0, 5000, SLOT)
    history = extended(history, 15, 4999, SLOT)
    assert len(history.samples) == 1
    assert history.slots["s"].moved_here is False


def test_written_wal_does_not_decrease_when_it_is_rewound() -> None:
    """rate() would take a counter that falls for a reset, and all of the LSN for newly written."""
    history, counted = EMPTY_HISTORY, []
    for at, position in enumerate((5000, 6000, 5500, 5600, 100, 200)):
        history = extended(history, at, position)
        counted.append(position + history.rewound)
        facts = replace(FACTS, wal_written_bytes=position)
        series = cluster_series(cluster(replace(primary, facts=facts, history=history)))
        text = b"".join(part.lines() for part in series).decode()
        assert f'pgslot_wal_written_bytes_total{{cluster="c",node="p"}} {counted[-1]}\n' in text
    assert counted == [5000, 6000, 6000, 6100, 6100, 6200]


def test_history_starts_over_at_a_promotion() -> None:
    """No transaction was ever open there."""
    facts = replace(FACTS, in_recovery=True, wal_written_bytes=100, next_xid=None)
    history = extend_history(EMPTY_HISTORY, facts, (SLOT,), (), 0.0)
    history = extended(history, 15, 200, SLOT)
    assert len(history.samples) == 1
    assert history.slots["s"].seen == 15


def test_history_records_when_and_where_a_slot_was_pinned() -> None:
    pinned = SLOT._replace(restart_position=0, confirmed_position=2 * SEGMENT_BYTES)
    assert record_seconds(FACTS) == 30.0
    history = extended(EMPTY_HISTORY, 0, 100)
    history = extended(history, 30, 40_000_000, pinned)
    slot_history = history.slots["s"]
    assert (slot_history.seen, slot_history.pinned_since, slot_history.pinned_at) == (30, 30, 40_000_000)
    # A new slot: snapshots did not show it move to where its creation began.
    assert slot_history.moved_here is False
    history = extended(history, 60, 60_000_000, pinned)
    assert history.slots["s"][:5] == slot_history[:5]
    history = extended(history, 90, 80_000_000, pinned._replace(restart_position=1))
    slot_history = history.slots["s"]
    assert (slot_history.seen, slot_history.pinned_at, slot_history.moved_here) == (90, 80_000_000, True)
    history = extended(history, 100, 80_000_000, pinned._replace(restart_position=2, total_txns=0))
    # It has decoded less than before, so it was dropped and recreated.
    assert history.slots["s"].moved_here is False
    history = extended(history, 105, 80_000_000)
    assert history.slots == {}


def test_history_records_how_much_is_usually_pinned() -> None:
    """A long pin doubles it at most, so that the next one is noticed as well."""
    history, usual = EMPTY_HISTORY, []
    distances = (100, 100, 100, 90, 100, 5000, 100, 100)
    restart = 0
    for number, pinned in enumerate(distances):
        restart += 10_000
        for grown in (pinned // 2, pinned):
            slot = SLOT._replace(restart_position=restart, confirmed_position=restart + grown)
            history = extended(history, 15 * number + grown / 1000, restart + grown, slot)
        assert history.slots["s"].most_pinned == pinned
        usual.append(history.slots["s"].usual_pinned)
    # The first position may be that of the slot's creation.
    assert usual == [0, 0, 100, 100, 90, 100, 200, 175]


def test_history_records_whether_most_snapshots_show_the_session_decoding() -> None:
    history, levels = EMPTY_HISTORY, []
    for at, decoding in enumerate((True, True, False, True, True, True, None, None, None)):
        history = extended(history, at, 100, SLOT._replace(decoding=decoding))
        levels.append(history.slots["s"].decoding)
    assert levels == [1, 2, 1, 2, 3, 3, 2, 1, 0]


DELIVERIES = [
    ("nothing was ever sent", [(False, 0, None, 100)], False),
    ("streams, and it is not known of before", [(True, 5, 900, 100)], None),
    ("has confirmed all that was sent", [(True, 5, 900, 900)], False),
    ("then other databases write", [(True, 5, 900, 900), (True, 5, 2000, 900)], False),
    ("then it is given something", [(True, 5, 900, 900), (True, 6, 2000, 900)], True),
    ("which it confirms", [(True, 5, 900, 900), (True, 6, 2000, 900), (True, 6, 3000, 950)], False),
    ("of two it confirms one, or both", [(True, 5, 900, 900), (True, 7, 2000, 900), (True, 7, 3000, 950)], True),
    ("it goes away", [(True, 5, 900, 900), (True, 6, 2000, 900), (False, 6, None, 900)], False),
    ("the statistics are reset", [(True, 5, 900, 900), (True, 0, 2000, 900)], None),
    ("there are no statistics", [(True, None, 900, 900)], None),
]


@pytest.mark.parametrize(("snapshots", "outstanding"), [c[1:] for c in DELIVERIES], ids=[c[0] for c in DELIVERIES])
def test_history_shows_whether_anything_is_unconfirmed(
    snapshots: list[tuple[bool, int | None, int | None, int]], *, outstanding: bool | None
) -> None:
    history = EMPTY_HISTORY
    for at, (active, txns, sent, confirmed) in enumerate(snapshots):
        slot = SLOT._replace(active=active, total_txns=txns, sent_position=sent, confirmed_position=confirmed)
        history = extended(history, at, 10_000, slot)
    assert history.slots["s"].delivery.outstanding is outstanding


def test_only_logical_slots_that_reserve_wal_are_recorded() -> None:
    slots = (
        SLOT._replace(slot_name="physical", slot_type="physical", confirmed_position=None),
        SLOT._replace(slot_name="lost", restart_position=None),
        SLOT._replace(slot_name="new", confirmed_position=None, in_creation=True),
    )
    assert extended(EMPTY_HISTORY, 0, 1, *slots).slots == {}
