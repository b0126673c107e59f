"""The year: incidents begin one after the other, sometimes in fifty clusters at once, until all of them are over."""

import asyncio
import time

from tests.simulations.year.clock import Clock
from tests.simulations.year.incidents import KINDS, Incident, idle_standby
from tests.simulations.year.simulation import Simulation, instead_of_servers

INCIDENT_INTERVAL_SECONDS = 60.0
"""Seconds from one incident to the next, on average: 20,000 in two weeks."""
STORM_SHARE = 0.0005
STORM_CLUSTERS = 50


def run(clusters: int, incidents: int, seed: int) -> tuple[Simulation, float]:
    """Let them happen; return the world afterwards, and the seconds of CPU that it took."""
    clock = Clock()
    world = Simulation(clock, clusters, seed)
    began = time.process_time()
    with instead_of_servers(world):
        clock.run(_year(world, incidents))
    return world, time.process_time() - began


async def _year(world: Simulation, incidents: int) -> None:
    healing = asyncio.create_task(world.heal())
    kinds, weights = list(KINDS), list(KINDS.values())
    begun = 0
    running: set[asyncio.Task[None]] = set()
    free = set(world.servers)
    while begun < incidents:
        await asyncio.sleep(world.chance.expovariate(1 / INCIDENT_INTERVAL_SECONDS))
        storm = world.chance.random() < STORM_SHARE
        for _ in range(STORM_CLUSTERS if storm else 1):
            if not free:
                break
            kind = idle_standby if storm else world.chance.choices(kinds, weights)[0]
            cluster = world.chance.choice(sorted(free)) if len(free) < 1000 else _any(world, free)
            free.discard(cluster)
            running.add(task := asyncio.create_task(_happens(world, cluster, kind, free)))
            task.add_done_callback(running.discard)
            begun += 1
    await asyncio.gather(*running)
    healing.cancel()
    await asyncio.gather(healing, return_exceptions=True)
    await world.post.close()


def _any(world: Simulation, free: set[str]) -> str:
    while True:
        cluster = f"c{world.chance.randrange(len(world.servers))}"
        if cluster in free:
            return cluster


async def _happens(world: Simulation, cluster: str, kind: Incident, free: set[str]) -> None:
    servers = world.servers[cluster] = world.fresh(cluster)
    world.judge.kinds[kind.__name__] += 1
    world.judge.kind_of[cluster] = kind.__name__
    await kind(world, servers, servers.chance)
    world.judge.calls[kind.__name__] += len(servers.calls)
    free.add(cluster)
