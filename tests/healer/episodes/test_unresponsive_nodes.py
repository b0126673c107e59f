"""Episodes do not wait for hung nodes, other healers, foreign lock holders or terminated sessions."""

import asyncio
import itertools
import os
import resource
import time
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import psycopg

from healer.episodes.deadlines import COLLECT_TIMEOUT
from healer.episodes.partial_snapshot import PartialCollector
from pgslot.config.conninfo import Conninfo
from pgslot.config.model import Cluster, HealerSettings, Node
from tests.support.hanging_creations import blocked_creation, hanging_creation
from tests.support.running_healer import QUICK, alert, healing, impatient, until, usable, watched
from tests.support.servers.proxy import Fault, Proxy
from tests.support.servers.stack import EXPORTER_ROLE, Stack
from tests.support.stalled_slots import stalled_alert, stalled_batch, until_called_for


def with_third_node(stack: Stack, port: int) -> Cluster:
    """Return the stack's cluster with a third node, behind this port, that has none of the slots."""
    cluster = watched(stack)
    third = Conninfo(f"host=127.0.0.1 port={port} dbname=postgres user={EXPORTER_ROLE}")
    return replace(cluster, nodes=(*cluster.nodes, Node("c", "third", third)))


async def test_hung_node_does_not_delay_a_slot_on_another_node(databases: Stack) -> None:
    """The node accepts connections and never answers; a snapshot of it would take COLLECT_TIMEOUT."""
    with Proxy(databases.primary.port) as proxy:
        proxy.set(Fault.HUNG)
        with hanging_creation(databases, "beside") as creator:
            async with healing(with_third_node(databases, proxy.port)) as healer:
                started = time.monotonic()
                await healer.post(alert("beside"))
                episode = await healer.ended()
                assert creator.wait(5)
        took = time.monotonic() - started
    assert episode["outcome"] == "healed"
    # A creation younger than a second is not called for.
    assert took < COLLECT_TIMEOUT - 1


async def test_hung_node_does_not_delay_later_records(databases: Stack) -> None:
    """A transaction is open at first, so that the creation needs several records, with snapshots between them."""
    with Proxy(databases.primary.port) as proxy:
        proxy.set(Fault.HUNG)
        with blocked_creation(databases, "several") as (holder, creator):
            async with healing(with_third_node(databases, proxy.port)) as healer:
                await healer.post(alert("several"))
                await healer.until("it has called twice", lambda episodes: episodes[0]["calls"] >= 2)
                holder.commit()
                started = time.monotonic()
                assert await asyncio.to_thread(creator.wait, 10)
                took = time.monotonic() - started
                await healer.ended()
    assert took < 3.0


async def test_snapshot_waits_only_for_the_wanted_nodes_and_the_primary(databases: Stack) -> None:
    with Proxy(databases.primary.port) as proxy:
        proxy.set(Fault.HUNG)
        collector = PartialCollector(with_third_node(databases, proxy.port))
        try:
            for wanted, answering in (({"standby"}, {"standby", "primary"}), ({"primary"}, {"primary"})):
                started = time.monotonic()
                snapshot = await collector.collect(wanted)
                assert time.monotonic() - started < 1.0
                assert {node.node for node in snapshot.nodes} >= answering
                assert snapshot.primary is not None
            started = time.monotonic()
            [third] = [node for node in (await collector.collect({"third"})).nodes if node.node == "third"]
            assert not third.up
            # Once unresponsive, it is not waited for when there is another node to query.
            started = time.monotonic()
            snapshot = await collector.collect({"third", "standby"})
            assert time.monotonic() - started < 1.0
            assert snapshot.node("standby") is not None
            proxy.set(Fault.NONE)
            while (  # noqa: ASYNC110
                third_now := (await collector.collect({"third", "standby"})).node("third")
            ) is None or not third_now.up:
                await asyncio.sleep(0.05)
        finally:
            await collector.close()


async def test_healer_that_waits_for_a_consumer_does_not_block_another_healer(databases: Stack) -> None:
    """It has made its one call and goes on for an hour; another healer heals a creation at once."""
    primary = databases.primary
    with impatient(), primary.no_records_by_itself():
        stalled_batch(primary, "slow")
        async with healing(watched(databases), settings=HealerSettings()) as first:
            await first.post(stalled_alert("slow", "primary"))
            await until_called_for(first, primary, "slow")
            primary.wait_until_replayed(databases.standby)
            with databases.standby.create_slot("quick") as creator:
                started = time.monotonic()
                async with healing(watched(databases), settings=HealerSettings()) as second:
                    await second.post(alert("quick"))
                    episode = await second.ended()
                    assert creator.wait(5)
                took = time.monotonic() - started
                assert (await first.episodes())[0]["outcome"] is None
    assert episode["outcome"] == "healed"
    assert took < 6.0


async def test_outcome_names_a_foreign_lock_holder(databases: Stack) -> None:
    with psycopg.connect(databases.primary.conninfo(), autocommit=True, application_name="cron") as cron:
        cron.execute("SELECT pg_catalog.pg_advisory_lock(x'7067736c6f74'::int8)")
        with hanging_creation(databases, "locked"):
            async with healing(watched(databases), settings=replace(QUICK, give_up_after=3.0)) as healer:
                await healer.post(alert("locked"))
                episode = await healer.ended()
    assert (episode["outcome"], episode["calls"]) == ("gave_up", 0)
    assert "another client holds the healers' lock: pid=" in episode["why"]
    assert "application=cron" in episode["why"]


async def test_attempts_keep_their_interval_when_every_session_is_terminated(databases: Stack) -> None:
    """Every session of the healer is terminated at once: that counts as an attempt, and keeps its interval."""
    ending = True
    # A session takes a while to end, and may be terminated more than once.
    ended: set[tuple[Any, ...]] = set()

    async def terminate_sessions() -> None:
        statement = (
            "SELECT pid, backend_start FROM pg_catalog.pg_stat_activity"
            " WHERE application_name LIKE 'pg_slot_healer%' AND usename = 'pgslot_healer'"
            " AND pg_catalog.pg_terminate_backend(pid)"
        )
        async with await psycopg.AsyncConnection.connect(databases.primary.conninfo(), autocommit=True) as killer:
            while ending:
                ended.update(await (await killer.execute(statement)).fetchall())

    with hanging_creation(databases, "ended"):
        async with healing(watched(databases), settings=replace(QUICK, burst_interval=0.5)) as healer:
            await until(lambda: usable(databases.standby, "ended") is False, "it waits")
            killer = asyncio.create_task(terminate_sessions())
            await healer.post(alert("ended"))
            started = time.monotonic()
            await healer.until("it has failed three times", lambda episodes: len(failures(episodes[0])) >= 3)
            spent = time.monotonic() - started
            ending = False
            await killer
            failed = failures((await healer.episodes())[0])
            counted = await healer.value("pgslot_heal_calls_total", cluster="c", result="error") or 0.0
            counted += await healer.value("pgslot_heal_calls_total", cluster="c", result="unavailable") or 0.0
            assert counted >= len(failed) >= 3
    assert all(later - earlier >= 0.49 for earlier, later in itertools.pairwise(failed))
    # One session to connect, one to find the cause of the failure, and both again for the snapshot in between.
    assert len(ended) <= 5 * (spent / 0.5 + 2), f"{len(ended)} in {spent:.1f} s"


def failures(episode: dict[str, Any]) -> list[float]:
    return [line["seconds"] for line in episode["timeline"] if line["text"].startswith("not called: ")]


async def test_interval_of_days_is_accepted(databases: Stack) -> None:
    """--check accepts it; three such intervals are longer than the server's longest timeout."""
    settings = HealerSettings(interval=10 * 86400.0, give_up_after=30.0)
    with hanging_creation(databases, "days") as creator:
        async with healing(watched(databases), settings=settings) as healer:
            await healer.post(alert("days"))
            episode = await healer.ended()
            assert creator.wait(5)
    assert episode["outcome"] == "healed"


async def test_session_with_a_descriptor_above_1023_works(databases: Stack) -> None:
    """As with that many clients: the session to the primary has a higher descriptor than select() can handle."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard if hard != resource.RLIM_INFINITY else 8192, hard))
    try:
        with ExitStack() as held, databases.quiet(), databases.standby.create_slot("above") as creator:
            for _ in range(1100):
                held.callback(os.close, os.open(os.devnull, os.O_RDONLY))
            async with healing(watched(databases)) as healer:
                await healer.post(alert("above"))
                episode = await healer.ended()
                assert creator.wait(5)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert episode["outcome"] == "healed"
