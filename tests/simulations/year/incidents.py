"""The kinds of incidents of a year, their frequencies, and the course of each."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace

from tests.simulations.year.servers import NATURAL_RECORD_INTERVAL, ModelCreation, ModelSlot, Servers
from tests.simulations.year.simulation import Simulation
from tests.support.fakes import logical_decoding

MEBIBYTE = 1024 * 1024
POLL_INTERVAL_SECONDS = 5.0
"""Seconds between two evaluations of the alert rules."""
PATIENCE = 3600.0
"""Seconds until a client gives up."""

Incident = Callable[[Simulation, Servers, random.Random], Awaitable[None]]


async def idle_standby(simulation: Simulation, servers: Servers, chance: random.Random) -> None:
    """A creation on a standby lacks a record, and the primary is idle."""
    await _creation(simulation, servers, chance, servers.standby)


async def busy_standby(simulation: Simulation, servers: Servers, chance: random.Random) -> None:
    """The same on a busy primary, which logs a record every 15 s."""
    servers.busy, servers.last_natural_record = True, servers.clock() - chance.uniform(0, NATURAL_RECORD_INTERVAL)
    await _creation(simulation, servers, chance, servers.standby)


async def standby_behind_transaction(simulation: Simulation, servers: Servers, chance: random.Random) -> None:
    """A transaction on the primary blocks the creation, for a minute or for an hour; then a record is missing."""
    servers.hold(chance.expovariate(1 / 240))
    await _creation(simulation, servers, chance, servers.standby)


async def standby_meets_transactions(simulation: Simulation, servers: Servers, chance: random.Random) -> None:
    """Transactions begin and end one after the other during the creation."""

    async def work() -> None:
        for _ in range(chance.randint(1, 8)):
            servers.hold(chance.expovariate(1 / 20))
            await asyncio.sleep(chance.expovariate(1 / 20))

    working = asyncio.create_task(work())
    await _creation(simulation, servers, chance, servers.standby)
    await working


async def primary_behind_transaction(simulation: Simulation, servers: Servers, chance: random.Random) -> None:
    """A transaction blocks a creation on a primary, where no record helps and none is needed."""
    servers.hold(60 + chance.expovariate(1 / 300))
    await _creation(simulation, servers, chance, servers.primary, after=60.0)


async def stands_still(simulation: Simulation, servers: Servers, chance: random.Random) -> None:
    """Replay is paused, delayed, or cut off from the primary: a record would not arrive."""
    conditions = (
        {"replay_pause_state": "paused"},
        {"receiver_running": False, "receiver_status": None},
        {"apply_delay_seconds": 900.0, "startup_wait_event": "RecoveryApplyDelay"},
    )
    condition = chance.choice(conditions)
    servers.stopped_replay, servers.replay_stopped_since = (
        (lambda standby: replace(standby, **condition)),
        servers.clock(),
    )

    async def go_on() -> None:
        await asyncio.sleep(chance.expovariate(1 / 200))
        servers.stopped_replay = None

    going = asyncio.create_task(go_on())
    await _creation(simulation, servers, chance, servers.standby)
    await going


async def stalled(simulation: Simulation, servers: Servers, chance: random.Random) -> None:
    """An existing slot retains WAL, and no record is logged any more."""
    server = logical_decoding.Server(chance.choice((1, 4, 16)) * MEBIBYTE, last_record=60)
    consumer = logical_decoding.Consumer(server, confirms_each=chance.choice((1, 5, 10)))
    servers.existing_slot = ModelSlot("reads", servers.primary, servers.clock(), consumer)
    await asyncio.sleep(chance.uniform(150, 240))
    await _until_over(simulation, servers, "PgSlotStalled", servers.existing_slot.node, "reads", delay=0.0)


async def cannot_act(simulation: Simulation, servers: Servers, chance: random.Random) -> None:
    """The function is missing or not granted, and stays so."""
    if chance.random() < 0.5:
        servers.major = 15
    else:
        servers.may_execute = False
    await _creation(simulation, servers, chance, servers.standby)


async def failover(simulation: Simulation, servers: Servers, chance: random.Random) -> None:
    """The primary fails during a creation, which ends with the promotion of its standby."""
    old = servers.primary

    async def fail() -> None:
        await asyncio.sleep(chance.uniform(0, 20))
        servers.down.add(old)
        await asyncio.sleep(chance.uniform(5, 60))
        servers.primary = servers.standby
        servers.arriving.clear()
        servers.transactions.clear()
        if servers.creation is not None and servers.creation.waits:
            servers.creation.dropped = True
        await asyncio.sleep(chance.uniform(30, 300))
        servers.down.discard(old)
        if chance.random() < 0.5:
            servers.creation = _begin(servers, servers.standby, "again", chance)

    failing = asyncio.create_task(fail())
    await _creation(simulation, servers, chance, servers.standby)
    await failing
    if servers.creation is not None and servers.creation.waits:
        await _until_over(
            simulation, servers, "PgSlotCreationWaiting", servers.creation.node, "again", chance.uniform(2, 6)
        )


async def unreachable(simulation: Simulation, servers: Servers, chance: random.Random) -> None:
    """The primary is unreachable for a while."""
    servers.down.add(servers.primary)

    async def come_back() -> None:
        await asyncio.sleep(chance.uniform(5, 240))
        servers.down.clear()

    coming = asyncio.create_task(come_back())
    await _creation(simulation, servers, chance, servers.standby)
    await coming


async def gives_up(simulation: Simulation, servers: Servers, chance: random.Random) -> None:
    """A client gives up because a transaction does not end; perhaps it tries again at once."""
    servers.hold(PATIENCE)

    async def drop() -> None:
        await asyncio.sleep(chance.uniform(5, 120))
        assert servers.creation is not None
        servers.creation.dropped = True
        if chance.random() < 0.5:
            servers.creation = _begin(servers, servers.standby, servers.creation.name, chance)
            await asyncio.sleep(chance.uniform(5, 60))
            servers.creation.dropped = True

    dropping = asyncio.create_task(drop())
    await _creation(simulation, servers, chance, servers.standby)
    await dropping


async def switched_off(simulation: Simulation, servers: Servers, chance: random.Random) -> None:
    """The cluster's kill switch is thrown, or the alert silenced, during an episode."""
    servers.hold(PATIENCE)
    silence = chance.random() < 0.5

    async def switch() -> None:
        await asyncio.sleep(chance.uniform(8, 60))
        if silence:
            simulation.silence(servers)
            # The healer learns of it at its next request to Alertmanager.
            await asyncio.sleep(6.0)
        else:
            simulation.switch(servers.name, on=False)
        servers.off_since = servers.clock()
        await asyncio.sleep(300.0)
        assert servers.creation is not None
        servers.creation.dropped = True

    switching = asyncio.create_task(switch())
    await _creation(simulation, servers, chance, servers.standby)
    await switching
    simulation.switch(servers.name, on=True)


async def false_alarm(simulation: Simulation, servers: Servers, chance: random.Random) -> None:
    """An alert about a slot that is healthy or does not exist."""
    if chance.random() < 0.7:
        servers.creation = _begin(servers, servers.primary, "well", chance)
    slot = chance.choice(("well", "x"))
    fingerprint = simulation.alertmanager.fire(_labels(servers, "PgSlotCreationStuck", servers.standby, slot))
    await asyncio.sleep(chance.uniform(10, 900))
    simulation.alertmanager.resolve(fingerprint)


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


def _begin(servers: Servers, node: str, name: str, chance: random.Random) -> ModelCreation:
    return ModelCreation(name, node, servers.clock(), chance.randint(1000, 9999))


async def _creation(
    simulation: Simulation, servers: Servers, chance: random.Random, node: str, after: float | None = None
) -> None:
    servers.creation = _begin(servers, node, "made", chance)
    name = "PgSlotCreationWaiting" if after is None else "PgSlotCreationBlocked"
    await _until_over(simulation, servers, name, node, "made", delay=chance.uniform(2, 6) if after is None else after)


async def _until_over(  # noqa: PLR0917
    simulation: Simulation, servers: Servers, alertname: str, node: str, slot: str, delay: float
) -> None:
    """Fire the alert while the slot needs help, and resolve it with the usual delay."""
    start = servers.clock()
    servers.settle()
    await asyncio.sleep(delay)
    servers.settle()
    if not servers.in_need:
        return
    fingerprint = simulation.alertmanager.fire(_labels(servers, alertname, node, slot))
    case = simulation.judge.watch(servers, fingerprint)
    while servers.in_need:
        await asyncio.sleep(POLL_INTERVAL_SECONDS)
        servers.settle()
        case.check()
        if servers.clock() - start > PATIENCE:
            if servers.creation is not None:
                servers.creation.dropped = True
            break
    case.finish()
    await asyncio.sleep(simulation.chance.uniform(2, 15))
    simulation.alertmanager.resolve(fingerprint)
    # The resolved alert is sent before the cluster's next incident begins.
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
