"""A day on the real stack: executes the steps of the plan under watch, and collects violations."""

import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.simulations.day import final_invariants, terminationlog
from tests.simulations.day.actor import Actor
from tests.simulations.day.day_state import PATIENCE, DayState, pending
from tests.simulations.day.pair import SETTINGS, Pair
from tests.simulations.day.steps import EXPORTER, HEALER, Act, Step
from tests.simulations.day.violation import Violation
from tests.simulations.day.watch import InvariantWatch
from tests.support.blocking_transactions import set_up_roles
from tests.support.servers.binaries import NEWEST
from tests.support.servers.stack import Stack

Log = Callable[[float, str], None]
"""Takes seconds since the day's start, and a text."""


@dataclass
class Day:
    """The result of a day."""

    violations: list[Violation] = field(default_factory=list)
    during: str = ""
    """The current or last step when the first violation was found."""
    taken: list[tuple[float, Step]] = field(default_factory=list)
    left_out: Counter[Act] = field(default_factory=Counter)
    made: int = 0
    """Number of slots that clients have got."""
    calls: int = 0
    ended: int = 0
    """Number of sessions that the healer has ended."""
    longest: float = 0.0
    """The longest time in seconds that a creation has waited for nothing but a record."""
    checks: Counter[str] = field(default_factory=Counter)
    logs: Path | None = None
    """The folder of the logs; None: there was no violation."""


def run(
    steps: Sequence[Step],
    tell: Log = lambda _at, _text: None,
    patience: float = PATIENCE,
    logs: Path | None = None,
    major: int = NEWEST,
) -> Day:
    """
    Run the day; it ends early with the first violation.

    `patience`: see day_state.py. `logs`: the parent of the folder that keeps the logs after a violation; None: the
    system's temporary folder. `major`: PostgreSQL's version, 17 or newer.
    """
    day = Day()
    with (
        Stack(
            major=major,
            thresholds=final_invariants.THRESHOLDS,
            healer=final_invariants.HEALER_SETTINGS,
            end_transactions=final_invariants.END_TRANSACTIONS,
        ) as stack,
        ExitStack() as inner,
    ):
        stack.start_databases(rows=10, **SETTINGS)
        set_up_roles(stack.primary)
        pair = inner.enter_context(Pair(stack))
        state = DayState(pair.leader, patience)
        stack.start_exporter()
        state.healer_began = time.time()
        stack.start_healer()
        stack.start_monitoring()
        actor = Actor(stack, pair, state)
        inner.callback(actor.end)
        try:
            _run_steps(day, steps, tell, _Scene(stack, pair, state, actor))
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
    state: DayState
    actor: Actor


def _run_steps(day: Day, steps: Sequence[Step], tell: Log, scene: _Scene) -> None:
    start = time.monotonic()
    with InvariantWatch(scene.stack, scene.pair, scene.state) as watch:
        for step in steps:
            while time.monotonic() - start < step.at and not _is_over(watch):
                time.sleep(0.02)
            if _is_over(watch):
                break
            elapsed = time.monotonic() - start
            day.during = str(step)
            left_out = scene.actor.take(step)
            tell(elapsed, f"{step}{f' (left out: {left_out})' if left_out else ''}")
            day.taken.append((elapsed, step))
            day.left_out[step.act] += left_out is not None
        # The watch limits the wait of each creation; this deadline is for a day that leaves obstacles.
        deadline = time.monotonic() + 2 * scene.state.patience
        while pending(scene.state) and not _is_over(watch) and time.monotonic() < deadline:
            time.sleep(0.1)
    if watch.broken is not None:
        raise RuntimeError("the watch has broken") from watch.broken
    day.checks, day.longest = watch.checks, scene.state.longest
    day.violations += watch.violations
    for name in pending(scene.state) if not watch.violations else ():
        wait = f"it waits, {', '.join(sorted(scene.state.obstacles(scene.state.creations[name].node)))}"
        day.violations.append(Violation("every slot that can be made is made", f"{name} made at the day's end", wait))
    tell(time.monotonic() - start, "the plan is over")
    day.made = sum(
        creation.statement.done and not creation.statement.error for creation in scene.state.creations.values()
    )
    day.violations += _final_violations(day, scene)


def _final_violations(day: Day, scene: _Scene) -> list[Violation]:
    """Return the violations at the end of the day; some checks need all programs running."""
    violations: list[Violation] = []
    all_running = not day.violations and not scene.state.dead and not scene.state.frozen
    if all_running:
        violations += final_invariants.none_in_creation(scene.pair)
        violations += final_invariants.slots_are_there(scene.pair, scene.state)
        violations += final_invariants.no_alert_is_left(scene.stack)
    if HEALER not in scene.state.dead:
        since = scene.state.healer_began
        violations += final_invariants.calls_are_counted(scene.stack.healer, scene.pair, since)
        violations += final_invariants.terminations_are_counted(scene.stack.healer, scene.pair, since)
    if not scene.state.dead & {EXPORTER, HEALER}:
        violations += final_invariants.programs_end(scene.stack)
        violations += final_invariants.no_session_is_left(scene.pair)
    calls = final_invariants.calls_of(scene.pair)
    day.calls = len(calls)
    violations += final_invariants.judged_calls(calls, scene.state)
    violations += final_invariants.judged_terminations(scene.pair, scene.state)
    day.ended = len(terminationlog.victims(final_invariants.logged_terminations(scene.pair)))
    violations += final_invariants.claims_are_true(scene.stack, scene.pair, scene.state)
    violations += final_invariants.logs_are_clean(scene.stack, scene.pair)
    return violations


def _is_over(watch: InvariantWatch) -> bool:
    return bool(watch.violations) or watch.broken is not None


def _keep(folder: Path, parent: Path | None) -> Path:
    """Copy the logs to a folder that outlives the stack."""
    folder_kept = Path(tempfile.mkdtemp(prefix="pgslot-day-", dir=parent))
    for log in folder.glob("*.log"):
        shutil.copy(log, folder_kept)
    return folder_kept
