"""Runs a year: incidents begin one by one, sometimes in fifty clusters at once, until all of them are over."""

import asyncio
import time

from tests.simulations.year.clock import Clock
from tests.simulations.year.incidents import KINDS, Incident, idle_standby
from tests.simulations.year.simulation import Simulation, connected_to_model

INCIDENT_INTERVAL_SECONDS = 60.0
"""Seconds from one incident to the next, on average: 20,000 in two weeks."""
STORM_SHARE = 0.0005
STORM_CLUSTERS = 50


def run(clusters: int, incidents: int, seed: int) -> tuple[Simulation, float]:
    """Run the incidents; return the simulation at the end, and the seconds of CPU."""
    clock = Clock()
    simulation = Simulation(clock, clusters, seed)
    start = time.process_time()
    with connected_to_model(simulation):
        clock.run(_year(simulation, incidents))
    return simulation, time.process_time() - start


async def _year(simulation: Simulation, incidents: int) -> None:
    healing = asyncio.create_task(simulation.heal())
    kinds, weights = list(KINDS), list(KINDS.values())
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
    await simulation.alertmanager.close()


def _random_cluster(simulation: Simulation, free: set[str]) -> str:
    while True:
        cluster = f"c{simulation.chance.randrange(len(simulation.servers))}"
        if cluster in free:
            return cluster


async def _run_incident(simulation: Simulation, cluster: str, kind: Incident, free: set[str]) -> None:
    servers = simulation.servers[cluster] = simulation.fresh(cluster)
    simulation.judge.kinds[kind.__name__] += 1
    simulation.judge.kind_of[cluster] = kind.__name__
    await kind(simulation, servers, servers.chance)
    simulation.judge.calls[kind.__name__] += len(servers.calls)
    free.add(cluster)
