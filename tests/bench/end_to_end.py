"""
The time from CREATE_REPLICATION_SLOT on an idle primary's standby to its answer, stage by stage.

Exporter, Prometheus, Alertmanager and healer run with the shipped configuration; only addresses differ.
"""

import json
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import Any

from tests.bench import retries
from tests.bench.client import Client
from tests.bench.results import Result
from tests.bench.retries import MEDIAN, WORST
from tests.bench.scale import Scale
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import Stack

THRESHOLD = 2.0
"""Threshold of PgSlotCreationWaiting, in seconds."""
PHASES = 4.0
"""Seconds: twice the scrape and evaluation interval, so that a trial begins at any point of it."""
FREED = 1.5
"""Target, in seconds after the commit of the blocking transaction."""
STAGES = ("scrape", "rule", "Alertmanager", "healer", "PostgreSQL")


@dataclass(frozen=True)
class Trip:
    """One trial: the seconds of each stage, whose sum is the time from the command to its answer."""

    stages: tuple[float, ...]

    @property
    def total(self) -> float:
        return sum(self.stages)


def run(scale: Scale) -> Iterator[Result]:
    """Measure on a separate stack, whose primary logs no record by itself, like an idle one."""
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
                trips.append(_measure_trip(stack, healer, f"way_{number}"))
            rhythms = [retries.measure(stack, f"again_{pause:g}", pause, scale.retries) for pause in scale.pauses]
            seconds_after_commit = [
                _commit_to_usable(stack, healer, f"freed_{number}") for number in range(scale.trips // 4 + 1)
            ]
        alerts_for_people = _alerts_for_people(stack)
    totals = [trip.total for trip in trips]
    name = "stuck to usable, all as shipped"
    target = f"at most {MEDIAN:g} s"
    yield Result(f"{name}, median of {len(trips)}", median(totals), "s", target=target, held=median(totals) <= MEDIAN)
    target = f"at most {WORST:g} s"
    yield Result(f"{name}, worst", max(totals), "s", target=target, held=max(totals) <= WORST)
    for index, stage in enumerate(STAGES):
        yield Result(f"{name}: {stage}, median", median(trip.stages[index] for trip in trips), "s")
    for rhythm in rhythms:
        again = f"again under its name after {rhythm.pause:g} s, as shipped"
        target, count = f"at most {MEDIAN:g} s", len(rhythm.durations)
        yield Result(f"{again}, median of {count}", rhythm.median, "s", target=target, held=rhythm.median <= MEDIAN)
        target = f"at most {WORST:g} s"
        yield Result(f"{again}, worst", rhythm.worst, "s", target=target, held=rhythm.worst <= WORST)
    yield Result(f"{name}: alerts for people", alerts_for_people, "", target="none", held=alerts_for_people == 0)
    target = f"at most {FREED:g} s"
    name = "commit of what blocked a standby's creation to usable, worst"
    yield Result(
        f"{name} of {len(seconds_after_commit)}",
        max(seconds_after_commit),
        "s",
        target=target,
        held=max(seconds_after_commit) <= FREED,
    )


def _measure_trip(stack: Stack, healer: Client, slot: str) -> Trip:
    started_at = time.time()
    with stack.standby.create_slot(slot) as creator:
        if not creator.wait(120):
            raise RuntimeError(f"expected {slot} within two minutes, found {healer.get('/episodes')!r}")
        usable_at = time.time()
    if creator.error is not None:
        raise RuntimeError(f"{slot}: {creator.error}")
    scraped_at = _first_sample_time(stack, f'pgslot_creation_wait_seconds{{slot_name="{slot}"}}[2m]', THRESHOLD)
    fired_at = _first_sample_time(
        stack, f'ALERTS{{alertname="PgSlotCreationWaiting",slot_name="{slot}",alertstate="firing"}}[2m]', 0
    )
    episode = wait_for(lambda: _ended_episode(healer, slot), f"the episode of {slot} has ended")
    [call] = [event["seconds"] for event in episode["timeline"] if "pg_log_standby_snapshot" in event["text"]][:1]
    received_at = episode["started_at"]
    stack.standby.drop_slot(slot)
    moments = (started_at, scraped_at, fired_at, received_at, received_at + call, usable_at)
    return Trip(tuple(later - earlier for earlier, later in pairwise(moments)))


def _commit_to_usable(stack: Stack, healer: Client, slot: str) -> float:
    """Return the seconds from the commit of a blocking transaction to the usable slot; the healer has called before."""
    with stack.primary.hold_transaction() as blocker, stack.standby.create_slot(slot) as creator:
        wait_for(lambda: _has_called(healer, slot), f"the healer waits with {slot}", 60)
        blocker.commit()
        committed_at = time.monotonic()
        if not creator.wait(60):
            raise RuntimeError(f"expected {slot} within a minute, found {healer.get('/episodes')!r}")
        duration = time.monotonic() - committed_at
    stack.standby.drop_slot(slot)
    return duration


def _first_sample_time(stack: Stack, samples: str, above: float) -> float:
    """Return the time of the first sample with a value above `above`."""

    def times() -> list[float]:
        series = stack.prometheus.query(samples)
        return [float(time) for matrix in series for time, value in matrix["values"] if float(value) > above]

    return min(wait_for(times, samples))


def _episodes(healer: Client, slot: str) -> list[dict[str, Any]]:
    episodes = json.loads(healer.get("/episodes"))
    return [episode for episode in episodes if slot in [subject["slot_name"] for subject in episode["subjects"]]]


def _ended_episode(healer: Client, slot: str) -> dict[str, Any] | None:
    return next((episode for episode in _episodes(healer, slot) if episode["outcome"] is not None), None)


def _has_called(healer: Client, slot: str) -> bool:
    return any(episode["calls"] for episode in _episodes(healer, slot))


def _alerts_for_people(stack: Stack) -> int:
    """Return how many alerts about slots fired that go to people."""
    firing = 'ALERTS{alertstate="firing",slot_name!="",audience=""}'
    [sample] = stack.prometheus.query(f"count(count_over_time({firing}[30m])) or vector(0)")
    return int(sample["value"][1])
