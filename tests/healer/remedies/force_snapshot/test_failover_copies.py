"""Standbys' copies of failover slots: their state in a snapshot, and their heal on real servers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from healer.remedies.attempt import Wait
from healer.remedies.base import EpisodeProgress
from healer.remedies.force_snapshot.need import slots_in_need
from healer.remedies.force_snapshot.progress import RecordProgress
from healer.remedies.force_snapshot.schedule import RETAINED_SECONDS, apply_timeouts, next_step
from healer.remedies.progress import Outcome
from healer.remedies.slot_state import SlotCondition, SlotKey, SlotState, evaluate
from pgslot.config.model import HealerSettings
from pgslot.diagnosis.failover_readiness import FIRST_MAJOR, NotReadyReason
from pgslot.snapshot.model import NodeSnapshot
from pgslot.snapshot.queries import SUPPORTED
from pgslot.snapshot.rows import Slot, Transaction
from tests.support.builders.slot_states import R, temporary, without_copy
from tests.support.builders.snapshots import SLOT, STANDBY, TRANSACTION, cluster, node
from tests.support.failover_slots import (
    advance_horizon,
    copied,
    create_failover_slot,
    drop_failover_slots,
    persistent,
    read_all,
    synchronising,
)
from tests.support.running_healer import Healer, alert, has_called, healing, until, watched
from tests.support.servers.conditions import changed_setting
from tests.support.servers.postgres import Postgres
from tests.support.servers.stack import Stack
from tests.support.servers.workload import streaming_consumer

pytestmark = pytest.mark.timeout(240)

ORIGINAL = SLOT._replace(slot_name="f", failover=True)
COPY = SLOT._replace(slot_name="f", failover=True, synced=True, active=False)
TEMPORARY = COPY._replace(
    temporary=True, active=True, confirmed_position=None, in_creation=True, catalog_xmin=TRANSACTION.xid
)
SYNCHRONISES = replace(STANDBY, sync_replication_slots=True, slotsync_worker_running=True)
KEY = SlotKey("s", "f")
YOUNG = replace(TRANSACTION, age_seconds=1.0)
OLDER = replace(YOUNG, xid=(TRANSACTION.xid or 0) - 1)


def primary(*slots: Slot, transactions: tuple[Transaction, ...] = ()) -> NodeSnapshot:
    return node("p", recovery=False, slots=slots, transactions=transactions)


def standby(*slots: Slot, **more: Any) -> NodeSnapshot:
    return node("s", recovery=True, slots=slots, **({"standby": SYNCHRONISES} | more))


Condition = tuple[SlotCondition, str | None]
"""A condition and its reason."""

STATES: dict[str, tuple[tuple[NodeSnapshot, ...], Condition]] = {
    "temporary": ((primary(ORIGINAL), standby(TEMPORARY)), (SlotCondition.NOT_PERSISTED, "not_persisted")),
    "temporary, its consumer is inactive": (
        (primary(ORIGINAL._replace(active=False)), standby(TEMPORARY)),
        (SlotCondition.NOT_PERSISTED, "inactive"),
    ),
    "temporary, and a transaction blocks it": (
        (primary(ORIGINAL, transactions=(TRANSACTION,)), standby(TEMPORARY)),
        (SlotCondition.NOT_PERSISTED, "transaction"),
    ),
    "temporary, with a short transaction": (
        (primary(ORIGINAL, transactions=(YOUNG,)), standby(TEMPORARY)),
        (SlotCondition.NOT_PERSISTED, "not_persisted"),
    ),
    "temporary, a transaction that began before it": (
        (primary(ORIGINAL, transactions=(OLDER,)), standby(TEMPORARY)),
        (SlotCondition.NOT_PERSISTED, "transaction"),
    ),
    "temporary, replay is paused": (
        (primary(ORIGINAL), standby(TEMPORARY, standby=replace(SYNCHRONISES, replay_pause_state="paused"))),
        (SlotCondition.NOT_PERSISTED, "replay_paused"),
    ),
    "persistent": ((primary(ORIGINAL), standby(COPY)), (SlotCondition.USABLE, None)),
    "invalidated": (
        (primary(ORIGINAL), standby(COPY._replace(invalidation_reason="rows_removed"))),
        (SlotCondition.LOST, None),
    ),
    "not copied": ((primary(ORIGINAL), standby()), (SlotCondition.UNREADY, "not_synced")),
    "no worker": (
        (primary(ORIGINAL), standby(standby=replace(SYNCHRONISES, slotsync_worker_running=False))),
        (SlotCondition.UNREADY, "worker_down"),
    ),
    "a slot of its own": (
        (primary(ORIGINAL), standby(COPY._replace(synced=False, active=True))),
        (SlotCondition.USABLE, None),
    ),
    "the standby is not to synchronise": ((primary(ORIGINAL), standby(standby=STANDBY)), (SlotCondition.DROPPED, None)),
    "no failover slot": ((primary(), standby()), (SlotCondition.DROPPED, None)),
    "no copy, and the primary is not known": ((standby(),), (SlotCondition.UNOBSERVED, None)),
    "no copy, and there are two primaries": (
        (primary(ORIGINAL), primary(ORIGINAL), standby()),
        (SlotCondition.UNOBSERVED, None),
    ),
    "temporary, and the primary is not known": ((standby(TEMPORARY),), (SlotCondition.UNOBSERVED, None)),
    "temporary for want of a consistent point, and the primary is not known": (
        (standby(TEMPORARY._replace(confirmed_position=1060, in_creation=False)),),
        (SlotCondition.UNOBSERVED, None),
    ),
    "persistent, and the primary is not known": ((standby(COPY),), (SlotCondition.USABLE, None)),
    "no copy, no synchronisation, and the primary is not known": (
        (standby(standby=STANDBY),),
        (SlotCondition.DROPPED, None),
    ),
    "not observed in full": (
        (primary(ORIGINAL), standby(standby=None, creations=None)),
        (SlotCondition.UNOBSERVED, None),
    ),
}


@pytest.mark.parametrize(("nodes", "expected"), STATES.values(), ids=STATES.keys())
def test_state_of_a_copy_follows_from_the_snapshot(nodes: tuple[NodeSnapshot, ...], expected: Condition) -> None:
    state = evaluate(cluster(*nodes), [KEY])[KEY]
    assert (state.condition, state.reason) == expected


def test_persistent_copy_has_its_original() -> None:
    state = evaluate(cluster(primary(ORIGINAL), standby(COPY)), [KEY])[KEY]
    assert state.persisted
    assert state.original == ORIGINAL


def test_temporary_copy_is_in_need() -> None:
    assert slots_in_need(cluster(primary(ORIGINAL), standby(TEMPORARY))) == [KEY]


NOW, LATE, SETTINGS = EpisodeProgress(now=100.0), EpisodeProgress(now=3600.0), HealerSettings()
CALLED = RecordProgress(
    temporary(),
    initial_condition=SlotCondition.NOT_PERSISTED,
    attempts=1,
    calls=1,
    called_in_time=True,
    record=60_000_000,
    since=0.0,
)


def test_one_record_ahead_of_the_consumer_is_enough() -> None:
    assert next_step([CALLED], replace(NOW, last_attempt=10.0), SETTINGS) == Wait(1.0)
    ended = apply_timeouts(CALLED, LATE, SETTINGS)
    assert (ended.outcome, ended.why) == (Outcome.NO_EFFECT, "its consumer has not read since our call")


@pytest.mark.parametrize(
    ("state", "outcome", "why"),
    [
        (
            without_copy(NotReadyReason.WORKER_DOWN),
            Outcome.GAVE_UP,
            "there is no copy of it: worker_down, which no record helps",
        ),
        (temporary(obstacle=R.REPLAY_PAUSED), None, ""),
    ],
)
def test_copy_that_no_record_helps_is_given_up(state: SlotState, outcome: Outcome | None, why: str) -> None:
    held = NOW.now - RETAINED_SECONDS if state.condition is SlotCondition.UNREADY else None
    progress = apply_timeouts(RecordProgress(state, retained_since=held), NOW, SETTINGS)
    assert (progress.outcome, progress.why) == (outcome, why)


@pytest.fixture(scope="module", params=[major for major in SUPPORTED if major >= FIRST_MAJOR])
def databases(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """Replaces the session's fixture: a primary and its standby of each version in turn."""
    with Stack(major=request.param) as stack:
        stack.start_databases()
        yield stack


@pytest.fixture(autouse=True)
def _no_leftovers(request: pytest.FixtureRequest) -> Iterator[None]:
    """Replaces the fixture for the session's servers."""
    yield
    if "databases" in request.fixturenames:
        stack = request.getfixturevalue("databases")
        drop_failover_slots(stack.primary, stack.standby)


def not_persisted(slot: str) -> dict[str, Any]:
    temporary_copy = alert(slot)
    temporary_copy["labels"]["alertname"] = "PgSlotNotPersisted"
    return temporary_copy


@contextmanager
def left_behind(stack: Stack, slot: str) -> Iterator[None]:
    """Let the standby's horizon pass the slot's, on a primary that logs no record by itself; then synchronise."""
    primary, standby = stack.primary, stack.standby
    with primary.no_records_by_itself():
        for _ in range(3):
            primary.sql("INSERT INTO orders SELECT coalesce(max(id), 0) + 1, 'more' FROM orders")
        primary.wait_until_replayed(standby)
        with synchronising(standby):
            yield
            assert persistent(standby, slot)


async def heal(healer: Healer, stack: Stack, slot: str) -> None:
    await until(lambda: copied(stack.standby, slot), "it is copied")
    assert not persistent(stack.standby, slot)
    assert await healer.post(not_persisted(slot)) == (200, "started=1")


class ObservedQueries:
    """The healer's queries on a server, from now on."""

    def __init__(self, server: Postgres) -> None:
        self._server = server
        self._starts: set[Any] = set()

    def continued(self) -> bool:
        """Return whether there were several, a second apart: another call would have been made by then."""
        query = "SELECT query_start FROM pg_catalog.pg_stat_activity WHERE application_name = 'pg_slot_healer'"
        self._starts.update(self._server.sql(query))
        return len(self._starts) > 4


async def test_copy_is_healed_for_a_streaming_consumer(databases: Stack, tmp_path: Path) -> None:
    """The server logs no record by itself: one that the consumer confirms is enough."""
    with streaming_consumer(databases.primary, "streams", tmp_path, failover=True), left_behind(databases, "streams"):
        async with healing(watched(databases)) as healer:
            await heal(healer, databases, "streams")
            episode = await healer.ended(90)
    assert (episode["outcome"], episode["why"]) == ("healed", "persistent after our call")
    assert episode["reasons"] == ["not_persisted"]
    # The copy follows within the worker's nap, of up to 30 s.
    assert 1 <= episode["calls"] <= 35


async def test_copy_is_healed_by_the_next_read_of_a_batch_consumer(databases: Stack) -> None:
    primary, standby = databases.primary, databases.standby
    create_failover_slot(primary, "batch")
    with left_behind(databases, "batch"):
        async with healing(watched(databases)) as healer:
            await heal(healer, databases, "batch")
            await healer.until("it has called", has_called)
            [record] = (await healer.episodes())[0]["lsns"]
            written = "SELECT 1 WHERE pg_catalog.pg_current_wal_flush_lsn() >= %s::pg_lsn"
            await until(lambda: primary.sql(written, [record]), "the record is written out")
            await until(ObservedQueries(standby).continued, "it takes more snapshots")
            assert (await healer.episodes())[0]["calls"] == 1
            assert not persistent(standby, "batch")
            primary.sql("SELECT pg_catalog.pg_replication_slot_advance('batch', pg_catalog.pg_current_wal_lsn())")
            episode = await healer.ended(90)
    assert (episode["outcome"], episode["why"]) == ("healed", "persistent after our call")
    assert episode["reasons"] == ["inactive"]
    assert episode["calls"] <= 4


async def test_end_of_a_blocking_transaction_is_not_our_success(databases: Stack, tmp_path: Path) -> None:
    """The next record after the end of the transaction helps; calls before it do not count."""
    primary = databases.primary
    with (
        streaming_consumer(primary, "streams", tmp_path, failover=True),
        primary.hold_transaction("nightly") as transaction,
        left_behind(databases, "streams"),
    ):
        async with healing(watched(databases), settings=HealerSettings(interval=60)) as healer:
            await heal(healer, databases, "streams")
            await healer.until("it has called", has_called)
            assert (await healer.episodes())[0]["reasons"] == ["transaction"]
            transaction.commit()
            primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
            episode = await healer.ended(90)
    assert (episode["outcome"], episode["calls"]) == ("resolved_itself", 1)


async def test_absent_primary_gives_no_outcome(databases: Stack) -> None:
    """The copy ends with the worker, which ends with its connection: the slot still needs help."""
    primary, standby = databases.primary, databases.standby
    create_failover_slot(primary, "alone")
    advance_horizon(primary, standby)
    with synchronising(standby):
        async with healing(watched(databases)) as healer:
            await heal(healer, databases, "alone")
            await healer.until("it has called", has_called)
            primary.stop()
            try:
                await until(lambda: not copied(standby, "alone"), "its copy is gone", 60)
                await until(ObservedQueries(standby).continued, "it takes more snapshots")
                assert (await healer.episodes())[0]["outcome"] is None
            finally:
                primary.start()
            await until(lambda: copied(standby, "alone"), "it is copied again", 60)
            read_all(primary, "alone")
            episode = await healer.ended(90)
    assert episode["why"].startswith("persistent"), episode


async def test_copy_without_a_worker_is_given_up_without_a_call(databases: Stack) -> None:
    primary, standby = databases.primary, databases.standby
    create_failover_slot(primary, "alone")
    advance_horizon(primary, standby)
    with synchronising(standby):
        await until(lambda: copied(standby, "alone"), "it is copied")
        with changed_setting(standby, "hot_standby_feedback", "off"):
            async with healing(watched(databases)) as healer:
                await until(lambda: not copied(standby, "alone"), "its copy ends with the worker", 60)
                await healer.post(not_persisted("alone"))
                episode = await healer.ended(60)
    assert (episode["outcome"], episode["calls"]) == ("gave_up", 0)
    assert episode["why"] == "there is no copy of it: worker_down, which no record helps"
