"""
Faults during an episode: the slot becomes usable, the budget holds, and no session or lock is left behind.

A slot creation on the standby needs a record; a transaction that is open at first prolongs the episode.
"""

import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests
import yaml

from healer.episodes.deadlines import COLLECT_TIMEOUT
from pgslot.config.conninfo import Conninfo
from tests.support.hanging_creations import blocked_creation
from tests.support.running_healer import (
    QUICK,
    alert,
    has_called,
    healing,
    nothing_left_behind,
    to_primary,
    until,
    usable,
    watched,
)
from tests.support.servers.postgres import Postgres
from tests.support.servers.processes import free_port, wait_for
from tests.support.servers.programs import Program
from tests.support.servers.proxy import Fault, Proxy
from tests.support.servers.stack import EXPORTER_ROLE, HEALER_ROLE, Stack
from tests.support.servers.wal import RUNNING_XACTS

pytestmark = pytest.mark.e2e

Episodes = list[dict[str, Any]]


def unobserved(episodes: Episodes) -> bool:
    return "unobserved" in episodes[0]["timeline"][-1]["text"]


def failed_or_noticed(episodes: Episodes) -> bool:
    return _not_called(episodes[0]) is not None or "wal_receiver_down" in episodes[0]["reasons"]


@pytest.fixture
def stack() -> Iterator[Stack]:
    """Servers of the test's own, which it may stop and kill."""
    with Stack() as own:
        own.start_databases()
        yield own


FAULTS = [Fault.REFUSED, Fault.HUNG, Fault.RESET]


@pytest.mark.parametrize("fault", FAULTS)
async def test_creation_is_healed_after_a_fault_on_the_way_to_the_primary(databases: Stack, fault: Fault) -> None:
    slot = f"primary_{fault}"
    with Proxy(databases.primary.port) as proxy, blocked_creation(databases, slot) as (holder, creator):
        conninfo = f"host=127.0.0.1 port={proxy.port} dbname=postgres user={HEALER_ROLE}"
        async with healing(watched(databases, conninfo=conninfo)) as healer:
            await healer.post(alert(slot))
            await healer.until("it has called", has_called)
            proxy.set(fault)
            failed = await healer.until("it reports the failure", lambda episodes: _not_called(episodes[0]))
            holder.commit()
            proxy.set(Fault.NONE)
            episode = await healer.ended()
            assert creator.wait(5)
            calls = await healer.value("pgslot_heal_calls_total", cluster="c", result="ok")
    assert failed
    assert episode["outcome"] == "healed"
    assert calls == episode["calls"] <= QUICK.calls_per_episode
    await until(lambda: nothing_left_behind(databases.primary, databases.standby), "nothing is left behind")


@pytest.mark.parametrize("fault", FAULTS)
async def test_no_call_is_made_without_a_snapshot_of_the_standby(databases: Stack, fault: Fault) -> None:
    """A snapshot that hangs ends after COLLECT_TIMEOUT."""
    slot = f"standby_{fault}"
    cluster = watched(databases)
    with Proxy(databases.standby.port) as proxy, blocked_creation(databases, slot) as (holder, creator):
        through = Conninfo(f"host=127.0.0.1 port={proxy.port} dbname=postgres user={EXPORTER_ROLE}")
        nodes = tuple(replace(node, conninfo=through) if node.name == "standby" else node for node in cluster.nodes)
        async with healing(replace(cluster, nodes=nodes)) as healer:
            await healer.post(alert(slot))
            await healer.until("it has called", has_called)
            proxy.set(fault)
            await healer.until("its node is unobserved", unobserved, 3 * COLLECT_TIMEOUT)
            calls = (await healer.episodes())[0]["calls"]
            holder.commit()
            assert (await healer.episodes())[0]["calls"] == calls
            proxy.set(Fault.NONE)
            episode = await healer.ended()
            assert creator.wait(5)
    assert episode["outcome"] in ("healed", "resolved_itself")
    assert usable(databases.standby, slot)
    await until(lambda: nothing_left_behind(databases.primary, databases.standby), "nothing is left behind")


def _not_called(episode: dict[str, Any]) -> str | None:
    return next((line["text"] for line in episode["timeline"] if line["text"].startswith("not called: ")), None)


async def test_slot_is_usable_after_a_crash_of_the_primary(stack: Stack) -> None:
    with blocked_creation(stack, "killed") as (_, creator):
        async with healing(watched(stack)) as healer:
            await healer.post(alert("killed"))
            await healer.until("it has called", has_called)
            stack.primary.kill()
            await healer.until("it notices", failed_or_noticed)
            stack.primary.start()
            # As a client that comes back. The holder's xid was in no WAL record: it is assigned again, and until then
            # the standby waits for its end.
            stack.primary.sql("CREATE TABLE after_the_crash ()")
            episode = await healer.ended(60)
            assert creator.wait(30)
    assert episode["outcome"] in ("healed", "resolved_itself")
    assert usable(stack.standby, "killed")
    await until(lambda: nothing_left_behind(stack.primary, stack.standby), "nothing is left behind")


async def test_slot_is_usable_after_a_restart_of_the_primary(stack: Stack) -> None:
    with blocked_creation(stack, "stopped") as (_, creator):
        async with healing(watched(stack)) as healer:
            await healer.post(alert("stopped"))
            await healer.until("it has called", has_called)
            stack.primary.resume_all()
            stack.primary.restart()
            episode = await healer.ended(60)
            assert creator.wait(30)
    assert episode["outcome"] in ("healed", "resolved_itself")
    assert usable(stack.standby, "stopped")


async def test_slot_is_usable_after_the_primary_hung(databases: Stack) -> None:
    with blocked_creation(databases, "hangs") as (holder, creator):
        async with healing(watched(databases)) as healer:
            await healer.post(alert("hangs"))
            await healer.until("it has called", has_called)
            databases.primary.pause_all()
            try:
                await healer.until("it notices", lambda episodes: _not_called(episodes[0]), 60)
            finally:
                databases.primary.resume_all()
            holder.commit()
            episode = await healer.ended(60)
            assert creator.wait(30)
    assert episode["outcome"] in ("healed", "resolved_itself")
    await until(lambda: nothing_left_behind(databases.primary, databases.standby), "nothing is left behind")


async def test_repeated_creation_is_healed_after_a_restart_of_the_standby(stack: Stack) -> None:
    """The creation ends with its server; its consumer creates the slot again, and the next alert is about that."""
    with stack.quiet():
        async with healing(watched(stack)) as healer:
            with stack.primary.hold_transaction(), stack.standby.create_slot("again"):
                await healer.post(alert("again"))
                await healer.until("it has called", has_called)
                stack.standby.restart()
                episode = await healer.ended(60)
                assert episode["outcome"] == "resolved_itself"
            with stack.standby.create_slot("again") as creator:
                await healer.post(alert("again"))
                episode = await healer.ended(60)
                assert creator.wait(10)
    assert episode["outcome"] == "healed"


async def test_episode_ends_well_after_a_promotion(stack: Stack) -> None:
    """The slot is then on the primary, which logs records itself: the healer goes on with the new primary."""
    with blocked_creation(stack, "promoted") as (_, creator):
        async with healing(watched(stack)) as healer:
            await healer.post(alert("promoted"))
            await healer.until("it has called", has_called)
            stack.primary.kill()
            stack.standby.promote()
            episode = await healer.ended(60)
            creator.wait(30)
    assert episode["outcome"] in ("healed", "resolved_itself")
    with stack.standby.create_slot("after") as creator:
        assert creator.wait(30)
    await until(lambda: nothing_left_behind(stack.standby), "nothing is left behind")


def start(program: Program) -> None:
    program.process.start()
    wait_for(lambda: _listens(program), "it listens", log=program.process.log)


def _listens(program: Program) -> bool:
    try:
        return program.get("/-/healthy").status_code == 200
    except requests.RequestException:
        return False


def test_slot_is_usable_after_the_healer_was_killed_at_random_points(databases: Stack, tmp_path: Path) -> None:
    """Alertmanager sends the alert again, here right after every start."""
    servers = (databases.primary, databases.standby)
    nodes = {server.name: {"conninfo": server.conninfo(EXPORTER_ROLE)} for server in servers}
    config = {
        "clusters": {"c": {"nodes": nodes, "healer": {"conninfo": to_primary(*servers)}}},
        "healer": {"burst_interval": "100ms", "interval": "500ms"},
    }
    (tmp_path / "pgslot.yml").write_text(yaml.safe_dump(config))
    body = {"version": "4", "alerts": [alert("random")]}
    chance = random.Random(20261123)
    with blocked_creation(databases, "random") as (holder, creator):
        before = databases.primary.lsn()
        for _ in range(8):
            healer = Program("pg-slot-healer", tmp_path / "pgslot.yml", tmp_path, port=free_port())
            start(healer)
            try:
                assert requests.post(f"{healer.url}/alerts", json=body, timeout=10).status_code == 200
                # Not a wait for something: where in the episode it is killed is what the test varies.
                time.sleep(chance.uniform(0.0, 0.6))
            finally:
                healer.process.kill()
            wait_for(lambda: nothing_left_behind(*servers), "its sessions and its lock are gone")
        holder.commit()
        last = Program("pg-slot-healer", tmp_path / "pgslot.yml", tmp_path, port=free_port())
        start(last)
        try:
            requests.post(f"{last.url}/alerts", json=body, timeout=10)
            assert creator.wait(30)
            wait_for(lambda: last.get_json("/episodes")[0]["outcome"], "the episode has ended")
        finally:
            last.stop()
        records = _records_since(databases.primary, before)
    assert usable(databases.standby, "random")
    # A process that lives for 0.6 s makes at most a burst of 5 calls and one more.
    assert records <= 9 * 6
    wait_for(lambda: nothing_left_behind(*servers), "nothing is left behind")


def _records_since(server: Postgres, lsn: int) -> int:
    return server.kinds_since(lsn).count(RUNNING_XACTS)


def test_proxy_passes_refuses_and_resets(databases: Stack) -> None:
    """The tests above rely on it."""
    with Proxy(databases.primary.port) as proxy:

        def ask() -> str:
            try:
                with psycopg.connect(f"host=127.0.0.1 port={proxy.port} user=postgres connect_timeout=2") as connection:
                    connection.execute("SELECT 1")
            except psycopg.OperationalError as error:
                return str(error)
            return "answered"

        assert ask() == "answered"
        proxy.set(Fault.REFUSED)
        assert "refused" in ask()
        proxy.set(Fault.RESET)
        assert ask() != "answered"
        proxy.set(Fault.HUNG)
        assert "timeout" in ask()
        proxy.set(Fault.NONE)
        assert ask() == "answered"
