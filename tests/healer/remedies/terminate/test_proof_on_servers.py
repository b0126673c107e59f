"""
Existing slots on real servers: a session that does not hold the slot survives, whatever its seniority.

Each story has two sessions. Only one pins the slot, and the diagnosis without a proof would name the other one.
"""

import asyncio
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from healer.remedies.terminate import schedule
from tests.support.blocking_transactions import (
    alive,
    cluster_with_termination,
    endangered_alert,
    holding,
    set_up_roles,
    termination_records,
)
from tests.support.running_healer import Healer, healing, impatient, until
from tests.support.servers.conditions import stopped_process
from tests.support.servers.postgres import Postgres
from tests.support.servers.stack import Stack
from tests.support.servers.workload import confirmed_all, streaming_consumer, write_wal

CONFIRM = 0.5
WRITES = "SELECT pg_catalog.pg_logical_emit_message(true, 'held', 'by this transaction')"


@pytest.fixture(autouse=True)
def _ready(databases: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up_roles(databases.primary)
    databases.primary.sql("CREATE UNLOGGED TABLE IF NOT EXISTS public.scratch (x int)")
    databases.primary.sql("GRANT ALL ON public.scratch TO billing")
    monkeypatch.setattr(schedule, "CONFIRM_SECONDS", CONFIRM)


async def records_until(primary: Postgres, condition: Callable[[], Any], seconds: float = 30.0) -> None:
    """Log running-xacts records as a busy server does, until the condition holds; fail if it does not."""
    async with asyncio.timeout(seconds):
        while True:
            await asyncio.to_thread(primary.sql, "SELECT pg_catalog.pg_log_standby_snapshot()")
            await asyncio.sleep(0.3)
            shown = condition()
            if await shown if asyncio.iscoroutine(shown) else shown:
                return


async def refused(healer: Healer, guard: str) -> float:
    labels = {"cluster": "c", "remedy": "end_transaction", "guard": guard}
    return await healer.value("pgslot_heal_refusals_total", **labels) or 0.0


async def timeline(healer: Healer) -> str:
    return "\n".join(entry["text"] for entry in (await healer.episodes())[0]["timeline"])


async def ask_until_ambiguous(primary: Postgres, healer: Healer) -> None:
    """Ask for the end of what pins the slot `kept`, until the healer refuses because several transactions may."""
    await until(confirmed_all(primary, "kept"), "the consumer has confirmed all")
    await healer.post(endangered_alert("kept"))
    await records_until(primary, lambda: refused(healer, "ambiguous"))


WITHOUT_WAL = {
    "an xid alone": "SELECT pg_catalog.pg_current_xact_id()",
    "an unlogged table": "INSERT INTO public.scratch VALUES (1)",
    "a temporary table": "INSERT INTO scratch_of_session VALUES (1)",
}


@pytest.mark.parametrize("statement", WITHOUT_WAL.values(), ids=WITHOUT_WAL.keys())
async def test_older_session_that_wrote_no_wal_survives_and_people_get_all_candidates(
    databases: Stack, tmp_path: Path, statement: str
) -> None:
    primary = databases.primary
    with ExitStack() as stack:
        stack.enter_context(streaming_consumer(primary, "kept", tmp_path))
        innocent = stack.enter_context(holding(primary))
        innocent.rollback()
        innocent.execute("CREATE TEMP TABLE scratch_of_session (x int)")
        innocent.commit()
        innocent.execute(statement.encode())
        holder = stack.enter_context(holding(primary, user="somebody", application="other"))
        holder.execute(WRITES)
        stack.enter_context(impatient())
        async with healing(cluster_with_termination(databases)) as healer:
            write_wal(primary)
            await ask_until_ambiguous(primary, healer)
            shown = await timeline(healer)
            await healer.post(endangered_alert("kept", firing=False))
            await healer.ended()
        assert alive(primary, innocent.info.backend_pid)
        assert alive(primary, holder.info.backend_pid)
        for session in (innocent, holder):
            assert f"pid={session.info.backend_pid}" in shown
    assert termination_records(primary) == []


async def test_next_oldest_session_survives_when_the_holder_commits_by_itself(databases: Stack, tmp_path: Path) -> None:
    """The slot stands until the next record is confirmed: until then nothing shows that the younger one is innocent."""
    primary = databases.primary
    with ExitStack() as stack:
        stack.enter_context(streaming_consumer(primary, "kept", tmp_path))
        holder = stack.enter_context(holding(primary, user="somebody", application="other"))
        holder.execute(WRITES)
        write_wal(primary)
        primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
        younger = stack.enter_context(holding(primary))
        younger.execute(WRITES)
        stack.enter_context(impatient())
        async with healing(cluster_with_termination(databases)) as healer:
            await ask_until_ambiguous(primary, healer)
            holder.commit()
            episode = await healer.ended(30)
            assert alive(primary, younger.info.backend_pid)
    assert episode["outcome"] == "resolved_itself", episode
    assert termination_records(primary) == []


async def test_only_session_survives_that_began_after_the_holder_had_committed(
    databases: Stack, tmp_path: Path
) -> None:
    """It is the only candidate from the first snapshot on, and no record has been logged since the commit."""
    primary = databases.primary
    with databases.quiet(), ExitStack() as stack:
        consumer = stack.enter_context(streaming_consumer(primary, "kept", tmp_path))
        with holding(primary, user="somebody", application="other") as holder:
            holder.execute(WRITES)
            write_wal(primary)
            primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
            younger = stack.enter_context(holding(primary))
            younger.execute(WRITES)
            await until(confirmed_all(primary, "kept"), "the consumer has confirmed all")
            holder.commit()
        stack.enter_context(impatient())
        async with healing(cluster_with_termination(databases)) as healer:
            await healer.post(endangered_alert("kept"))
            episode = await healer.ended(30)
            assert alive(primary, younger.info.backend_pid)
        del consumer
    assert episode["outcome"] in ("resolved_itself", "refused"), episode
    assert termination_records(primary) == []


async def test_holder_that_becomes_the_only_candidate_is_ended_and_its_slot_moves(
    databases: Stack, tmp_path: Path
) -> None:
    primary = databases.primary
    with ExitStack() as stack:
        stack.enter_context(streaming_consumer(primary, "kept", tmp_path))
        innocent = stack.enter_context(holding(primary, user="somebody", application="other"))
        holder = stack.enter_context(holding(primary))
        holder.execute(WRITES)
        stack.enter_context(impatient())
        async with healing(cluster_with_termination(databases)) as healer:
            write_wal(primary)
            await ask_until_ambiguous(primary, healer)
            innocent.rollback()
            await records_until(primary, lambda: termination_records(primary))
            episode = await healer.ended(30)
        assert not alive(primary, holder.info.backend_pid)
        assert alive(primary, innocent.info.backend_pid)
    assert episode["outcome"] == "healed"


async def test_prepared_transaction_beside_the_session_makes_it_ambiguous(databases: Stack, tmp_path: Path) -> None:
    primary = databases.primary
    with ExitStack() as stack:
        stack.enter_context(streaming_consumer(primary, "kept", tmp_path))
        innocent = stack.enter_context(holding(primary))
        primary.sql_in_one_transaction(WRITES, "PREPARE TRANSACTION 'left'")
        stack.callback(primary.sql, "ROLLBACK PREPARED 'left'")
        stack.enter_context(impatient())
        async with healing(cluster_with_termination(databases)) as healer:
            write_wal(primary)
            await ask_until_ambiguous(primary, healer)
            assert "prepared gid=left" in await timeline(healer)
            await healer.post(endangered_alert("kept", firing=False))
            await healer.ended()
        assert alive(primary, innocent.info.backend_pid)
    assert termination_records(primary) == []


async def test_other_session_is_not_ended_when_the_holder_is_not_allowed(databases: Stack, tmp_path: Path) -> None:
    """The holder is active, so that the check is repeated, and commits by itself: nobody is ended, nothing claimed."""
    primary = databases.primary
    with ExitStack() as stack:
        stack.enter_context(streaming_consumer(primary, "kept", tmp_path))
        innocent = stack.enter_context(holding(primary))
        holder = stack.enter_context(holding(primary, user="somebody", application="other"))
        holder.execute(WRITES)
        holder.pgconn.send_query(b"SELECT pg_catalog.pg_sleep(6); COMMIT")
        stack.enter_context(impatient())
        async with healing(cluster_with_termination(databases)) as healer:
            write_wal(primary)
            await until(confirmed_all(primary, "kept"), "the consumer has confirmed all")
            await healer.post(endangered_alert("kept"))

            async def over() -> bool:
                return bool((await healer.episodes())[0]["outcome"])

            await records_until(primary, over)
            [episode] = await healer.episodes()
            healed = await healer.value(
                "pgslot_heal_episodes_total", cluster="c", remedy="end_transaction", outcome="healed"
            )
        assert alive(primary, innocent.info.backend_pid)
    assert (episode["outcome"], healed) == ("resolved_itself", 0)
    assert termination_records(primary) == []


async def test_oldest_session_survives_while_a_standby_has_not_replayed_the_end_of_the_one_it_waits_for(
    databases: Stack,
) -> None:
    """Replay hangs, with little lag: the creation waits for a transaction that has ended on the primary."""
    primary, standby = databases.primary, databases.standby
    with holding(primary, user="somebody", application="first") as first, standby.create_slot("copied") as creator:
        await asyncio.sleep(1.0)
        primary.sql("SELECT pg_catalog.pg_log_standby_snapshot()")
        await asyncio.sleep(1.0)
        with stopped_process(standby, "startup"):
            first.commit()
            with holding(primary) as oldest:
                async with healing(cluster_with_termination(databases)) as healer:
                    await healer.post(endangered_alert("copied", node="standby"))
                    await healer.until("it was checked", lambda shown: "may be ended" in str(shown[0]["timeline"]))
                    await asyncio.sleep(6 * CONFIRM)
                    await healer.post(endangered_alert("copied", node="standby", firing=False))
                    await healer.ended()
                assert alive(primary, oldest.info.backend_pid)
        await records_until(primary, lambda: creator.wait(0.1))
    assert termination_records(primary) == []
    databases.standby.drop_slot("copied")


async def test_where_no_record_can_be_forced_two_checkpoints_are_the_proof(tmp_path: Path) -> None:
    """On 14: a session that pins the slot is ended after two further checkpoints, and not before."""
    with Stack(major=14) as stack, ExitStack() as sessions:
        stack.start_databases()
        primary = stack.primary
        set_up_roles(primary)
        sessions.enter_context(streaming_consumer(primary, "kept", tmp_path))
        holder = sessions.enter_context(holding(primary))
        holder.execute(WRITES)
        sessions.enter_context(impatient())
        async with healing(cluster_with_termination(stack)) as healer:
            write_wal(primary)
            primary.sql("CHECKPOINT")
            await until(confirmed_all(primary, "kept"), "the consumer has confirmed all")
            await healer.post(endangered_alert("kept"))
            await healer.until("the session was checked", lambda shown: "may be ended" in str(shown[0]["timeline"]))
            await asyncio.sleep(4 * CONFIRM)
            assert alive(primary, holder.info.backend_pid), "nothing proves yet that it pins the slot"
            async with asyncio.timeout(30):
                while not termination_records(primary):
                    await asyncio.to_thread(primary.sql, "SELECT pg_catalog.pg_logical_emit_message(false, 'a', 'b')")
                    await asyncio.to_thread(primary.sql, "CHECKPOINT")
                    await asyncio.sleep(1.5)
            await records_by_checkpoints(primary, healer)
            episode = await healer.ended(30)
        assert not alive(primary, holder.info.backend_pid)
    assert episode["outcome"] == "healed", episode


async def records_by_checkpoints(primary: Postgres, healer: Healer) -> None:
    """Log records as checkpoints do, until the episode has ended."""
    async with asyncio.timeout(30):
        while not (await healer.episodes())[0]["outcome"]:
            await asyncio.to_thread(primary.sql, "CHECKPOINT")
            await asyncio.sleep(0.5)
