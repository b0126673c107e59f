"""Clocks and counters: actions timed in turn, and the resources that a process has used by /proc."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def alternate(rounds: int, actions: Mapping[str, Callable[[], list[float]]]) -> dict[str, list[float]]:
    """Run the actions in turn, so that other load on the machine affects all of them; return their seconds."""
    durations: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(rounds):
        for name, action in actions.items():
            durations[name] += action()
    return durations


@dataclass(frozen=True)
class ResourceUse:
    """The resources that a process has used so far."""

    cpu_seconds: float
    """User and system."""
    resident_bytes: int


def resource_use(pid: int) -> ResourceUse:
    """Read /proc."""
    fields = Path(f"/proc/{pid}/stat").read_text("ascii").rpartition(")")[2].split()
    resident = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return ResourceUse(sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK"), resident * os.sysconf("SC_PAGE_SIZE"))
