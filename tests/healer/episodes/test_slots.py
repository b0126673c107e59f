"""Every slot has its own outcome, time limit and identity, on real servers."""

import asyncio
import time
from functools import partial
from typing import Any

import psycopg
from aiohttp.test_utils import TestClient, TestServer

from healer.app import EPISODES, application
from healer.remedies.force_snapshot.schedule import OBSERVE_INTERVAL
from pgslot.config.model import Config, HealerSettings
from pgslot.config.reload import ConfigReloader
from pgslot.postgres.types import parse_lsn
from tests.support.hanging_creations import blocked_creation, hanging_creation
from tests.support.running_healer import QUICK, Healer, alert, has_called, healing, impatient, until, usable, watched
from tests.support.servers.postgres import Postgres
from tests.support.servers.stack import Stack
from tests.support.servers.wal import RUNNING_XACTS
from tests.support.servers.workload import write_wal
from tests.support.stalled_slots import CREATE, read_all, stalled_alert, stalled_batch, until_called_for

CONFIRMED = "(SELECT confirmed_flush_lsn FROM pg_catalog.pg_replication_slots WHERE slot_name = '{}')"

Episodes = list[dict[str, Any]]


async def flushed(server: Postgres, healer: Healer) -> None:
    """Wait until the last record of ours is flushed, so that it can be read."""
    record = (await healer.episodes())[0]["lsns"][-1]
    reached = "SELECT 1 WHERE pg_catalog.pg_current_wal_flush_lsn() >= %s::pg_lsn"
    await until(lambda: server.sql(reached, [record]), "the record is flushed")


async def until_reason(healer: Healer, server: Postgres, slot: str, reason: str) -> None:
    """Let the slot's consumer read again and again until the healer reports this reason."""
    while reason not in (await healer.episodes())[0]["reasons"]:
        server.sql("SELECT pg_catalog.pg_logical_emit_message(true, 'read', 'again')")
        read_all(server, slot)
        await asyncio.sleep(OBSERVE_INTERVAL)


def is_flushed(server: Postgres, end: int) -> bool:
    return server.lsn("pg_catalog.pg_current_wal_flush_lsn()") >= end


def has_count(field: str, number: int, episodes: Episodes) -> bool:
    value = episodes[0][field]
    return bool((value if isinstance(value, int) else len(value)) == number)


def outcomes(episode: dict[str, Any]) -> dict[str, str]:
    return {heal["slot_name"]: heal["outcome"] for heal in episode["slots"]}


async def test_slot_moved_by_a_foreign_record_is_not_our_success(databases: Stack) -> None:
    """It was stalled, and another client forced the record before we could call."""
    primary = databases.primary
    with impatient(), primary.no_records_by_itself():
        stalled_batch(primary, "anyway")
        async with healing(watched(databases)) as healer:
            with psycopg.connect(primary.conninfo(), autocommit=True) as other_client:
                # The healer finds that it is stalled, and cannot call yet.
                other_client.execute("SELECT pg_catalog.pg_advisory_lock(x'7067736c6f74'::int8)")
                await healer.post(stalled_alert("anyway", "primary"))
                await until_reason(healer, primary, "anyway", "stalled")
                other_client.execute("SELECT pg_catalog.pg_log_standby_snapshot()")
                end = primary.lsn()
                await until(partial(is_flushed, primary, end), "the record is flushed")
                read_all(primary, "anyway")
                episode = await healer.ended()
            assert await healer.value("pgslot_heal_episodes_total", cluster="c", outcome="healed") == 0
    assert (episode["outcome"], episode["calls"]) == ("resolved_itself", 0)


async def test_no_call_is_made_after_a_record_of_the_server_itself(databases: Stack) -> None:
    """A batch consumer's next read moves it; until then it is inconclusive, and no call is made."""
    primary = databases.primary
    with primary.no_records_by_itself():
        stalled_batch(primary, "by_itself")
    confirmed = primary.lsn(CONFIRMED.format("by_itself"))
    primary.sql("SELECT pg_logical_emit_message(false, 'x', 'y')")
    await until(lambda: RUNNING_XACTS in primary.kinds_since(confirmed), "the server has logged a record by itself")
    async with healing(watched(databases)) as healer:
        await healer.post(stalled_alert("by_itself", "primary"))
        await healer.until("it has been observed", lambda episodes: episodes[0]["reasons"])
        read_all(primary, "by_itself")
        episode = await healer.ended()
    assert (episode["outcome"], episode["calls"]) == ("resolved_itself", 0)


async def test_recreated_slot_is_not_our_success(databases: Stack) -> None:
    primary = databases.primary
    with impatient(), primary.no_records_by_itself():
        stalled_batch(primary, "recreated")
        async with healing(watched(databases)) as healer:
            await healer.post(stalled_alert("recreated", "primary"))
            await until_called_for(healer, primary, "recreated")
            primary.sql("SELECT pg_catalog.pg_drop_replication_slot('recreated')")
            primary.sql(CREATE, ["recreated"])
            episode = await healer.ended()
    assert (episode["outcome"], episode["heal_seconds"]) == ("resolved_itself", None)


async def test_slot_held_by_a_transaction_is_given_up(databases: Stack) -> None:
    """The alert says stalled, but by now a transaction retains its WAL, and no record helps."""
    primary = databases.primary
    with impatient(), primary.no_records_by_itself():
        primary.sql(CREATE, ["held"])
        with psycopg.connect(primary.conninfo()) as holder:
            holder.execute("CREATE TABLE held_by (a int)")
            write_wal(primary)
            read_all(primary, "held")
            async with healing(watched(databases)) as healer:
                await healer.post(stalled_alert("held", "primary"))
                await until_reason(healer, primary, "held", "transaction")
                episode = await healer.ended()
                assert await healer.value("pgslot_heal_episodes_total", cluster="c", outcome="resolved_itself") == 0
            holder.rollback()
    assert (episode["outcome"], episode["calls"]) == ("gave_up", 0)
    assert episode["why"] == "not stalled: its WAL is kept by transaction, which no record helps"


async def test_healed_and_cancelled_slots_have_their_own_outcomes(databases: Stack) -> None:
    """The episode has the more severe outcome."""
    with hanging_creation(databases, "well") as creator:
        async with healing(watched(databases)) as healer:
            with databases.standby.create_slot("ends"):
                databases.standby.sql("SELECT pg_catalog.pg_wal_replay_pause()")
                try:
                    await healer.post(alert("well"), alert("ends"))
                    await healer.until("it waits", lambda episodes: episodes[0]["reasons"] == ["replay_paused"])
                    await healer.post(alert("ends", firing=False))
                    [episode] = await healer.until("one has ended", lambda episodes: episodes[0]["slots"] and episodes)
                    assert (outcomes(episode), episode["outcome"]) == ({"ends": "cancelled"}, None)
                finally:
                    databases.standby.sql("SELECT pg_catalog.pg_wal_replay_resume()")
                episode = await healer.ended()
                assert creator.wait(5)
            for outcome in ("healed", "cancelled"):
                assert await healer.value("pgslot_heal_episodes_total", cluster="c", outcome=outcome) == 1
    assert outcomes(episode) == {"ends": "cancelled", "well": "healed"}
    assert episode["outcome"] == "cancelled"


async def test_slot_that_joins_late_is_not_given_up_with_the_first(databases: Stack) -> None:
    """The first slot is given up in time, and the second is healed after that."""
    settings = HealerSettings(burst_interval=0.3, interval=1.0, give_up_after=5.0)
    standby = databases.standby
    with databases.quiet():
        async with healing(watched(databases), settings=settings) as healer:
            with databases.primary.hold_transaction() as holder, standby.create_slot("early"):
                await healer.post(alert("early"))
                started = time.monotonic()
                await until(lambda: time.monotonic() - started > 3.5, "most of its time is over")
                with standby.create_slot("late") as creator:
                    await healer.post(alert("late"))
                    [episode] = await healer.until(
                        "the first is given up", lambda episodes: episodes[0]["slots"] and episodes
                    )
                    assert outcomes(episode) == {"early": "gave_up"}
                    assert episode["outcome"] is None
                    holder.commit()
                    episode = await healer.ended()
                    assert creator.wait(5)
            assert await healer.value("pgslot_heal_episodes_total", cluster="c", outcome="healed") == 1
            assert await healer.value("pgslot_heal_episodes_total", cluster="c", outcome="gave_up") == 1
    assert outcomes(episode) == {"early": "gave_up", "late": "healed"}
    assert episode["outcome"] == "gave_up"
    assert "late: healed (usable after our call)" in episode["why"]


async def test_slot_that_stalls_again_is_reopened(databases: Stack) -> None:
    """Another slot keeps the episode running: the first is healed twice, and counted twice."""
    primary = databases.primary
    with impatient(), primary.no_records_by_itself():
        primary.sql(CREATE, ["again"])
        primary.sql(CREATE, ["other"])
        async with healing(watched(databases)) as healer:
            for times in (1, 2):
                write_wal(primary)
                read_all(primary, "again")
                if times == 1:
                    read_all(primary, "other")
                    await healer.post(stalled_alert("again", "primary"), stalled_alert("other", "primary"))
                await until_called_for(healer, primary, "again", calls=times)
                await flushed(primary, healer)
                read_all(primary, "again")
                await healer.until("it is healed", partial(has_count, "slots", times))
            [episode] = await healer.episodes()
            assert [(heal["slot_name"], heal["outcome"]) for heal in episode["slots"]] == [("again", "healed")] * 2
            assert episode["outcome"] is None
            assert await healer.value("pgslot_heal_episodes_total", cluster="c", outcome="healed") == 2


async def test_slot_moves_to_the_record_of_the_call(databases: Stack) -> None:
    """The proof of a heal: restart_lsn moves to the start of the record, within the range of the call."""
    primary = databases.primary
    with impatient(), primary.no_records_by_itself():
        stalled_batch(primary, "proof")
        async with healing(watched(databases)) as healer:
            await healer.post(stalled_alert("proof", "primary"))
            await until_called_for(healer, primary, "proof")
            await flushed(primary, healer)
            read_all(primary, "proof")
            episode = await healer.ended()
        moved = primary.lsn("(SELECT restart_lsn FROM pg_catalog.pg_replication_slots WHERE slot_name = 'proof')")
    assert (episode["outcome"], episode["why"]) == ("healed", "restart_lsn moved after our call")
    assert 0 < parse_lsn(episode["lsns"][0]) - moved <= 56 + 24


async def test_disabling_while_another_alert_joins_stops_all_calls(databases: Stack) -> None:
    """No more calls are made, and the gauge shows the reason `disabled`."""
    on = Config((watched(databases),), QUICK)
    off = Config((watched(databases, enabled=False, disabled_reason="CHG-7"),), QUICK)
    configuration = ConfigReloader(lambda: on, on)
    with blocked_creation(databases, "killed"):
        app = application(configuration)
        async with TestClient(TestServer(app)) as client:
            healer = Healer(client)
            await healer.post(alert("killed"))
            await healer.until("it has called", has_called)
            posted = asyncio.create_task(healer.post(alert("joins")))
            episodes = app[EPISODES]
            # The test is about exactly this moment.
            while not any(subject.slot_name == "joins" for subject in episodes.reports[0].subjects):  # noqa: ASYNC110
                await asyncio.sleep(0)
            configuration.apply(off)
            await posted
            episode = await healer.ended(5)
            assert (episode["outcome"], episode["why"]) == ("cancelled", "switched off: CHG-7")
            calls = await healer.value("pgslot_heal_calls_total", cluster="c", result="ok")
            await asyncio.sleep(1.5 * QUICK.interval)
            assert await healer.value("pgslot_heal_calls_total", cluster="c", result="ok") == calls
            reason = {"cluster": "c", "reason": "disabled"}
            assert await healer.value("pgslot_heal_capability_unavailable", **reason) == 1
    assert not usable(databases.standby, "killed")
