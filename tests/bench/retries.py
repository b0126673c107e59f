"""
The time until a slot is usable whose consumer tries again under the same name.

    python -m tests.bench.retries --rhythm 1 5 12 30 60 300 --trials 5 --alertmanagers 2

Exporter, Prometheus, Alertmanager and healer run with the shipped configuration; only addresses differ. Between two
flushes of its group Alertmanager sends no webhook about an alert that resolves and fires again.
"""

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from tests.support.servers.stack import Stack

MEDIAN, WORST = 6.0, 10.0
"""Targets in seconds, of a first creation and of each later creation."""


@dataclass(frozen=True)
class Rhythm:
    """The trials with one pause between the drop of a slot and the next creation under its name."""

    pause: float
    """Seconds."""
    durations: tuple[float, ...]
    """Seconds from each CREATE_REPLICATION_SLOT to its answer, the first creation excluded."""

    @property
    def median(self) -> float:
        return median(self.durations)

    @property
    def worst(self) -> float:
        return max(self.durations)


def measure(stack: Stack, slot: str, pause: float, trials: int) -> Rhythm:
    """Create the slot, and `trials` times drop it, wait, and create it again; the primary must be quiet."""
    creation_to_usable(stack, slot)
    durations = []
    for _ in range(trials):
        stack.standby.drop_slot(slot)
        time.sleep(pause)
        durations.append(creation_to_usable(stack, slot))
    stack.standby.drop_slot(slot)
    return Rhythm(pause, tuple(durations))


def creation_to_usable(stack: Stack, slot: str) -> float:
    """Return the seconds from the command on the standby to its answer."""
    started = time.monotonic()
    with stack.standby.create_slot(slot) as creator:
        if not creator.wait(360):
            raise RuntimeError(f"expected {slot} within six minutes")
        duration = time.monotonic() - started
    if creator.error is not None:
        raise RuntimeError(f"{slot}: {creator.error}")
    return duration


def run(stack: Stack, pauses: Sequence[float], trials: int) -> Iterator[Rhythm]:
    """Measure each rhythm with a slot of its own."""
    chance = random.Random(22)
    for pause in pauses:
        # Rhythms begin at any point of the intervals of scrapes and evaluations.
        time.sleep(chance.uniform(0, 4))
        yield measure(stack, f"again_{pause:g}".replace(".", "_"), pause, trials)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--rhythm", type=float, nargs="+", default=[1.0, 5.0, 12.0, 30.0, 60.0, 300.0])
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--alertmanagers", type=int, default=1)
    parser.add_argument("--without-api", action="store_true", help="a healer without alertmanager_url")
    given = parser.parse_args()
    settings = {"alertmanager_url": None} if given.without_api else {}
    held = True
    with Stack(as_shipped=True, alertmanagers=given.alertmanagers, healer=settings) as stack:
        stack.start_databases()
        stack.start_exporter()
        stack.start_healer()
        stack.start_monitoring()
        with stack.quiet():
            for rhythm in run(stack, given.rhythm, given.trials):
                held = held and rhythm.median <= MEDIAN and rhythm.worst <= WORST
                shown = " ".join(f"{duration:.1f}" for duration in rhythm.durations)
                print(
                    f"pause {rhythm.pause:g} s: median {rhythm.median:.1f} s, worst {rhythm.worst:.1f} s ({shown})",
                    flush=True,
                )
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
