"""Neither a healthy slot nor a pinned one is called stalled: hours of a model of PostgreSQL's decoding, in seconds."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgslot.diagnosis.retention import Retention, RetentionCause
from tests.support.fakes.logical_decoding import Consumer, Open, Replica, Server, watch

pytestmark = pytest.mark.simulation

MEBIBYTE = 1024 * 1024
HOUR = 3600

rates = st.sampled_from([0.02, 0.075, 0.3, 1, 3, 10, 30, 100]).map(lambda mebibytes: int(mebibytes * MEBIBYTE))
looks = st.sampled_from([1, 5, 15, 30, 45, 60, 120])
phases = st.integers(0, 119)
first_looks = st.integers(1, 600)
streams: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict, confirms_each=st.sampled_from([1, 2, 5, 10, 30, 60]), lags=st.integers(0, 60), batch=st.just(value=False)
)
batches: st.SearchStrategy[dict[str, Any]] = st.builds(
    dict, confirms_each=st.sampled_from([1, 5, 20, 60, 240, 900]), batch=st.just(value=True)
)
consumers = st.one_of(streams, batches)
short_transactions = st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 5), st.integers(6, 14)), max_size=40).map(
    lambda made: [Open(start, start + writes, start + ends) for start, writes, ends in made]
)


times: st.SearchStrategy[dict[str, int]] = st.builds(dict, looks_each=looks, first_look=first_looks, phase=phases)
replicas: st.SearchStrategy[dict[str, Any]] = st.builds(
    lambda delay, starts, lasts: {"delay": delay, "paused": range(starts, starts + lasts)},
    st.sampled_from([0, 1, 10, 60, 300, 900]),
    st.integers(0, 1500),
    st.integers(0, 600),
)


def causes(seen: list[tuple[int, Retention]]) -> set[str]:
    return {str(retention.cause) for _, retention in seen}


@settings(max_examples=50, deadline=None)
@given(rate=rates, consumer=consumers, times=times, short=short_transactions)
def test_healthy_slot_is_neither_stalled_nor_pinned(
    rate: int, consumer: dict[str, Any], times: dict[str, int], short: list[Open]
) -> None:
    """Whatever the server writes, however the consumer confirms, and whenever the exporter starts and scrapes."""
    server = Server(rate, [replace(transaction) for transaction in short])
    seen = watch(Consumer(server, **consumer), 1800, **times)
    assert causes(seen) <= {"none", "unknown", "inactive", "consumer"}


@settings(max_examples=50, deadline=None)
@given(
    rate=rates,
    consumer=consumers,
    times=times,
    replays=st.none() | replicas,
    pins=st.builds(
        lambda starts, writes, lasts: Open(starts, starts + writes, starts + lasts),
        st.integers(0, 900),
        st.integers(0, 300),
        st.integers(301, 1500),
    ),
    others=short_transactions,
)
def test_slot_pinned_by_a_transaction_is_never_stalled(  # noqa: PLR0917
    rate: int,
    consumer: dict[str, Any],
    times: dict[str, int],
    replays: dict[str, Any] | None,
    pins: Open,
    others: list[Open],
) -> None:
    """Before, while and after it is open, on the primary or a standby; it may have begun long before it wrote."""
    server = Server(rate, [replace(pins), *(replace(transaction) for transaction in others)])
    replica = None if replays is None else Replica(server, **replays)
    seen = watch(Consumer(server, **consumer, replica=replica), 2700, **times)
    assert RetentionCause.STALLED not in causes(seen)
    blockers = [retention.blocker for _, retention in seen if retention.blocker is not None]
    assert all(blocker.pid == 0 for blocker in blockers)


@settings(max_examples=40, deadline=None)
@given(rate=rates, consumer=consumers, times=times, replays=replicas, short=short_transactions)
def test_late_or_paused_standby_makes_no_slot_stalled(
    rate: int, consumer: dict[str, Any], times: dict[str, int], replays: dict[str, Any], short: list[Open]
) -> None:
    """Records arrive by replay: there are none while nothing is replayed."""
    server = Server(rate, [replace(transaction) for transaction in short])
    seen = watch(Consumer(server, **consumer, replica=Replica(server, **replays)), 2700, **times)
    assert causes(seen) <= {"none", "unknown", "inactive", "consumer"}


@settings(max_examples=30, deadline=None)
@given(
    rate=rates.filter(lambda rate: rate >= MEBIBYTE),
    consumer=streams,
    looks_each=looks,
    first_look=st.integers(1, 480),
)
def test_transaction_that_pins_a_stream_is_named_in_time(
    rate: int, consumer: dict[str, Any], looks_each: int, first_look: int
) -> None:
    """Within the time that the consumer and its own lag take, and three minutes; and then for as long as it lasts."""
    # There also is one that only has an xid, and for longer: it holds nothing back. A look, within 120 s of the first,
    # shows it before the record at which restart_lsn then stands; without such a look nobody is named.
    server = Server(rate, [Open(600, 605, HOUR), Open(0, None, HOUR)])
    seen = watch(Consumer(server, **consumer), 1800, looks_each, first_look)
    late = consumer["confirms_each"] + consumer["lags"] + 2 * looks_each
    # Until less is unconfirmed than pinned, what is unconfirmed decides the cause. And while samples that the proof
    # rests on are thinned out, it may have to wait for a later confirmation.
    settled = [retention for at, retention in seen if at >= 605 + 180 + 90 + 2 * late]
    assert {(str(retention.cause), retention.blocker and retention.blocker.pid) for retention in settled} == {
        ("transaction", 0)
    }


@settings(max_examples=15, deadline=None)
@given(rate=rates.filter(lambda rate: rate >= MEBIBYTE), looks_each=looks, interval=st.sampled_from([60, 240, 600]))
def test_transaction_that_pins_a_batch_is_named_after_the_second_read(
    rate: int, looks_each: int, interval: int
) -> None:
    server = Server(rate, [Open(600, 605, 2 * HOUR)])
    seen = watch(Consumer(server, confirms_each=interval, batch=True), HOUR, looks_each)
    began = 605 + 3 * interval + 2 * looks_each + 60
    settled = [retention for at, retention in seen if at >= began and at % interval < interval / 2]
    assert {str(retention.cause) for retention in settled} <= {"transaction", "inactive"}
    assert str(settled[-1].cause) == "transaction"


@settings(max_examples=30, deadline=None)
@given(
    rate=rates.filter(lambda rate: rate >= MEBIBYTE), consumer=consumers, looks_each=looks, others=short_transactions
)
def test_slot_without_records_is_stalled(
    rate: int, consumer: dict[str, Any], looks_each: int, others: list[Open]
) -> None:
    """Once its consumer has confirmed, or read, what came after; not before, and not while a transaction is open."""
    server = Server(rate, others, last_record=1800)
    seen = watch(Consumer(server, **consumer), 2 * HOUR, looks_each)
    early = {str(retention.cause) for at, retention in seen if at <= 1800}
    assert early <= {"none", "unknown", "inactive", "consumer"}
    assert str(seen[-1][1].cause) == "stalled"


def test_slot_stalls_on_a_server_that_has_gone_quiet() -> None:
    """The last WAL is confirmed, and no record follows it."""
    server = Server(10 * MEBIBYTE, last_record=100, quiet_from=110)
    seen = watch(Consumer(server, confirms_each=10), 300, 5)
    assert str(seen[-1][1].cause) == "stalled"
    server = Server(10 * MEBIBYTE, quiet_from=110)
    seen = watch(Consumer(server, confirms_each=10), 300, 5)
    assert causes(seen) <= {"none", "unknown"}
    assert str(seen[-1][1].cause) == "none"
