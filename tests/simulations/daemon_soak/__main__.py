"""
Runs both programs under everything at once, and prints what they held: `make soak-daemons`.

It ends with 1 if memory, descriptors, threads, tasks or connections have grown, if an answer was an internal error, if
a log has a traceback, or if a program does not end with 0.
"""

import argparse
import asyncio
import re
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.simulations.daemon_soak.traffic import Traffic
from tests.support.servers.processes import Process, free_port, wait_for
from tests.support.servers.stack import Stack
from tests.support.web_configs import descriptors

_MEASURED = Path(__file__).with_name("measured.py")
WARM_UP = 1 / 3
"""Share of the run after which caches are full: growth counts from there on."""
QUIET_SECONDS = 20.0
"""After the traffic, until connections are closed and episodes have ended."""
MAX_MEMORY_GROWTH = 1.15
MAX_CONNECTIONS = {"pg_slot_exporter": 2, "pg_slot_healer": 4}
"""Sessions on a server at the end: one for each node, of which a healer has two at most, and what is being opened."""
_EXPECTED = re.compile(
    r"reload of a broken file: 500|GET /probe: (200|404)|webhook: (200|400|401|415|503)|.*: 200|[^:]*"
)
"""404: the node has left the configuration; 503: the healer has no budget left. Any other status is a fault."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a program holds at one moment."""

    memory: float
    """Resident, in MB."""
    descriptors: int
    threads: int
    tasks: int


class Daemon:
    """One of the programs, with its measurements."""

    def __init__(self, name: str, config: Path, folder: Path) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{free_port()}"
        self._tasks = folder / f"{name}.tasks"
        arguments = [f"--config.file={config}", f"--web.listen-address={self.url.removeprefix('http://')}"]
        self.process = Process(
            [sys.executable, _MEASURED, self._tasks, name, *arguments, "--web.enable-lifecycle"],
            folder / f"{name}.log",
        )

    def start(self) -> None:
        self.process.start()
        wait_for(self._ready, f"{self.name} is ready", log=self.process.log)

    def _ready(self) -> bool:
        try:
            answered = requests.get(f"{self.url}/-/ready", timeout=5).ok
        except requests.RequestException:
            return False
        return answered and self._tasks.exists() and bool(self._tasks.read_text("ascii"))

    def usage(self) -> Usage:
        pid = self.process.pid
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines())
        return Usage(
            memory=int(status["VmRSS"].split()[0]) / 1000,
            descriptors=descriptors(pid),
            threads=int(status["Threads"]),
            tasks=int(self._tasks.read_text("ascii").split()[-1]),
        )


def main() -> int:
    """Return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulations.daemon_soak", description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=1, help="default %(default)s")
    options = parser.parse_args()
    with Stack() as stack:
        stack.start_databases()
        return asyncio.run(_soak(stack, options.seconds, options.seed))


async def _soak(stack: Stack, seconds: float, seed: int) -> int:
    config = stack.folder / "pgslot.yml"
    daemons = [Daemon(name, config, stack.folder) for name in ("exporter", "healer")]
    traffic = Traffic(stack, stack.folder, daemons[0].url, daemons[1].url, seed)
    for daemon in daemons:
        daemon.start()

    def reload() -> None:
        for daemon in daemons:
            daemon.process.send(signal.SIGHUP)

    usages: dict[str, list[Usage]] = {daemon.name: [daemon.usage()] for daemon in daemons}

    def measure() -> None:
        for daemon in daemons:
            usages[daemon.name].append(daemon.usage())

    await traffic.run(seconds * WARM_UP, reload)
    await asyncio.sleep(QUIET_SECONDS)
    measure()
    await traffic.run(seconds * (1 - WARM_UP), reload)
    await asyncio.sleep(QUIET_SECONDS)
    measure()
    faults = [*_judge_growth(usages), *_judge_counts(traffic), *_judge_connections(stack)]
    for daemon in daemons:
        if (code := daemon.process.stop()) != 0:
            faults.append(f"{daemon.name} ended with {code}")
        faults += _judge_log(daemon)
    print(_table(usages), *sorted(f"{count:>7} {what}" for what, count in traffic.counts.items()), sep="\n")
    print(*(f"FAULT: {fault}" for fault in faults), sep="\n")
    return 1 if faults else 0


def _judge_growth(usages: dict[str, list[Usage]]) -> Iterator[str]:
    for name, (_, warm, end) in usages.items():
        if end.memory > warm.memory * MAX_MEMORY_GROWTH:
            yield f"{name}: memory has grown from {warm.memory:.0f} to {end.memory:.0f} MB"
        for what in ("descriptors", "threads", "tasks"):
            before, after = getattr(warm, what), getattr(end, what)
            if after > before + 2:
                yield f"{name}: {what} have grown from {before} to {after}"


def _judge_counts(traffic: Traffic) -> Iterator[str]:
    for what, count in traffic.counts.items():
        if not _EXPECTED.fullmatch(what):
            yield f"{what}, {count} times"
    for what in ("GET /metrics: 200", "webhook: 200", "reload of a good file: 200", "slots created on the standby"):
        if not traffic.counts[what]:
            yield f"{what}: never"


def _judge_connections(stack: Stack) -> Iterator[str]:
    query = (
        "SELECT application_name, count(*) FROM pg_catalog.pg_stat_activity"
        " WHERE usename LIKE 'pgslot%' GROUP BY application_name"
    )
    for server in (stack.primary, stack.standby):
        for application, count in server.sql(query):
            limit = next((limit for name, limit in MAX_CONNECTIONS.items() if application.startswith(name)), 0)
            if count > limit:
                yield f"{server.name}: {count} sessions of {application}"


def _judge_log(daemon: Daemon) -> Iterator[str]:
    log = daemon.process.log.read_text("utf-8", "replace")
    for what in ("Traceback", "internal error", "level=critical"):
        if what in log:
            line = next(line for line in log.splitlines() if what in line)
            yield f"{daemon.name}'s log has {what!r}: {line[:300]}"


def _table(usages: dict[str, list[Usage]]) -> str:
    lines = ["| | memory, MB | descriptors | threads | tasks |", "| --- | --- | --- | --- | --- |"]
    for name, measured in usages.items():
        values = [
            [f"{usage.memory:.0f}", str(usage.descriptors), str(usage.threads), str(usage.tasks)] for usage in measured
        ]
        lines.append(f"| {name}: start, warm, end | {' | '.join(', '.join(column) for column in zip(*values))} |")  # noqa: B905
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
