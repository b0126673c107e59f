"""A day on the real stack: the plan's steps, taken and watched, and what was found wrong."""

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.simulations.day import final_invariants
from tests.simulations.day.actor import Actor
from tests.simulations.day.day_state import PATIENCE, DayState, pending
from tests.simulations.day.pair import SETTINGS, Pair
from tests.simulations.day.steps import EXPORTER, HEALER, Act, Step
from tests.simulations.day.violation import Violation
from tests.simulations.day.watch import InvariantWatch
from tests.support.servers.binaries import NEWEST
from tests.support.servers.stack import Stack
from tests.support.stories import THRESHOLDS

Log = Callable[[float, str], None]
"""Seconds since the day's begin, and what is told."""


@dataclass
class Day:
    """What came of it."""

    violations: list[Violation] = field(default_factory=list)
    during: str = ""
    """The step that was being taken, or the last one taken, when the first violation was found."""
    taken: list[tuple[float, Step]] = field(default_factory=list)
    left_out: Counter[Act] = field(default_factory=Counter)
    made: int = 0
    """Slots that their clients were given."""
    calls: int = 0
    longest: float = 0.0
    """Seconds that a slot has waited at most with nothing in its way but a record."""
    looked: Counter[str] = field(default_factory=Counter)
    logs: Path | None = None
    """Where they were put, if anything was wrong."""


def run(
    steps: Sequence[Step],
    tell: Log = lambda _at, _text: None,
    patience: float = PATIENCE,
    logs: Path | None = None,
    major: int = NEWEST,
) -> Day:
    """
    Have the day; it ends early with the first violation.

    `patience`: see world.py. `logs`: the folder in which a folder for the logs is made if need be; None: the system's.
    `major`: PostgreSQL's version, 17 or newer.
    """
    day = Day()
    with (
        Stack(major=major, thresholds=THRESHOLDS, healer=final_invariants.HEALER_SETTINGS) as stack,
        ExitStack() as inner,
    ):
        stack.start_databases(rows=10, **SETTINGS)
        pair = inner.enter_context(Pair(stack))
        world = DayState(pair.leader, patience)
        stack.start_exporter()
        world.healer_began = time.time()
        stack.start_healer()
        stack.start_monitoring()
        actor = Actor(stack, pair, world)
        inner.callback(actor.end)
        try:
            _happen(day, steps, tell, _Scene(stack, pair, world, actor))
        except BaseException:
            day.logs = _keep(stack.folder, logs)
            tell(0.0, f"logs are in {day.logs}")
            raise
        if day.violations:
            day.logs = _keep(stack.folder, logs)
    return day


@dataclass(frozen=True)
class _Scene:
    stack: Stack
    pair: Pair
    world: DayState
    actor: Actor


def _happen(day: Day, steps: Sequence[Step], tell: Log, scene: _Scene) -> None:
    began = time.monotonic()
    with InvariantWatch(scene.stack, scene.pair, scene.world) as watch:
        for step in steps:
            while time.monotonic() - began < step.at and not _wrong(watch):
                time.sleep(0.02)
            if _wrong(watch):
                break
            at = time.monotonic() - began
            day.during = str(step)
            left_out = scene.actor.take(step)
            tell(at, f"{step}{f' (left out: {left_out})' if left_out else ''}")
            day.taken.append((at, step))
            day.left_out[step.act] += left_out is not None
        # How long each may wait the watch knows; the rest is for a day that leaves something in their way.
        deadline = time.monotonic() + 2 * scene.world.patience
        while pending(scene.world) and not _wrong(watch) and time.monotonic() < deadline:
            time.sleep(0.1)
    if watch.broken is not None:
        raise RuntimeError("the watch has broken") from watch.broken
    day.looked, day.longest = watch.looked, scene.world.longest
    day.violations += watch.violations
    for name in pending(scene.world) if not watch.violations else ():
        found = f"it waits, {', '.join(sorted(scene.world.in_the_way(scene.world.creations[name].node)))}"
        day.violations.append(Violation("every slot that can be made is made", f"{name} made at the day's end", found))
    tell(time.monotonic() - began, "the plan is over")
    day.made = sum(one.statement.done and not one.statement.error for one in scene.world.creations.values())
    day.violations += _at_the_end(day, scene)


def _at_the_end(day: Day, scene: _Scene) -> list[Violation]:
    """Return what is wrong when it is over; some of it can only be told if all programs are there."""
    found: list[Violation] = []
    alive = not day.violations and not scene.world.dead and not scene.world.frozen
    if alive:
        found += final_invariants.none_in_creation(scene.pair)
        found += final_invariants.slots_are_there(scene.pair, scene.world)
        found += final_invariants.no_alert_is_left(scene.stack)
    if HEALER not in scene.world.dead:
        found += final_invariants.calls_are_counted(scene.stack.healer, scene.pair, scene.world.healer_began)
    if not scene.world.dead & {EXPORTER, HEALER}:
        found += final_invariants.programs_end(scene.stack)
        found += final_invariants.no_session_is_left(scene.pair)
    calls = final_invariants.calls_of(scene.pair)
    day.calls = len(calls)
    found += final_invariants.judged_calls(calls, scene.world)
    found += final_invariants.claims_are_true(scene.stack, scene.world)
    found += final_invariants.logs_are_clean(scene.stack, scene.pair)
    return found


def _wrong(watch: InvariantWatch) -> bool:
    return bool(watch.violations) or watch.broken is not None


def _keep(folder: Path, where: Path | None) -> Path:
    """Copy the logs to where they outlive the stack."""
    kept = Path(tempfile.mkdtemp(prefix="pgslot-day-", dir=where))
    for log in folder.glob("*.log"):
        shutil.copy(log, kept)
    return kept
