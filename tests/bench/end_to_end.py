"""
From CREATE_REPLICATION_SLOT on an idle primary's standby to its answer, by the whole way: exporter, Prometheus,
Alertmanager, healer, all as shipped but for their addresses; and where the seconds go.
"""

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from tests.bench.client import Client
from tests.bench.results import Result
from tests.bench.scale import Scale
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import Stack

THRESHOLD = 2.0
"""Seconds, of PgSlotCreationWaiting."""
PHASES = 4.0
"""Seconds: twice the interval at which is scraped and evaluated, so that a trial begins at any point of it."""
MEDIAN, WORST = 6.0, 10.0
FREED = 1.5
"""Seconds after the commit of the transaction that was in the way."""
STAGES = ("scrape", "rule", "Alertmanager", "healer", "PostgreSQL")


@dataclass(frozen=True)
class Trip:
    """One trial: seconds from the start of the command, stage by stage; their sum is the whole."""

    stages: tuple[float, ...]

    @property
    def whole(self) -> float:
        return sum(self.stages)


def run(scale: Scale) -> Iterator[Result]:
    """A stack of its own; the primary logs no record by itself meanwhile, as an idle one does not."""
    chance = random.Random(13)
    with Stack(as_shipped=True) as stack:
        stack.start_databases()
        stack.start_exporter()
        stack.start_healer()
        stack.start_monitoring()
        healer = Client(stack.healer.port)
        with stack.quiet():
            trips = []
            for number in range(scale.trips):
                time.sleep(chance.uniform(0, PHASES))
                trips.append(_trip(stack, healer, f"way_{number}"))
            freed = [_freed(stack, healer, f"freed_{number}") for number in range(scale.trips // 4 + 1)]
        told = _people(stack)
    wholes = [trip.whole for trip in trips]
    name = "stuck to usable, all as shipped"
    target = f"at most {MEDIAN:g} s"
    yield Result(f"{name}, median of {len(trips)}", median(wholes), "s", target=target, held=median(wholes) <= MEDIAN)
    target = f"at most {WORST:g} s"
    yield Result(f"{name}, worst", max(wholes), "s", target=target, held=max(wholes) <= WORST)
    for index, stage in enumerate(STAGES):
        yield Result(f"{name}: {stage}, median", median(trip.stages[index] for trip in trips), "s")
    yield Result(f"{name}: alerts for people", told, "", target="none", held=told == 0)
    target = f"at most {FREED:g} s"
    name = "commit of what blocked a standby's creation to usable, worst"
    yield Result(f"{name} of {len(freed)}", max(freed), "s", target=target, held=max(freed) <= FREED)


def _trip(stack: Stack, healer: Client, slot: str) -> Trip:
    began = time.time()
    with stack.standby.create_slot(slot) as creator:
        if not creator.wait(120):
            raise RuntimeError(f"expected {slot} within two minutes, found {healer.get('/episodes')!r}")
        usable = time.time()
    if creator.error is not None:
        raise RuntimeError(f"{slot}: {creator.error}")
    scraped = _first(stack, f'pgslot_creation_wait_seconds{{slot_name="{slot}"}}[2m]', THRESHOLD)
    ruled = _first(stack, f'ALERTS{{alertname="PgSlotCreationWaiting",slot_name="{slot}",alertstate="firing"}}[2m]', 0)
    episode = wait_for(lambda: _episode(healer, slot), f"the episode of {slot} has ended")
    [call] = [event["seconds"] for event in episode["timeline"] if "pg_log_standby_snapshot" in event["text"]][:1]
    heard = episode["started_at"]
    stack.standby.drop_slot(slot)
    moments = (began, scraped, ruled, heard, heard + call, usable)
    return Trip(tuple(later - earlier for earlier, later in pairwise(moments)))


def _freed(stack: Stack, healer: Client, slot: str) -> float:
    """Return the seconds from the commit to the usable slot, of a creation that the healer has waited with for long."""
    with stack.primary.hold_transaction() as blocker, stack.standby.create_slot(slot) as creator:
        wait_for(lambda: _called(healer, slot), f"the healer waits with {slot}", 60)
        blocker.commit()
        committed = time.monotonic()
        if not creator.wait(60):
            raise RuntimeError(f"expected {slot} within a minute, found {healer.get('/episodes')!r}")
        took = time.monotonic() - committed
    stack.standby.drop_slot(slot)
    return took


def _first(stack: Stack, samples: str, above: float) -> float:
    """Return the time of the first sample with a value above this."""

    def found() -> list[float]:
        series = stack.prometheus.query(samples)
        return [float(at) for each in series for at, value in each["values"] if float(value) > above]

    return min(wait_for(found, samples))


def _episodes(healer: Client, slot: str) -> list[dict[str, Any]]:
    episodes = json.loads(healer.get("/episodes"))
    return [each for each in episodes if slot in [subject["slot_name"] for subject in each["subjects"]]]


def _episode(healer: Client, slot: str) -> dict[str, Any] | None:
    return next((each for each in _episodes(healer, slot) if each["outcome"] is not None), None)


def _called(healer: Client, slot: str) -> bool:
    return any(each["calls"] for each in _episodes(healer, slot))


def _people(stack: Stack) -> int:
    """Return how many alerts about slots fired that are not for the healer alone."""
    firing = 'ALERTS{alertstate="firing",slot_name!="",audience=""}'
    [counted] = stack.prometheus.query(f"count(count_over_time({firing}[30m])) or vector(0)")
    return int(counted["value"][1])
