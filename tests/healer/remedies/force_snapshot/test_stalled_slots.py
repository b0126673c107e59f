"""Stalled slots, whose restart_lsn does not move although nothing holds it, healed on real servers."""

from pathlib import Path

from tests.support.running_healer import Healer, healing, impatient, until, watched
from tests.support.servers.stack import Stack
from tests.support.servers.workload import confirmed_all, streaming_consumer, write_wal
from tests.support.stalled_slots import read_all, stalled_alert, until_called_for

RESTART = "SELECT restart_lsn FROM pg_catalog.pg_replication_slots WHERE slot_name = %s"


async def heal(healer: Healer, slot: str, node: str = "primary") -> None:
    assert await healer.post(stalled_alert(slot, node)) == (200, "started=1")


async def test_stalled_slot_of_a_streaming_consumer_is_healed(databases: Stack, tmp_path: Path) -> None:
    primary = databases.primary
    with primary.no_records_by_itself(), streaming_consumer(primary, "streams", tmp_path):
        write_wal(primary)
        await until(confirmed_all(primary, "streams"), "the consumer has confirmed all")
        [(before,)] = primary.sql(RESTART, ["streams"])
        async with healing(watched(databases)) as healer:
            await heal(healer, "streams")
            # Only after half a minute it is certain that a record is missing.
            episode = await healer.ended(90)
        [(after,)] = primary.sql(RESTART, ["streams"])
    assert (episode["outcome"], episode["why"]) == ("healed", "restart_lsn moved after our call")
    assert episode["reasons"] == ["unknown", "stalled"]
    assert after != before
    assert 1 <= episode["calls"] <= 3


async def test_stalled_slot_of_a_batch_consumer_is_healed_by_its_next_read(databases: Stack) -> None:
    """The call does not move the slot, the consumer's next read does; until then one record is enough."""
    primary = databases.primary
    with impatient(), primary.no_records_by_itself():
        primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('batch', 'test_decoding')")
        write_wal(primary)
        read_all(primary, "batch")
        [(before,)] = primary.sql(RESTART, ["batch"])
        async with healing(watched(databases)) as healer:
            await heal(healer, "batch")
            # At first it is inconclusive whether it is about to move, and no call is made.
            await healer.until("it has been observed", lambda episodes: episodes[0]["reasons"] == ["inactive"])
            await until_called_for(healer, primary, "batch")
            assert primary.sql(RESTART, ["batch"]) == [(before,)]
            assert (await healer.episodes())[0]["outcome"] is None
            record = (await healer.episodes())[0]["lsns"][0]
            flushed = "SELECT 1 WHERE pg_catalog.pg_current_wal_flush_lsn() >= %s::pg_lsn"
            await until(lambda: primary.sql(flushed, [record]), "the record is flushed")
            read_all(primary, "batch")
            episode = await healer.ended()
    assert (episode["outcome"], episode["calls"]) == ("healed", 1)
    assert primary.sql(RESTART, ["batch"]) != [(before,)]


async def test_read_without_a_record_does_not_move_a_stalled_slot(databases: Stack) -> None:
    """The test above relies on it."""
    primary = databases.primary
    with primary.no_records_by_itself():
        primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('control', 'test_decoding')")
        write_wal(primary)
        read_all(primary, "control")
        before = primary.sql(RESTART, ["control"])
        read_all(primary, "control")
        assert primary.sql(RESTART, ["control"]) == before


async def test_stalled_slot_on_a_standby_is_healed(databases: Stack) -> None:
    primary, standby = databases.primary, databases.standby

    def read() -> None:
        primary.wait_until_replayed(standby)
        standby.sql("SELECT pg_catalog.pg_replication_slot_advance('away', pg_catalog.pg_last_wal_replay_lsn())")

    primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
    with standby.create_slot("away") as creator:
        while not creator.wait(0.5):
            primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
    standby.drop_slot("away")
    with impatient(), primary.no_records_by_itself():
        with standby.create_slot_by_function("away") as creator:
            while not creator.wait(0.5):
                primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
        write_wal(primary)
        await until(
            lambda: standby.sql(
                "SELECT 1 WHERE pg_catalog.pg_last_wal_replay_lsn() >= %s::pg_lsn",
                [primary.sql("SELECT pg_catalog.pg_current_wal_lsn()")[0][0]],
            ),
            "all is replayed",
        )
        standby.sql("SELECT pg_catalog.pg_replication_slot_advance('away', pg_catalog.pg_last_wal_replay_lsn())")
        [(before,)] = standby.sql(RESTART, ["away"])
        async with healing(watched(databases)) as healer:
            await heal(healer, "away", "standby")
            await healer.until("it has been observed", lambda episodes: episodes[0]["reasons"] == ["inactive"])
            await until_called_for(healer, primary, "away", read=read)
            record = (await healer.episodes())[0]["lsns"][0]
            await until(
                lambda: standby.sql("SELECT 1 WHERE pg_catalog.pg_last_wal_replay_lsn() >= %s::pg_lsn", [record]),
                "the record is replayed",
            )
            standby.sql("SELECT pg_catalog.pg_replication_slot_advance('away', pg_catalog.pg_last_wal_replay_lsn())")
            episode = await healer.ended()
        assert standby.sql(RESTART, ["away"]) != [(before,)]
    assert (episode["outcome"], episode["calls"]) == ("healed", 1)


async def test_slot_of_a_lagging_consumer_is_given_up_without_a_call(databases: Stack) -> None:
    primary = databases.primary
    primary.sql("SELECT pg_catalog.pg_create_logical_replication_slot('lags', 'test_decoding')")
    write_wal(primary)
    async with healing(watched(databases)) as healer:
        await heal(healer, "lags")
        episode = await healer.ended()
    assert (episode["outcome"], episode["calls"]) == ("gave_up", 0)
    assert episode["why"] == "not stalled: its WAL is kept by inactive, which no record helps"
