"""Runs a year: incidents begin one by one, sometimes in fifty clusters at once, until all of them are over."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from tests.simulations.terminations import incidents as blocked
from tests.simulations.terminations.act_statement import ActStatement
from tests.simulations.year.clock import Clock
from tests.simulations.year.incidents import KINDS, idle_standby
from tests.simulations.year.simulation import Simulation, connected_to_model

INCIDENT_INTERVAL_SECONDS = 60.0
"""Seconds from one incident to the next, on average: 20,000 in two weeks."""
STORM_SHARE = 0.0005
STORM_CLUSTERS = 50


AnyIncident = Callable[[Simulation, Any, random.Random], Awaitable[None]]
ALL_KINDS: Mapping[AnyIncident, float] = {**KINDS, **{kind: weight / 4 for kind, weight in blocked.KINDS.items()}}
"""Weights: of an incident in five a transaction is the subject."""


def run(
    clusters: int,
    incidents: int,
    seed: int,
    statement: ActStatement | None = None,
    kinds: Mapping[AnyIncident, float] = KINDS,
) -> tuple[Simulation, float]:
    """
    Run incidents of these kinds, by weight; return the simulation at the end, and the seconds of CPU.

    `statement`: needed for the incidents in which transactions are ended, which are in ALL_KINDS.
    """
    clock = Clock()
    simulation = Simulation(clock, clusters, seed, statement)
    start = time.process_time()
    with connected_to_model(simulation):
        clock.run(_year(simulation, incidents, kinds))
    return simulation, time.process_time() - start


async def _year(simulation: Simulation, incidents: int, weights_by_kind: Mapping[AnyIncident, float]) -> None:
    healing = asyncio.create_task(simulation.heal())
    kinds, weights = list(weights_by_kind), list(weights_by_kind.values())
    started = 0
    running: set[asyncio.Task[None]] = set()
    free = set(simulation.servers)
    while started < incidents:
        await asyncio.sleep(simulation.chance.expovariate(1 / INCIDENT_INTERVAL_SECONDS))
        storm = simulation.chance.random() < STORM_SHARE
        for _ in range(STORM_CLUSTERS if storm else 1):
            if not free:
                break
            kind = idle_standby if storm else simulation.chance.choices(kinds, weights)[0]
            cluster = simulation.chance.choice(sorted(free)) if len(free) < 1000 else _random_cluster(simulation, free)
            free.discard(cluster)
            running.add(task := asyncio.create_task(_run_incident(simulation, cluster, kind, free)))
            task.add_done_callback(running.discard)
            started += 1
    await asyncio.gather(*running)
    healing.cancel()
    await asyncio.gather(healing, return_exceptions=True)
    simulation.termination_judge.compare_reports()
    await simulation.alertmanager.close()


def _random_cluster(simulation: Simulation, free: set[str]) -> str:
    while True:
        cluster = f"c{simulation.chance.randrange(len(simulation.servers))}"
        if cluster in free:
            return cluster


async def _run_incident(simulation: Simulation, cluster: str, kind: AnyIncident, free: set[str]) -> None:
    simulation.judge.kinds[kind.__name__] += 1
    simulation.judge.kind_of[cluster] = kind.__name__
    if kind in blocked.KINDS:
        blocked_cluster = simulation.servers[cluster] = simulation.fresh_blocked(cluster, kind.__name__)
        await kind(simulation, blocked_cluster, blocked_cluster.chance)
    else:
        servers = simulation.servers[cluster] = simulation.fresh(cluster)
        await kind(simulation, servers, servers.chance)
        simulation.judge.calls[kind.__name__] += len(servers.calls)
    free.add(cluster)
