"""What happens in a year: kinds of incidents, as often as users meet them, and how each one goes."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

from tests.simulations.year.servers import NATURAL_RECORD_EACH, Making, Reading, Servers
from tests.simulations.year.simulation import Simulation
from tests.support.fakes import logical_decoding

MEBIBYTE = 1024 * 1024
POLL_INTERVAL_SECONDS = 5.0
"""Seconds between two looks of whoever raises and ends alerts."""
PATIENCE = 3600.0
"""Seconds until a client gives up and goes."""

Incident = Callable[[Simulation, Servers, random.Random], Awaitable[None]]


async def idle_standby(world: Simulation, servers: Servers, chance: random.Random) -> None:
    """A standby's creation lacks a record, and the primary writes nothing."""
    await _creation(world, servers, chance, servers.standby)


async def busy_standby(world: Simulation, servers: Servers, chance: random.Random) -> None:
    """The same where the primary logs a record each 15 s."""
    servers.busy, servers.naturally = True, servers.clock() - chance.uniform(0, NATURAL_RECORD_EACH)
    await _creation(world, servers, chance, servers.standby)


async def standby_behind_transaction(world: Simulation, servers: Servers, chance: random.Random) -> None:
    """A transaction on the primary is in the way, for a minute or for an hour; then a record is missing."""
    servers.hold(chance.expovariate(1 / 240))
    await _creation(world, servers, chance, servers.standby)


async def standby_meets_transactions(world: Simulation, servers: Servers, chance: random.Random) -> None:
    """One transaction after the other begins and ends while it waits."""

    async def work() -> None:
        for _ in range(chance.randint(1, 8)):
            servers.hold(chance.expovariate(1 / 20))
            await asyncio.sleep(chance.expovariate(1 / 20))

    working = asyncio.create_task(work())
    await _creation(world, servers, chance, servers.standby)
    await working


async def primary_behind_transaction(world: Simulation, servers: Servers, chance: random.Random) -> None:
    """On a primary no record helps, and none is needed."""
    servers.hold(60 + chance.expovariate(1 / 300))
    await _creation(world, servers, chance, servers.primary, after=60.0)


async def stands_still(world: Simulation, servers: Servers, chance: random.Random) -> None:
    """Replay is paused, delayed, or cut off from its primary: a record would not arrive."""
    ways = (
        {"replay_pause_state": "paused"},
        {"receiver_running": False, "receiver_status": None},
        {"apply_delay_seconds": 900.0, "startup_wait_event": "RecoveryApplyDelay"},
    )
    way = chance.choice(ways)
    servers.stands, servers.stands_since = (lambda standby: replace(standby, **way)), servers.clock()

    async def go_on() -> None:
        await asyncio.sleep(chance.expovariate(1 / 200))
        servers.stands = None

    going = asyncio.create_task(go_on())
    await _creation(world, servers, chance, servers.standby)
    await going


async def stalled(world: Simulation, servers: Servers, chance: random.Random) -> None:
    """An existing slot holds back WAL, and no record is logged any more."""
    server = logical_decoding.Server(chance.choice((1, 4, 16)) * MEBIBYTE, last_record=60)
    consumer = logical_decoding.Consumer(server, confirms_each=chance.choice((1, 5, 10)))
    servers.reading = Reading("reads", servers.primary, servers.clock(), consumer)
    await asyncio.sleep(chance.uniform(150, 240))
    await _until_over(world, servers, "PgSlotStalled", servers.reading.node, "reads", delay=0.0)


async def cannot_act(world: Simulation, servers: Servers, chance: random.Random) -> None:
    """The function is missing or not granted, and nobody does anything about it."""
    if chance.random() < 0.5:
        servers.major = 15
    else:
        servers.may_execute = False
    await _creation(world, servers, chance, servers.standby)


async def failover(world: Simulation, servers: Servers, chance: random.Random) -> None:
    """The primary fails while a creation waits; what waited on the standby that is promoted is over with that."""
    old = servers.primary

    async def fail() -> None:
        await asyncio.sleep(chance.uniform(0, 20))
        servers.down.add(old)
        await asyncio.sleep(chance.uniform(5, 60))
        servers.primary = servers.standby
        servers.arriving.clear()
        servers.holders.clear()
        if servers.making is not None and servers.making.waits:
            servers.making.dropped = True
        await asyncio.sleep(chance.uniform(30, 300))
        servers.down.discard(old)
        if chance.random() < 0.5:
            servers.making = _begin(servers, servers.standby, "again", chance)

    failing = asyncio.create_task(fail())
    await _creation(world, servers, chance, servers.standby)
    await failing
    if servers.making is not None and servers.making.waits:
        await _until_over(world, servers, "PgSlotCreationWaiting", servers.making.node, "again", chance.uniform(2, 6))


async def unreachable(world: Simulation, servers: Servers, chance: random.Random) -> None:
    """The primary cannot be reached for a while."""
    servers.down.add(servers.primary)

    async def come_back() -> None:
        await asyncio.sleep(chance.uniform(5, 240))
        servers.down.clear()

    coming = asyncio.create_task(come_back())
    await _creation(world, servers, chance, servers.standby)
    await coming


async def gives_up(world: Simulation, servers: Servers, chance: random.Random) -> None:
    """The client goes away, behind a transaction that does not end; perhaps it comes again at once."""
    servers.hold(PATIENCE)

    async def drop() -> None:
        await asyncio.sleep(chance.uniform(5, 120))
        assert servers.making is not None
        servers.making.dropped = True
        if chance.random() < 0.5:
            servers.making = _begin(servers, servers.standby, servers.making.name, chance)
            await asyncio.sleep(chance.uniform(5, 60))
            servers.making.dropped = True

    dropping = asyncio.create_task(drop())
    await _creation(world, servers, chance, servers.standby)
    await dropping


async def switched_off(world: Simulation, servers: Servers, chance: random.Random) -> None:
    """Somebody throws the kill switch of the cluster, or silences the alert, while the healer is at it."""
    servers.hold(PATIENCE)
    silence = chance.random() < 0.5

    async def switch() -> None:
        await asyncio.sleep(chance.uniform(8, 60))
        if silence:
            world.silence(servers)
            # It is heard of when Alertmanager is asked next.
            await asyncio.sleep(6.0)
        else:
            world.switch(servers.name, on=False)
        servers.off_since = servers.clock()
        await asyncio.sleep(300.0)
        assert servers.making is not None
        servers.making.dropped = True

    switching = asyncio.create_task(switch())
    await _creation(world, servers, chance, servers.standby)
    await switching
    world.switch(servers.name, on=True)


async def false_alarm(world: Simulation, servers: Servers, chance: random.Random) -> None:
    """An alert about a slot that is well, that is not there, or whose name is that of another thing."""
    if chance.random() < 0.7:
        servers.making = _begin(servers, servers.primary, "well", chance)
    about = chance.choice(("well", "x"))
    fingerprint = world.post.fire(_labels(servers, "PgSlotCreationStuck", servers.standby, about))
    await asyncio.sleep(chance.uniform(10, 900))
    world.post.resolve(fingerprint)


KINDS: dict[Incident, float] = {
    idle_standby: 40,
    busy_standby: 8,
    standby_behind_transaction: 10,
    standby_meets_transactions: 8,
    primary_behind_transaction: 8,
    stands_still: 5,
    stalled: 6,
    cannot_act: 3,
    failover: 3,
    unreachable: 3,
    gives_up: 2,
    switched_off: 2,
    false_alarm: 2,
}
"""Weights."""


def _begin(servers: Servers, node: str, name: str, chance: random.Random) -> Making:
    return Making(name, node, servers.clock(), chance.randint(1000, 9999))


async def _creation(
    world: Simulation, servers: Servers, chance: random.Random, node: str, after: float | None = None
) -> None:
    servers.making = _begin(servers, node, "made", chance)
    name = "PgSlotCreationWaiting" if after is None else "PgSlotCreationBlocked"
    await _until_over(world, servers, name, node, "made", delay=chance.uniform(2, 6) if after is None else after)


async def _until_over(  # noqa: PLR0917
    world: Simulation, servers: Servers, alertname: str, node: str, slot: str, delay: float
) -> None:
    """Have the alert fire while somebody waits, and end as late as one does."""
    began = servers.clock()
    servers.settle()
    await asyncio.sleep(delay)
    servers.settle()
    if not servers.in_need:
        return
    fingerprint = world.post.fire(_labels(servers, alertname, node, slot))
    watch = world.judge.watch(servers, fingerprint)
    while servers.in_need:
        await asyncio.sleep(POLL_INTERVAL_SECONDS)
        servers.settle()
        watch.look()
        if servers.clock() - began > PATIENCE:
            if servers.making is not None:
                servers.making.dropped = True
            break
    watch.over()
    await asyncio.sleep(world.chance.uniform(2, 15))
    world.post.resolve(fingerprint)
    # The end is sent as well before the cluster's next incident begins.
    await asyncio.sleep(90.0)


def _labels(servers: Servers, alertname: str, node: str, slot: str) -> dict[str, str]:
    return {
        "alertname": alertname,
        "cluster": servers.name,
        "node": node,
        "slot_name": slot,
        "heal": "log_standby_snapshot",
        "severity": "warning",
    }
