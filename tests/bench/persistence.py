"""
The time until a standby's temporary copy of a failover slot becomes persistent: by itself, and with the healer.

`python -m tests.bench.persistence [--major 17 18] [--trials 5] [--bound 90]` takes a quarter of an hour per version,
most of it for the trials without the healer. The primary is idle except for three transactions, which leave the slot
behind the standby's horizon. PostgreSQL's default settings hold, above all bgwriter_delay. Each trial begins at another
point of the background writer's 15 s, because its record would end the wait. The clock starts when the copy is seen to
be temporary; the healer is notified at that moment, without the two minutes of PgSlotNotPersisted.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import count
from pathlib import Path
from statistics import median

from healer.remedies.progress import WELL
from pgslot.diagnosis.failover_readiness import FIRST_MAJOR
from tests.bench import heal
from tests.bench.client import Client
from tests.bench.programs import running
from tests.bench.results import Result, table
from tests.support.failover_slots import copied, create_failover_slot, drop_failover_slots, persistent, synchronising
from tests.support.servers.binaries import NEWEST
from tests.support.servers.processes import wait_for
from tests.support.servers.stack import Stack
from tests.support.servers.workload import streaming_consumer

CYCLE = 15.0
"""Seconds between two records of the background writer while anything is written (LOG_SNAPSHOT_INTERVAL_MS)."""
POLL = 10.0
"""Seconds between two reads of a polling consumer; the first comes right after the last write."""
VARIANTS = ("by itself", "healer")


@dataclass(frozen=True)
class Trial:
    """The result of one copy."""

    seconds: float | None
    """Seconds until it was persistent. None: not within the bound."""
    reads: int
    """Number of reads by a polling consumer within that time."""
    outcome: str | None
    """The outcome of the healer's episode. None: there was none, or it had not ended."""


class Bench:
    """A primary and its standby of one version, and the healer for them."""

    def __init__(self, stack: Stack, healer: Client, bound: float) -> None:
        self._stack = stack
        self._healer = healer
        self._bound = bound
        self._names = (f"f{number}" for number in count())
        self._chance = random.Random(14)

    def trial(self, variant: str, has_consumer: bool, poll: float | None) -> Trial:
        """Let a slot fall behind, let the standby copy it, and measure how long its copy stays temporary."""
        while (result := self._attempt(variant, has_consumer, poll)) is None:
            pass
        return result

    def _attempt(self, variant: str, has_consumer: bool, poll: float | None) -> Trial | None:
        """Return None if a record came before the copy, which was then persistent from the start."""
        slot = next(self._names)
        primary, standby = self._stack.primary, self._stack.standby
        # The background writer has just logged a record; the trial starts at a random point of the 15 s until the next.
        primary.wait_until_idle()
        time.sleep(self._chance.uniform(0, CYCLE))
        with tempfile.TemporaryDirectory(dir=self._stack.folder) as folder:
            try:
                with self._read(slot, Path(folder), has_consumer):
                    for _ in range(3):
                        primary.sql("INSERT INTO orders SELECT coalesce(max(id), 0) + 1, 'more' FROM orders")
                    if not has_consumer:
                        self._poll(slot)
                    primary.wait_until_replayed(standby)
                    with synchronising(standby):
                        wait_for(lambda: copied(standby, slot), f"{slot} is copied", 60)
                        return None if persistent(standby, slot) else self._watch(slot, variant, poll)
            finally:
                drop_failover_slots(primary, standby)

    def _read(self, slot: str, folder: Path, has_consumer: bool) -> AbstractContextManager[object]:
        if has_consumer:
            return streaming_consumer(self._stack.primary, slot, folder, failover=True)
        create_failover_slot(self._stack.primary, slot)
        return nullcontext()

    def _watch(self, slot: str, variant: str, poll: float | None) -> Trial:
        start = time.monotonic()
        if variant == "healer":
            self._healer.post("/alerts", heal.body([heal.alert(slot, alertname="PgSlotNotPersisted")]))
        reads = 0
        duration = None
        while duration is None and time.monotonic() - start < self._bound:
            if poll is not None and time.monotonic() - start >= (reads + 1) * poll:
                self._poll(slot)
                reads += 1
            if persistent(self._stack.standby, slot):
                duration = time.monotonic() - start
            time.sleep(0.1)
        return Trial(duration, reads, None if variant != "healer" else self._outcome(slot, ended=duration is not None))

    def _poll(self, slot: str) -> None:
        self._stack.primary.sql("SELECT count(*) FROM pg_catalog.pg_logical_slot_get_changes(%s, NULL, NULL)", [slot])

    def _outcome(self, slot: str, *, ended: bool) -> str | None:
        def matching_outcome() -> tuple[str | None, ...] | None:
            episodes = json.loads(self._healer.get("/episodes"))
            matching = [
                episode for episode in episodes if slot in [subject["slot_name"] for subject in episode["subjects"]]
            ]
            return (matching[0]["outcome"],) if matching and (matching[0]["outcome"] or not ended) else None

        [outcome] = wait_for(matching_outcome, f"the healer's episode of {slot}")
        if ended and outcome not in WELL:
            raise RuntimeError(f"expected {slot} to be healed or to resolve itself, found {outcome}")
        return outcome


def measure(major: int, trials: int, bound: float) -> Iterator[Result]:
    """Yield the results of one version, both variants in turn."""
    with Stack(major=major) as stack:
        stack.start_databases(bgwriter_delay="'200ms'")
        [(version,)] = stack.primary.sql("SHOW server_version")
        with running(stack, "pg-slot-healer", heal.config(stack, calls_per_hour=100_000)) as healer:
            bench = Bench(stack, Client(healer.port), bound)
            cases: dict[str, Callable[[str], Trial]] = {
                "streaming consumer": partial(bench.trial, has_consumer=True, poll=None),
                f"consumer that polls each {POLL:g} s": partial(bench.trial, has_consumer=False, poll=POLL),
                "consumer that reads no more": partial(bench.trial, has_consumer=False, poll=None),
            }
            for case, run in cases.items():
                trials_by_variant: dict[str, list[Trial]] = {variant: [] for variant in VARIANTS}
                # This case always takes the whole bound and always has the same result, so one trial is enough.
                for _ in range(trials if "no more" not in case else 1):
                    for variant in VARIANTS:
                        trials_by_variant[variant].append(run(variant))
                        print(
                            f"{version} {case}, {variant}: {trials_by_variant[variant][-1]}",
                            file=sys.stderr,
                            flush=True,
                        )
                for variant in VARIANTS:
                    yield from persistence_results(f"{version}, {case}, {variant}", trials_by_variant[variant], bound)


def persistence_results(name: str, trials: list[Trial], bound: float) -> Iterator[Result]:
    """Yield median, minimum and maximum of the times, the count of copies that stayed temporary, and the reads."""
    durations = [trial.seconds for trial in trials if trial.seconds is not None]
    if durations:
        yield Result(f"{name}: median of {len(durations)}", median(durations), "s")
        yield Result(f"{name}: least", min(durations), "s")
        yield Result(f"{name}: most", max(durations), "s")
    yield Result(f"{name}: temporary after {bound:g} s", len(trials) - len(durations), f"of {len(trials)}")
    if any(trial.reads for trial in trials):
        yield Result(f"{name}: reads, median", median(trial.reads for trial in trials), "")
    if any(trial.outcome for trial in trials):
        yield Result(f"{name}: told healed", sum(trial.outcome == "healed" for trial in trials), f"of {len(trials)}")


def main() -> int:
    """Measure; print a table."""
    about = "How soon a failover slot's copy is persistent."
    parser = argparse.ArgumentParser(prog="python -m tests.bench.persistence", description=about)
    parser.add_argument("--major", type=int, nargs="+", default=[FIRST_MAJOR, NEWEST], help="default %(default)s")
    parser.add_argument("--trials", type=int, default=5, help="of each; default %(default)s")
    parser.add_argument("--bound", type=float, default=90.0, help="seconds of a trial; default %(default)s")
    options = parser.parse_args()
    results = [result for major in options.major for result in measure(major, options.trials, options.bound)]
    print(table(results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
